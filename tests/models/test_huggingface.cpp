// config.json and model.safetensors: in, out, and what is refused.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/safetensors.h"
#include "models/huggingface/config.h"
#include "models/huggingface/weights.h"
#include "models/models.h"

namespace equisweep {
namespace test_huggingface {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kGolden = fs::path(EQUISWEEP_SOURCE_DIR) / "tests/golden/hf";

json golden_config(const std::string& name) {
  std::ifstream in(kGolden / name / "config.json");
  return json::parse(in);
}

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const DataError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

/// A folder of this test with the tensors of qwen3-a, changed by `change`.
template <class Change>
fs::path changed_copy(const std::string& name, const Change& change) {
  const fs::path folder = fs::path(::testing::TempDir()) / ("huggingface_" + name);
  fs::remove_all(folder);
  fs::create_directories(folder);
  fs::copy_file(kGolden / "qwen3-a/config.json", folder / "config.json");
  const SafetensorsFile file(kGolden / "qwen3-a/model.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& n : file.names()) tensors[n] = file.tensor(n);
  change(tensors);
  write_safetensors(folder / "model.safetensors", std::vector<NamedTensor>(tensors.begin(), tensors.end()));
  return folder;
}

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
  const fs::path file = fs::path(::testing::TempDir()) / "not_json";
  std::ofstream(file) << "{\"a\":";
  EXPECT_THAT(message_of([&] { read_huggingface_config(file); }), HasSubstr("not_json: is not JSON"));
  EXPECT_THAT(message_of([&] { read_huggingface_config(file.string() + "_missing"); }), HasSubstr("cannot be opened"));
}

TEST(HuggingFaceWeights, AreReadAndWrittenBitByBit) {
  const auto model = load_huggingface(kGolden / "qwen3-a");
  const fs::path folder = fs::path(::testing::TempDir()) / "huggingface_saved";
  save_huggingface(*model, folder);
  const SafetensorsFile before(kGolden / "qwen3-a/model.safetensors"), after(folder / "model.safetensors");
  ASSERT_EQ(before.names().size(), after.names().size());
  for (const auto& name : before.names()) EXPECT_TRUE(at::equal(before.tensor(name), after.tensor(name))) << name;
  const auto again = load_huggingface(folder);
  EXPECT_EQ(again->config(), model->config());
}

TEST(HuggingFaceWeights, AllThatDoesNotFitIsListed) {
  const auto folder = changed_copy("misfit", [](auto& tensors) {
    tensors["model.norm.weights"] = tensors.at("model.norm.weight");
    tensors.erase("model.norm.weight");
    tensors["lm_head.weight"] = at::zeros({97, 31});
    tensors["model.layers.0.input_layernorm.weight"] = at::zeros({32}, at::kLong);
  });
  EXPECT_THAT(message_of([&] { load_huggingface(folder); }),
              AllOf(HasSubstr("model.safetensors: does not fit its config.json:"),
                    HasSubstr("'model.norm.weight' 32 is missing; the file has 'model.norm.weights'"),
                    HasSubstr("'model.norm.weights' belongs to no weight of the model"),
                    HasSubstr("'lm_head.weight' is 97 x 31, but config.json makes it 97 x 32"),
                    HasSubstr("'model.layers.0.input_layernorm.weight' holds Long; weights are floating-point numbers")));
}

TEST(HuggingFaceWeights, NanIsNamedAndNothingIsHalfLoaded) {
  const auto folder = changed_copy(
      "nan", [](auto& tensors) { tensors.at("model.norm.weight")[3] = std::numeric_limits<float>::quiet_NaN(); });
  const auto model = make_model(read_huggingface_config(folder / "config.json"));
  initialize(*model, 1);
  const at::Tensor before = model->params()[0].tensor.detach().clone();
  EXPECT_THAT(message_of([&] { load_huggingface_weights(*model, folder); }),
              HasSubstr("'model.norm.weight' has 1 NaN or infinite values of 32"));
  EXPECT_TRUE(at::equal(model->params()[0].tensor, before));
}

TEST(HuggingFaceWeights, ATiedFileMayRepeatTheEmbeddingAsHead) {
  const auto tie = [](const fs::path& folder) {
    json config = golden_config("qwen3-a");
    config["tie_word_embeddings"] = true;
    std::ofstream(folder / "config.json") << config.dump();
  };
  const auto same = changed_copy("tied", [](auto& t) { t["lm_head.weight"] = t.at("model.embed_tokens.weight"); });
  tie(same);
  EXPECT_NO_THROW(load_huggingface(same));
  const auto other = changed_copy("untied", [](auto&) {});
  tie(other);
  EXPECT_THAT(message_of([&] { load_huggingface(other); }),
              HasSubstr("'lm_head.weight' differs from 'model.embed_tokens.weight', although config.json ties them"));
}

TEST(HuggingFaceWeights, ShardsAreJoinedByTheirIndex) {
  const auto folder = changed_copy("sharded", [](auto&) {});
  const SafetensorsFile whole(folder / "model.safetensors");
  std::vector<NamedTensor> first, second;
  json map;
  for (const auto& name : whole.names()) {
    (first.size() <= second.size() ? first : second).emplace_back(name, whole.tensor(name));
    map[name] = first.size() > second.size() ? "model-1.safetensors" : "model-2.safetensors";
  }
  write_safetensors(folder / "model-1.safetensors", first);
  write_safetensors(folder / "model-2.safetensors", second);
  fs::remove(folder / "model.safetensors");
  const auto write_index = [&] {
    std::ofstream(folder / "model.safetensors.index.json") << json{{"weight_map", map}}.dump();
  };
  write_index();
  const auto model = load_huggingface(folder), expected = load_huggingface(kGolden / "qwen3-a");
  for (std::size_t i = 0; i < model->params().size(); ++i) {
    EXPECT_TRUE(at::equal(model->params()[i].tensor, expected->params()[i].tensor));
  }
  map["model.norm.weight"] = "../model-1.safetensors";
  write_index();
  EXPECT_THAT(message_of([&] { load_huggingface(folder); }),
              HasSubstr("'model.norm.weight' must name a file of this folder"));
  map["model.norm.weight"] = "model-1.safetensors";
  map["model.norm.weigth"] = "model-1.safetensors";
  write_index();
  EXPECT_THAT(message_of([&] { load_huggingface(folder); }), HasSubstr("'model.norm.weigth' is not in model-1.safetensors"));
}

}  // namespace test_huggingface
}  // namespace equisweep
