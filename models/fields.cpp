#include "models/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace equisweep {
namespace {

// Beyond every model that has been trained, and so small that a model at all of them at once has fewer than 2^58 weights:
// their number, and their bytes with gradient and states, fit in 64 bits. Each layer is an object of its own as soon as a
// sweep file is read, so their number also bounds what reading a file may cost.
constexpr double kMaxLayers = 4096, kMaxHeads = 4096, kMaxHeadDim = 4096, kMaxExperts = 4096;
constexpr double kMaxWidth = 1 << 16, kMaxFf = 1 << 18, kMaxExpertFf = 1 << 16, kMaxVocabulary = 1 << 24;
constexpr double kMaxWindow = 1 << 30;

Field dimension(const char* name, double max, const char* doc) {
  return {.name = name, .kind = FieldKind::integer, .default_json = "", .doc = doc, .min = 1, .max = max};
}

Field positive(const char* name, double value, const char* doc) {
  return {.name = name,
          .kind = FieldKind::number,
          .default_json = fmt::format("{}", value),
          .doc = doc,
          .min = 0,
          .above_min = true};
}

/// A number that names no layer would change nothing, unseen.
void check_global_layers(const nlohmann::json& config) {
  if (!config.contains("global_layers")) return;
  const auto layers = config.at("layers").get<std::int64_t>();
  std::vector<bool> named(static_cast<std::size_t>(layers));
  for (const nlohmann::json& entry : config.at("global_layers")) {
    const double layer = entry.get<double>();
    const bool there = layer >= 0 && layer < static_cast<double>(layers) && layer == std::floor(layer);
    if (there && !named[static_cast<std::size_t>(layer)]) {
      named[static_cast<std::size_t>(layer)] = true;
      continue;
    }
    throw UsageError(fmt::format("model {}: global_layers names layer {}{}; allowed: each once, of 0 to {}",
                                 config.at("architecture").get<std::string>(), layer,
                                 there ? " twice" : ", which there is not", layers - 1));
  }
}

}  // namespace

namespace field {

Field vocab() { return dimension("vocab", kMaxVocabulary, "tokens in the vocabulary"); }
Field d() { return dimension("d", kMaxWidth, "width of the residual stream"); }
Field layers() { return dimension("layers", kMaxLayers, "transformer blocks"); }
Field heads() { return dimension("heads", kMaxHeads, "query heads"); }
Field kv_heads() { return dimension("kv_heads", kMaxHeads, "key/value heads; divides heads"); }
Field head_dim() { return dimension("head_dim", kMaxHeadDim, "width of a head; even"); }
Field ff() { return dimension("ff", kMaxFf, "intermediate width of the MLP"); }
Field rope_base(double value) { return positive("rope_base", value, "base of the rotary frequencies"); }
Field norm_eps(double value) { return positive("norm_eps", value, "epsilon of RMSNorm, inside the root"); }

Field window() {
  return {.name = "window",
          .kind = FieldKind::integer,
          .default_json = "0",
          .doc = "keys that a query of a sliding layer sees, its own included; 0: every layer is global",
          .min = 0,
          .max = kMaxWindow};
}

Field global_every(std::int64_t value) {
  return {.name = "global_every",
          .kind = FieldKind::integer,
          .default_json = fmt::format("{}", value),
          .doc = "every n-th layer is global, the others slide",
          .min = 1,
          .max = kMaxLayers};
}

Field global_layers() {
  return {.name = "global_layers",
          .kind = FieldKind::number_list,
          .default_json = "null",
          .doc = "the global layers, counted from 0, where they follow no such rule",
          .min = 0,
          .max = kMaxLayers - 1};
}

Field softcap() {
  return {.name = "softcap",
          .kind = FieldKind::number,
          .default_json = "null",
          .doc = "logits become c tanh(z / c)",
          .min = 0,
          .above_min = true};
}

Field experts() { return dimension("experts", kMaxExperts, "experts of a layer"); }
Field top_k() { return dimension("top_k", kMaxExperts, "experts that a token is sent to"); }
Field expert_ff() { return dimension("expert_ff", kMaxExpertFf, "intermediate width of an expert"); }

Field bias(bool value) {
  return {.name = "bias",
          .kind = FieldKind::boolean,
          .default_json = value ? "true" : "false",
          .doc = "biases on the four projections of attention"};
}

Field tied(bool value) {
  return {.name = "tied",
          .kind = FieldKind::boolean,
          .default_json = value ? "true" : "false",
          .doc = "embedding and LM head are one weight (role embedding)"};
}

Field rope_scaling() {
  return {.name = "rope_scaling",
          .kind = FieldKind::map,
          .default_json = "null",
          .doc = "stretches the rotary frequencies to longer contexts",
          .fields = {{.name = "kind",
                      .kind = FieldKind::choice,
                      .default_json = "\"yarn\"",
                      .doc = "linear divides all frequencies by the factor, yarn only the slow ones",
                      .choices = {"linear", "yarn"}},
                     positive("factor", 1, "longer context / original context"),
                     positive("beta_fast", 32, "yarn: turns in the original context above which a frequency stays"),
                     positive("beta_slow", 1, "yarn: turns below which it is divided by the factor"),
                     positive("original_context", 4096, "yarn: positions of the original context"),
                     {.name = "truncate",
                      .kind = FieldKind::boolean,
                      .default_json = "true",
                      .doc = "yarn: round the ends of the ramp to whole dimensions"},
                     {.name = "attention_factor",
                      .kind = FieldKind::number,
                      .default_json = "null",
                      .doc = "yarn: multiplies cos and sin; absent: 0.1 ln(factor) + 1",
                      .min = 0,
                      .above_min = true}}};
}

}  // namespace field

std::optional<RopeScaling> rope_scaling_of(const nlohmann::json& config) {
  if (!config.contains("rope_scaling")) return {};
  const auto& s = config["rope_scaling"];
  RopeScaling r;
  r.kind = s.at("kind") == "linear" ? RopeScaling::Kind::linear : RopeScaling::Kind::yarn;
  r.factor = s.at("factor").get<double>();
  r.beta_fast = s.at("beta_fast").get<double>();
  r.beta_slow = s.at("beta_slow").get<double>();
  r.original_context = s.at("original_context").get<double>();
  r.truncate = s.at("truncate").get<bool>();
  if (s.contains("attention_factor")) r.attention_factor = s["attention_factor"].get<double>();
  return r;
}

bool is_global(const nlohmann::json& config, std::int64_t layer) {
  if (config.at("window") == 0) return true;
  if (!config.contains("global_layers")) return (layer + 1) % config.at("global_every").get<std::int64_t>() == 0;
  const auto& layers = config["global_layers"];
  return std::any_of(layers.begin(), layers.end(), [&](const nlohmann::json& l) { return l == layer; });
}

AttentionShape attention_shape(const nlohmann::json& config) {
  check_global_layers(config);
  AttentionShape s;
  s.d = config.at("d").get<std::int64_t>();
  s.heads = config.at("heads").get<std::int64_t>();
  s.kv_heads = config.at("kv_heads").get<std::int64_t>();
  s.head_dim = config.at("head_dim").get<std::int64_t>();
  const auto architecture = config.at("architecture").get<std::string>();
  if (s.heads % s.kv_heads != 0) {
    throw UsageError(
        fmt::format("model {}: kv_heads must divide heads; found heads {}, kv_heads {}", architecture, s.heads, s.kv_heads));
  }
  if (s.head_dim % 2 != 0) {
    throw UsageError(
        fmt::format("model {}: head_dim must be even (rotary embedding turns pairs); found {}", architecture, s.head_dim));
  }
  s.rope = {s.head_dim, config.at("rope_base").get<double>(), rope_scaling_of(config)};
  s.scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  s.norm_eps = config.at("norm_eps").get<double>();
  s.bias = config.at("bias").get<bool>();
  return s;
}

}  // namespace equisweep
