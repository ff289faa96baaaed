// config.json: in, out, and what is refused.
#include <sys/stat.h>

#include "models/huggingface/config.h"
#include "models/huggingface/weights.h"
#include "models/models.h"
#include "tests/models/huggingface_folders.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_huggingface {

namespace fs = std::filesystem;
using huggingface_tests::golden_config, huggingface_tests::message_of, huggingface_tests::with_config;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(HuggingFaceConfig, Qwen3IsRead) {
  EXPECT_EQ(
      config_from_huggingface(golden_config("qwen3-a"), "f"),
      json::parse(R"({"architecture": "qwen3", "vocab": 97, "d": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16,
                            "ff": 56, "rope_base": 1e6, "norm_eps": 1e-6, "bias": false, "tied": false})"));
}

TEST(HuggingFaceConfig, WhatIsWrittenReadsBackTheSame) {
  for (const auto& name : model_names()) {
    const json config = resolve_model(name, json::object());
    EXPECT_EQ(config_from_huggingface(config_to_huggingface(config), "f"), config) << name;
  }
  const json stretched =
      resolve_model("qwen3-nano", {{"tied", true}, {"rope_scaling", {{"factor", 4}, {"attention_factor", 1.5}}}});
  json written = config_to_huggingface(stretched);
  EXPECT_EQ(config_from_huggingface(written, "f"), stretched);
  // Each version of transformers reads its own keys only.
  json v4 = written, v5 = written;
  v4.erase("rope_parameters");
  v5.erase("rope_theta"), v5.erase("rope_scaling");
  EXPECT_EQ(config_from_huggingface(v4, "f"), stretched);
  EXPECT_EQ(config_from_huggingface(v5, "f"), stretched);
}

// The classes of transformers 5 are strict: 24.0 is no integer to them, and 30 no float.
TEST(HuggingFaceConfig, KeysHaveTheTypesThatTransformersDeclares) {
  const char* integers[] = {"vocab_size",
                            "hidden_size",
                            "intermediate_size",
                            "num_hidden_layers",
                            "num_attention_heads",
                            "num_key_value_heads",
                            "head_dim",
                            "sliding_window",
                            "num_experts",
                            "num_local_experts",
                            "num_experts_per_tok",
                            "query_pre_attn_scalar",
                            "eos_token_id",
                            "max_position_embeddings"};
  const char* floats[] = {"rms_norm_eps", "final_logit_softcapping", "clip_qkv", "swiglu_alpha", "swiglu_limit"};
  const json overrides = {{"gemma3", {{"query_scale", 24}, {"softcap", 30}}},
                          {"olmoe", {{"clip_qkv", 5}}},
                          {"gpt_oss", {{"swiglu_limit", 9}, {"swiglu_alpha", 1}}},
                          {"qwen3", {{"norm_eps", 1}}}};
  for (const auto& name : model_names()) {
    for (const json& given : {json(json::object()), overrides.at(name.substr(0, name.find('-')))}) {
      const json written = config_to_huggingface(resolve_model(name, given));
      for (const char* key : integers) {
        const json& value = written.value(key, json());
        EXPECT_TRUE(value.is_null() || value.is_number_integer()) << name << " " << key << " " << value;
      }
      for (const char* key : floats) {
        const json& value = written.value(key, json());
        EXPECT_TRUE(value.is_null() || value.is_number_float()) << name << " " << key << " " << value;
      }
    }
  }
  EXPECT_EQ(config_to_huggingface(resolve_model("gemma3-nano", {{"query_scale", 24}})).at("query_pre_attn_scalar"), 24);
  EXPECT_EQ(config_to_huggingface(resolve_model("gemma3-nano", json::object())).at("query_pre_attn_scalar"), 32);
}

TEST(HuggingFaceConfig, WhatHasNoFormOnDiskIsRefused) {
  const auto refusal = [](const char* name, const json& overrides) -> std::string {
    try {
      config_to_huggingface(resolve_model(name, overrides));
    } catch (const UsageError& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(refusal("gemma3-nano", {{"query_scale", 24.5}}), HasSubstr("query_scale is a whole number; found 24.5"));
  EXPECT_THAT(refusal("gemma3-nano", {{"query_scale", 1e300}}), HasSubstr("found 1e+300"));
  EXPECT_THAT(refusal("gemma3-nano", {{"heads", 3}}), HasSubstr("heads divides d; found d 64, heads 3"));
  EXPECT_THAT(refusal("olmoe-nano", {{"head_dim", 16}}), HasSubstr("found d 64, heads 2, head_dim 16"));
  // The others have no such rule.
  EXPECT_EQ(refusal("qwen3-nano", {{"heads", 6}}), "nothing was thrown");
  EXPECT_EQ(refusal("gpt_oss-nano", {{"heads", 6}}), "nothing was thrown");
}

TEST(HuggingFaceConfig, WarnsOfConstantsThatTransformers4DoesNotRead) {
  for (const auto& name : model_names()) EXPECT_TRUE(export_warnings(resolve_model(name, json::object())).empty()) << name;
  for (const json& given : {json{{"swiglu_alpha", 1.5}}, json{{"swiglu_limit", 6}}}) {
    const auto warnings = export_warnings(resolve_model("gpt_oss-nano", given));
    ASSERT_EQ(warnings.size(), 1);
    EXPECT_THAT(warnings[0], AllOf(HasSubstr("transformers 4"), HasSubstr("1.702"), HasSubstr("use transformers 5")));
  }
}

/// The configuration of `name` after `change`.
json changed(const std::string& name, const char* change) {
  json config = golden_config(name);
  config.merge_patch(json::parse(change));
  return config_from_huggingface(config, "f");
}

TEST(HuggingFaceConfig, LayerPatternsOfEveryAge) {
  // Regular: global_every. Irregular, or without a global layer: the list.
  EXPECT_EQ(changed("gemma3-a", "{}").at("global_every"), 6);
  const char* irregular = R"({"layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention",
                              "sliding_attention", "sliding_attention"]})";
  EXPECT_EQ(changed("gemma3-a", irregular).at("global_layers"), json({0.0, 3.0}));
  const char* none =
      R"({"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention"]})";
  EXPECT_EQ(changed("gpt-oss-a", none).at("global_layers"), json::array());
  // Before layer_types there was a number, and before that the default of 6.
  EXPECT_EQ(changed("gemma3-a", R"({"layer_types": null, "_sliding_window_pattern": null, "sliding_window_pattern": 3})")
                .at("global_every"),
            3);
  EXPECT_EQ(changed("gemma3-a", R"({"layer_types": null, "_sliding_window_pattern": null})").at("global_every"), 6);
  EXPECT_EQ(changed("gpt-oss-a", R"({"layer_types": null})").at("global_every"), 2);
}

TEST(HuggingFaceConfig, AbsentKeysMeanWhatTransformersMakesOfThem) {
  EXPECT_EQ(changed("gemma3-a", R"({"tie_word_embeddings": null})").at("tied"), true);
  EXPECT_EQ(changed("olmoe-a", R"({"tie_word_embeddings": null})").at("tied"), false);
  EXPECT_EQ(changed("qwen3-a", R"({"rope_parameters": null})").at("rope_base"), 1e4);
  const json gemma = changed("gemma3-a", R"({"rope_parameters": null, "query_pre_attn_scalar": null})");
  EXPECT_EQ(gemma.at("rope_base"), 1e6);
  EXPECT_EQ(gemma.at("rope_base_local"), 1e4);
  EXPECT_EQ(gemma.at("query_scale"), 256);
  const json yarn = changed("gpt-oss-a", R"({"rope_parameters": null})");
  EXPECT_EQ(yarn.at("rope_base"), 150000);
  EXPECT_EQ(yarn.at("rope_scaling"), json::parse(R"({"kind": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "original_context": 4096.0, "truncate": false})"));
  EXPECT_EQ(changed("olmoe-a", "{}").at("head_dim"), 8);
}

struct Refusal {
  const char *change, *message;
};

void PrintTo(const Refusal& r, std::ostream* out) { *out << r.change; }

class ConfigRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusal, NamesTheFileTheKeyAndWhatIsAllowed) {
  json config = golden_config("qwen3-a");
  config.merge_patch(json::parse(GetParam().change));
  EXPECT_THAT(message_of([&] { config_from_huggingface(config, "dir/config.json"); }),
              AllOf(HasSubstr("dir/config.json: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigRefusal,
    ::testing::Values(
        Refusal{R"({"model_type": "qwen33"})",
                "unknown model_type 'qwen33'; allowed: qwen3, gemma3_text, olmoe, gpt_oss; did you mean 'qwen3'?"},
        Refusal{R"({"model_type": null})", "'model_type' must be a string, not null"},
        Refusal{R"({"hidden_act": "gelu"})", "'hidden_act' is \"gelu\"; qwen3 is supported only with \"silu\""},
        Refusal{R"({"use_sliding_window": true})", "'use_sliding_window' is true"},
        Refusal{R"({"attention_dropout": 0.1})", "'attention_dropout' is 0.1"},
        Refusal{R"({"layer_types": ["full_attention"]})", "'layer_types' must be a list with one entry a layer"},
        Refusal{R"({"layer_types": ["full_attention", "sliding_attention"]})",
                "layer type \"sliding_attention\" is not supported"},
        Refusal{R"({"hidden_size": null})", "key 'd' is missing"}, Refusal{R"({"hidden_size": "32"})", "'32' is not"},
        Refusal{R"({"rope_parameters": {"rope_theta": "x"}})", "'rope_theta' must be a finite number, not \"x\""},
        Refusal{R"({"rope_parameters": {"rope_type": "longrope"}})", "rope type 'longrope' is not supported"},
        Refusal{R"({"rope_parameters": {"rope_type": "linear"}})", "rope type 'linear' needs 'factor'"},
        Refusal{R"({"rope_parameters": 3})", "must be objects"}));

TEST(HuggingFaceConfig, RefusesAFileThatIsNoJson) {
  const TempFolder folder;
  const fs::path file = folder / "not_json";
  std::ofstream(file) << "{\"a\":";
  EXPECT_THAT(message_of([&] { read_huggingface_config(file); }), HasSubstr("not_json: is not JSON"));
  EXPECT_THAT(message_of([&] { read_huggingface_config(file.string() + "_missing"); }), HasSubstr("cannot be opened"));
  // What walks a document recurses: so many brackets would end the process.
  std::ofstream(file) << R"({"model_type":)" << std::string(200'000, '[') << std::string(200'000, ']') << "}";
  EXPECT_THAT(message_of([&] { read_huggingface_config(file); }), HasSubstr("nested too deeply"));
}

// Opening a pipe waits until somebody writes into it.
TEST(HuggingFaceConfig, RefusesAPipe) {
  const auto folder = with_config("qwen3-a", "{}");
  ASSERT_EQ(::mkfifo((folder / "model.safetensors.index.json").c_str(), 0600), 0);
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }), HasSubstr("index.json: is not a regular file"));
  fs::remove(folder / "config.json");
  ASSERT_EQ(::mkfifo((folder / "config.json").c_str(), 0600), 0);
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }), HasSubstr("config.json: is not a regular file"));
}

}  // namespace test_huggingface
}  // namespace equisweep
