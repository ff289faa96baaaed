#include "models/huggingface/config.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "models/models.h"

namespace equisweep {
namespace {

using nlohmann::json;

/// One architecture on disk: names that are only renamed, and what the keys that stand for fixed behaviour must say.
struct Style {
  std::string architecture, model_type, class_name;
  std::vector<std::pair<std::string, std::string>> renamed;  ///< our field, their key; absent keys take our default
  std::vector<std::pair<std::string, json>> fixed;           ///< keys that may be absent, but not say anything else
  bool tied_if_absent = false;
};

const std::vector<Style>& styles() {
  static const std::vector<Style> table = {
      {.architecture = "qwen3",
       .model_type = "qwen3",
       .class_name = "Qwen3ForCausalLM",
       .renamed = {{"vocab", "vocab_size"},
                   {"d", "hidden_size"},
                   {"layers", "num_hidden_layers"},
                   {"heads", "num_attention_heads"},
                   {"kv_heads", "num_key_value_heads"},
                   {"head_dim", "head_dim"},
                   {"ff", "intermediate_size"},
                   {"norm_eps", "rms_norm_eps"},
                   {"bias", "attention_bias"},
                   {"tied", "tie_word_embeddings"}},
       .fixed = {{"hidden_act", "silu"}, {"use_sliding_window", false}, {"attention_dropout", 0.0}}},
  };
  return table;
}

class Reader {
 public:
  Reader(const json& config, std::string file) : config_(config), file_(std::move(file)) {}

  [[noreturn]] void fail(const std::string& message) const { throw DataError(file_, message); }

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

void read_rope(const Reader& reader, json& config) {
  const json& parameters = reader.value("rope_parameters");  // version 5; where both stand, it is the one to read
  const json& rope = parameters.is_null() ? reader.value("rope_scaling") : parameters;
  auto base = reader.number_in(rope.is_object() ? rope : json::object(), "rope_theta");
  if (!base) base = reader.number("rope_theta");
  config["rope_base"] = base.value_or(10000);
  if (json scaling = read_scaling(reader, rope); !scaling.is_null()) config["rope_scaling"] = std::move(scaling);
}

void check_fixed(const Reader& reader, const Style& style) {
  for (const auto& [key, allowed] : style.fixed) {
    const json& found = reader.value(key);
    if (!found.is_null() && found != allowed) {
      reader.fail(fmt::format("'{}' is {}; {} is supported only with {}", key, printable(found.dump()), style.architecture,
                              allowed.dump()));
    }
  }
}

const Style& style_of(const Reader& reader) {
  const std::string found = reader.text("model_type");
  std::vector<std::string> names;
  for (const auto& s : styles()) {
    if (s.model_type == found) return s;
    names.push_back(s.model_type);
  }
  const auto nearest = nearest_name(found, names);
  reader.fail(fmt::format("unknown model_type '{}'; allowed: {}{}", printable(found), join(names),
                          nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

const Style& style_named(const std::string& architecture) {
  for (const auto& s : styles()) {
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

}  // namespace

json config_from_huggingface(const json& huggingface, const std::string& file) {
  const Reader reader(huggingface, file);
  if (!huggingface.is_object()) reader.fail("is not a JSON object");
  const Style& style = style_of(reader);
  check_fixed(reader, style);
  json config = {{"architecture", style.architecture}, {"tied", style.tied_if_absent}};
  for (const auto& [ours, theirs] : style.renamed) {
    if (const json& v = reader.value(theirs); !v.is_null()) config[ours] = v;
  }
  read_rope(reader, config);
  for (const json& type : reader.value("layer_types").is_array() ? reader.value("layer_types") : json::array()) {
    if (type != "full_attention") reader.fail(fmt::format("layer type {} is not supported", printable(type.dump())));
  }
  try {
    return complete_config(config);
  } catch (const UsageError& e) {
    reader.fail(e.what());
  }
}

json read_huggingface_config(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw DataError(file.string(), "cannot be opened");
  try {
    return config_from_huggingface(json::parse(in), file.string());
  } catch (const json::exception& e) {
    throw DataError(file.string(), fmt::format("is not JSON: {}", printable(e.what())));
  }
}

json config_to_huggingface(const json& config, std::int64_t context) {
  const Style& style = style_named(config.at("architecture").get<std::string>());
  json out = {{"architectures", json::array({style.class_name})},
              {"model_type", style.model_type},
              {"dtype", "float32"},
              {"torch_dtype", "float32"},
              {"initializer_range", 0.02},
              {"max_position_embeddings", context},
              {"bos_token_id", nullptr},
              {"eos_token_id", nullptr},
              {"pad_token_id", nullptr},
              {"use_cache", true}};
  for (const auto& [key, value] : style.fixed) out[key] = value;
  for (const auto& [ours, theirs] : style.renamed) {
    if (config.contains(ours)) out[theirs] = config[ours];
  }
  json rope = write_scaling(config);
  out["rope_theta"] = config.at("rope_base");
  out["rope_scaling"] = rope;
  rope["rope_theta"] = config.at("rope_base");
  out["rope_parameters"] = std::move(rope);
  return out;
}

}  // namespace equisweep
