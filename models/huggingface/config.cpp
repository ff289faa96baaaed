#include "models/huggingface/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "core/data/file_io.h"
#include "core/document.h"
#include "core/error.h"
#include "models/fields.h"
#include "models/huggingface/layouts.inc"
#include "models/models.h"

namespace equisweep {
namespace {

using nlohmann::json;

class Reader {
 public:
  Reader(const json& config, std::string file) : config_(config), file_(std::move(file)) {}

  [[noreturn]] void fail(const std::string& message) const { throw DataError(file_, message); }

  bool has(const std::string& key) const { return config_.contains(key); }

  /// The value of `key`, or null where it is absent or null.
  const json& value(const std::string& key) const { return value_in(config_, key); }
  static const json& value_in(const json& object, const std::string& key) {
    static const json null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
  }

  std::optional<double> number_in(const json& object, const std::string& key) const {
    const json& v = value_in(object, key);
    if (v.is_null()) return {};
    if (!v.is_number() || !std::isfinite(v.get<double>())) {
      fail(fmt::format("'{}' must be a finite number, not {}", key, printable(v.dump())));
    }
    return v.get<double>();
  }
  std::optional<double> number(const std::string& key) const { return number_in(config_, key); }

  std::optional<bool> flag_in(const json& object, const std::string& key) const {
    const json& v = value_in(object, key);
    if (v.is_null()) return {};
    if (!v.is_boolean()) fail(fmt::format("'{}' must be true or false, not {}", key, printable(v.dump())));
    return v.get<bool>();
  }

  std::string text(const std::string& key) const {
    const json& v = value(key);
    if (!v.is_string()) fail(fmt::format("'{}' must be a string, not {}", key, printable(v.dump())));
    return v.get<std::string>();
  }

 private:
  const json& config_;
  std::string file_;
};

std::string rope_type(const Reader& reader, const json& rope) {
  for (const char* key : {"rope_type", "type"}) {  // "type" is the older name
    const json& v = Reader::value_in(rope, key);
    if (v.is_string()) return v.get<std::string>();
    if (!v.is_null()) reader.fail(fmt::format("'{}' must be a string, not {}", key, printable(v.dump())));
  }
  return "default";
}

/// YaRN's factor on cos and sin in terms of DeepSeek's two mscale keys, where they stand in the file.
std::optional<double> attention_factor(const Reader& reader, const json& rope, double factor) {
  if (const auto given = reader.number_in(rope, "attention_factor")) return given;
  const auto m = reader.number_in(rope, "mscale"), all = reader.number_in(rope, "mscale_all_dim");
  if (!m || !all || *m == 0 || *all == 0) return {};
  const auto scale = [&](double x) { return factor <= 1 ? 1.0 : 0.1 * x * std::log(factor) + 1; };
  return scale(*m) / scale(*all);
}

/// Our rope_scaling from a rope_parameters or rope_scaling object; null for the plain kind.
json read_scaling(const Reader& reader, const json& rope) {
  if (rope.is_null()) return nullptr;
  if (!rope.is_object()) reader.fail("'rope_parameters' and 'rope_scaling' must be objects");
  const std::string type = rope_type(reader, rope);
  if (type == "default") return nullptr;
  if (type != "linear" && type != "yarn") {
    reader.fail(fmt::format("rope type '{}' is not supported; supported: default, linear, yarn", printable(type)));
  }
  const double context = reader.number("max_position_embeddings").value_or(0);
  auto original = reader.number_in(rope, "original_max_position_embeddings");
  if (!original) original = reader.number("original_max_position_embeddings");
  auto factor = reader.number_in(rope, "factor");
  if (!factor && original) factor = context / *original;
  if (!factor) reader.fail(fmt::format("rope type '{}' needs 'factor'", type));
  json s = {{"kind", type}, {"factor", *factor}};
  if (type == "linear") return s;
  s["beta_fast"] = reader.number_in(rope, "beta_fast").value_or(32);
  s["beta_slow"] = reader.number_in(rope, "beta_slow").value_or(1);
  s["original_context"] = original.value_or(context);
  s["truncate"] = reader.flag_in(rope, "truncate").value_or(true);
  if (const auto a = attention_factor(reader, rope, *factor)) s["attention_factor"] = *a;
  return s;
}

/// rope_theta of `rope` or, failing that, `key` of the file.
std::optional<double> read_base(const Reader& reader, const json& rope, const std::string& key) {
  const auto base = rope.is_object() ? reader.number_in(rope, "rope_theta") : std::nullopt;
  return base ? base : reader.number(key);
}

void set_rope(const Reader& reader, const json& rope, std::optional<double> base, json& config) {
  if (base) config["rope_base"] = *base;
  if (json scaling = read_scaling(reader, rope); !scaling.is_null()) config["rope_scaling"] = std::move(scaling);
}

/// Where the keys of both versions stand, those of version 5 are read.
void read_rope(const Reader& reader, const DiskLayout& layout, json& config) {
  const json& parameters = reader.value("rope_parameters");
  const json& rope = parameters.is_null() ? reader.value("rope_scaling") : parameters;
  if (layout.rope_keys == RopeKeys::one) {
    set_rope(reader, rope, read_base(reader, rope, "rope_theta"), config);
    // gpt-oss without a word about scaling is YaRN; an explicit null is plain to version 4 and YaRN to version 5.
    const bool absent = parameters.is_null() && !reader.has("rope_scaling");
    const bool yarn_null = rope.is_null() && reader.value("transformers_version").is_string() &&
                           reader.text("transformers_version").starts_with("5");
    if (layout.architecture == "gpt_oss" && (absent || yarn_null)) {
      config["rope_scaling"] = {{"kind", "yarn"}, {"factor", 32}, {"original_context", 4096}, {"truncate", false}};
    }
    return;
  }
  const bool nested =
      parameters.is_object() && (parameters.contains("full_attention") || parameters.contains("sliding_attention"));
  const json& full = nested ? Reader::value_in(parameters, "full_attention") : rope;
  const json& local = nested ? Reader::value_in(parameters, "sliding_attention") : reader.value("no such key");
  set_rope(reader, full, read_base(reader, full, "rope_theta"), config);
  if (!read_scaling(reader, local).is_null()) reader.fail("the rope type of sliding layers must be 'default'");
  if (const auto base = read_base(reader, local, "rope_local_base_freq")) config["rope_base_local"] = *base;
}

/// layer_types, or the older sliding_window_pattern, into global_every or, where that says it not, global_layers.
void read_layers(const Reader& reader, const DiskLayout& layout, json& config) {
  const json& types = reader.value("layer_types");
  if (types.is_null()) {
    for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"}) {
      if (layout.sliding && reader.number(key)) {
        config["global_every"] = *reader.number(key);
        return;
      }
    }
    return;
  }
  if (!types.is_array() || static_cast<double>(types.size()) != reader.number("num_hidden_layers").value_or(-1)) {
    reader.fail("'layer_types' must be a list with one entry a layer");
  }
  json global = json::array();
  std::size_t first = types.size();
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "full_attention") {
      first = std::min(first, i);
      global.push_back(i);
    } else if (!layout.sliding || types[i] != "sliding_attention") {
      reader.fail(fmt::format("layer type {} is not supported", printable(types[i].dump())));
    }
  }
  if (!layout.sliding) return;
  bool regular = true;  // global at first, 2 first + 1, ... and nowhere else
  for (std::size_t i = 0; i < types.size(); ++i)
    regular = regular && (types[i] == "full_attention") == ((i + 1) % (first + 1) == 0);
  if (regular && first < types.size()) {
    config["global_every"] = first + 1;
  } else {
    config["global_layers"] = std::move(global);
  }
}

void check_fixed(const Reader& reader, const DiskLayout& layout) {
  for (const auto& [key, allowed] : layout.fixed) {
    const json& found = reader.value(key);
    if (!found.is_null() && found != allowed) {
      reader.fail(fmt::format("'{}' is {}; {} is supported only with {}", key, printable(found.dump()), layout.architecture,
                              allowed.dump()));
    }
  }
}

const DiskLayout& layout_of(const Reader& reader) {
  const std::string found = reader.text("model_type");
  std::vector<std::string> names;
  for (const auto& s : disk_layouts()) {
    if (s.model_type == found) return s;
    names.push_back(s.model_type);
  }
  const auto nearest = nearest_name(found, names);
  reader.fail(fmt::format("unknown model_type '{}'; allowed: {}{}", printable(found), join(names),
                          nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

const DiskLayout& layout_named(const std::string& architecture) {
  for (const auto& s : disk_layouts()) {
    if (s.architecture == architecture) return s;
  }
  throw std::logic_error("an architecture without a layout on disk: " + architecture);
}

json write_scaling(const json& config) {
  if (!config.contains("rope_scaling")) return {{"rope_type", "default"}};
  const json& s = config["rope_scaling"];
  json rope = {{"rope_type", s.at("kind")}, {"factor", s.at("factor")}};
  if (s.at("kind") == "linear") return rope;
  rope["beta_fast"] = s.at("beta_fast");
  rope["beta_slow"] = s.at("beta_slow");
  rope["original_max_position_embeddings"] = s.at("original_context");
  rope["truncate"] = s.at("truncate");
  if (s.contains("attention_factor")) rope["attention_factor"] = s["attention_factor"];
  return rope;
}

void write_rope(const json& config, const DiskLayout& layout, json& out) {
  json rope = write_scaling(config);
  out["rope_theta"] = config.at("rope_base");
  out["rope_scaling"] = rope;
  rope["rope_theta"] = config.at("rope_base");
  if (layout.rope_keys == RopeKeys::one) {
    out["rope_parameters"] = std::move(rope);
    return;
  }
  out["rope_local_base_freq"] = config.at("rope_base_local");
  out["rope_parameters"] = {{"full_attention", std::move(rope)},
                            {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", config.at("rope_base_local")}}}};
}

constexpr double kLargestWhole = 1LL << 53;

double query_scale_of(const json& config) {
  return config.contains("query_scale") ? config["query_scale"].get<double>() : config.at("head_dim").get<double>();
}

/// Refuses what the layout has no place for.
void check_form(const json& config, const DiskLayout& layout) {
  const std::int64_t d = config.at("d"), heads = config.at("heads"), head_dim = config.at("head_dim");
  if (!layout.head_dim_key && heads * head_dim != d) {
    throw UsageError(fmt::format("{} on disk has no head_dim: it is d / heads; found d {}, heads {}, head_dim {}",
                                 layout.architecture, d, heads, head_dim));
  }
  if (layout.architecture != "gemma3") return;
  if (d % heads != 0)
    throw UsageError(
        fmt::format("transformers 5 reads a gemma3 only where heads divides d; found d {}, heads {}", d, heads));
  if (const double scale = query_scale_of(config); scale != std::trunc(scale) || scale > kLargestWhole) {
    throw UsageError(fmt::format("transformers 5 reads a gemma3 only where query_scale is a whole number; found {}",
                                 config["query_scale"].dump()));
  }
}

}  // namespace

json config_from_huggingface(const json& huggingface, const std::string& file) {
  const Reader reader(huggingface, file);
  if (!huggingface.is_object()) reader.fail("is not a JSON object");
  const DiskLayout& layout = layout_of(reader);
  check_fixed(reader, layout);
  json config = {{"architecture", layout.architecture}};
  config.update(layout.absent);
  for (const auto* names : {&kCommonKeys, &layout.renamed}) {
    for (const auto& [ours, theirs] : *names) {
      const json& v = reader.value(theirs);
      if (!v.is_null())
        config[ours] = v;
      else if (reader.has(theirs))
        config.erase(ours);  // null is not absent: it is "none", which is our default
    }
  }
  if (!config.contains("kv_heads") && config.contains("heads")) config["kv_heads"] = config["heads"];
  if (!layout.head_dim_key) {
    const auto d = reader.number("hidden_size").value_or(0), heads = reader.number("num_attention_heads").value_or(1);
    if (heads < 1 || std::fmod(d, heads) != 0) reader.fail("'num_attention_heads' must divide 'hidden_size'");
    config["head_dim"] = d / heads;
  }
  // head_dim is what an absent query_scale means here: equal models have equal configurations.
  if (config.contains("query_scale") && config["query_scale"] == config["head_dim"]) config.erase("query_scale");
  read_rope(reader, layout, config);
  read_layers(reader, layout, config);
  try {
    return complete_config(config);
  } catch (const UsageError& e) {
    reader.fail(e.what());
  }
}

json read_huggingface_config(const std::filesystem::path& file) {
  constexpr std::int64_t kLargestConfig = 1 << 24;
  const auto parsed = document_of(read_text_file(file, kLargestConfig));
  if (!parsed) throw DataError(file.string(), "is not JSON, or is nested too deeply");
  return config_from_huggingface(*parsed, file.string());
}

json config_to_huggingface(const json& config, std::int64_t context) {
  const DiskLayout& layout = layout_named(config.at("architecture").get<std::string>());
  json out = {{"architectures", json::array({layout.class_name})},
              {"model_type", layout.model_type},
              {"dtype", "float32"},
              {"torch_dtype", "float32"},
              {"initializer_range", 0.02},
              {"max_position_embeddings", context},
              {"bos_token_id", nullptr},
              {"eos_token_id", nullptr},
              {"pad_token_id", nullptr},
              {"use_cache", true}};
  for (const auto& [key, value] : layout.fixed) out[key] = value;
  for (const auto* names : {&kCommonKeys, &layout.renamed}) {
    for (const auto& [ours, theirs] : *names) out[theirs] = config.contains(ours) ? config[ours] : json(nullptr);
  }
  check_form(config, layout);
  if (layout.architecture == "gemma3")  // an integer to transformers 5, which refuses the folder for a 24.0
    out["query_pre_attn_scalar"] = static_cast<std::int64_t>(query_scale_of(config));
  if (layout.sliding) {
    json types = json::array();
    for (std::int64_t i = 0; i < config.at("layers").get<std::int64_t>(); ++i)
      types.push_back(is_global(config, i) ? "full_attention" : "sliding_attention");
    out["layer_types"] = std::move(types);
  }
  write_rope(config, layout, out);
  return out;
}

std::vector<std::string> export_warnings(const json& config) {
  // The constants of version 4, where config.json has no keys for them.
  constexpr double kAlpha = 1.702, kLimit = 7;
  if (config.at("architecture") != "gpt_oss" || (config.at("swiglu_alpha") == kAlpha && config.at("swiglu_limit") == kLimit))
    return {};
  return {
      fmt::format("transformers 4 computes another model from it: there swiglu_alpha is always {} and swiglu_limit {}, here "
                  "they are {} and {}; use transformers 5",
                  kAlpha, kLimit, config["swiglu_alpha"].dump(), config["swiglu_limit"].dump())};
}

}  // namespace equisweep
