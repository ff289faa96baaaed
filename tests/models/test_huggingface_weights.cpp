// model.safetensors: in, out, and what is refused.
#include <ATen/ATen.h>

#include <limits>
#include <map>

#include "core/safetensors.h"
#include "models/huggingface/config.h"
#include "models/huggingface/weights.h"
#include "models/models.h"
#include "tests/models/allocations.inc"
#include "tests/models/huggingface_folders.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_huggingface_weights {

namespace fs = std::filesystem;
using huggingface_tests::golden_config, huggingface_tests::kGolden, huggingface_tests::message_of,
    huggingface_tests::with_config;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// The tensors of qwen3-a, changed by `change`.
template <class Change>
TempFolder changed_copy(const Change& change) {
  TempFolder folder;
  fs::copy_file(kGolden / "qwen3-a/config.json", folder / "config.json");
  const SafetensorsFile file(kGolden / "qwen3-a/model.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& n : file.names()) tensors[n] = file.tensor(n);
  change(tensors);
  write_safetensors(folder / "model.safetensors", std::vector<NamedTensor>(tensors.begin(), tensors.end()));
  return folder;
}

TEST(HuggingFaceWeights, AreReadAndWrittenBitByBit) {
  const auto model = load_huggingface(kGolden / "qwen3-a");
  const TempFolder folder;
  save_huggingface(*model, folder.path());
  const SafetensorsFile before(kGolden / "qwen3-a/model.safetensors"), after(folder / "model.safetensors");
  ASSERT_EQ(before.names().size(), after.names().size());
  for (const auto& name : before.names()) EXPECT_TRUE(at::equal(before.tensor(name), after.tensor(name))) << name;
  const auto again = load_huggingface(folder.path());
  EXPECT_EQ(again->config(), model->config());
}

TEST(HuggingFaceWeights, AllThatDoesNotFitIsListed) {
  const auto folder = changed_copy([](auto& tensors) {
    tensors["model.norm.weights"] = tensors.at("model.norm.weight");
    tensors.erase("model.norm.weight");
    tensors["lm_head.weight"] = at::zeros({97, 31});
    tensors["model.layers.0.input_layernorm.weight"] = at::zeros({32}, at::kLong);
  });
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }),
              AllOf(HasSubstr("model.safetensors: does not fit its config.json:"),
                    HasSubstr("'model.norm.weight' 32 is missing; the file has 'model.norm.weights'"),
                    HasSubstr("'model.norm.weights' belongs to no weight of the model"),
                    HasSubstr("'lm_head.weight' is 97 x 31, but config.json makes it 97 x 32"),
                    HasSubstr("'model.layers.0.input_layernorm.weight' holds Long; weights are read from")));
}

TEST(HuggingFaceWeights, DtypesThatHoldNoWeightsAreRefused) {
  for (const auto dtype : {at::kFloat8_e4m3fn, at::kFloat8_e5m2, at::kByte}) {
    const auto folder = changed_copy([&](auto& t) { t["model.norm.weight"] = t.at("model.norm.weight").to(dtype); });
    EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }),
                AllOf(HasSubstr("model.safetensors: does not fit"), HasSubstr("'model.norm.weight' holds "),
                      HasSubstr("weights are read from F64, F32, F16 and BF16")));
  }
  for (const auto dtype : {at::kDouble, at::kHalf, at::kBFloat16}) {
    const auto folder = changed_copy([&](auto& t) { t["model.norm.weight"] = t.at("model.norm.weight").to(dtype); });
    EXPECT_NO_THROW(load_huggingface(folder.path())) << dtype;
  }
}

TEST(HuggingFaceWeights, OfAHundredComplaintsTheRestIsCounted) {
  const auto folder = changed_copy([](auto& tensors) {
    for (int i = 0; i < 130; ++i) tensors[std::to_string(i)] = at::zeros({1});
  });
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }),
              AllOf(HasSubstr("'0' belongs to no weight"), ::testing::EndsWith("\n  and 30 more")));
}

struct Claim {
  const char *base, *patch, *file, *message;
};

void PrintTo(const Claim& c, std::ostream* out) { *out << c.base << " " << c.patch; }

class ClaimedSize : public ::testing::TestWithParam<Claim> {};

// A line of config.json costs nothing to write.
TEST_P(ClaimedSize, IsRefusedBeforeAnythingIsAllocated) {
  const auto [base, patch, file, message] = GetParam();
  const auto folder = with_config(base, patch);
  std::string refusal;
  const auto allocated = Allocations::of([&] { refusal = message_of([&] { load_huggingface(folder.path()); }); });
  EXPECT_THAT(refusal, AllOf(HasSubstr((folder / file).string() + ": "), HasSubstr(message)));
  EXPECT_TRUE(allocated.empty()) << allocated.size() << " tensors";
}

INSTANTIATE_TEST_SUITE_P(
    Table, ClaimedSize,
    ::testing::Values(Claim{"qwen3-a", R"({"num_hidden_layers": 1000000000, "layer_types": null})", "config.json",
                            "layers: 1000000000 is out of range"},
                      Claim{"qwen3-a", R"({"num_hidden_layers": 4096, "layer_types": null})", "model.safetensors",
                            "'model.layers.10.input_layernorm.weight' 32 is missing"},
                      Claim{"qwen3-a", R"({"hidden_size": 65536})", "model.safetensors",
                            "'model.embed_tokens.weight' is 97 x 32, but config.json makes it 97 x 65536"},
                      Claim{"qwen3-a", R"({"hidden_size": 65536, "vocab_size": 16777216})", "model.safetensors",
                            "16777216 x 65536"},
                      Claim{"qwen3-a", R"({"num_attention_heads": 4096, "head_dim": 4096})", "model.safetensors",
                            "makes it 16777216 x 32"},
                      Claim{"qwen3-a", R"({"num_key_value_heads": 3})", "config.json", "kv_heads must divide heads"},
                      Claim{"olmoe-a", R"({"num_hidden_layers": 4096, "num_experts": 4096, "layer_types": null})",
                            "config.json", "'num_experts' is 4096, so that the weights are 503"},
                      Claim{"gpt-oss-a", R"({"num_local_experts": 4096})", "model.safetensors", "makes it 4096 x "}));

TEST(HuggingFaceWeights, NanIsNamedAndNothingIsHalfLoaded) {
  const auto folder =
      changed_copy([](auto& tensors) { tensors.at("model.norm.weight")[3] = std::numeric_limits<float>::quiet_NaN(); });
  const auto model = make_model(read_huggingface_config(folder / "config.json"));
  initialize(*model, 1);
  const at::Tensor before = model->params()[0].tensor.detach().clone();
  EXPECT_THAT(message_of([&] { load_huggingface_weights(*model, folder.path()); }),
              HasSubstr("'model.norm.weight' has 1 NaN or infinite values of 32"));
  EXPECT_TRUE(at::equal(model->params()[0].tensor, before));
}

TEST(HuggingFaceWeights, ATiedFileMayRepeatTheEmbeddingAsHead) {
  const auto tie = [](const TempFolder& folder) {
    json config = golden_config("qwen3-a");
    config["tie_word_embeddings"] = true;
    std::ofstream(folder / "config.json") << config.dump();
  };
  const auto same = changed_copy([](auto& t) { t["lm_head.weight"] = t.at("model.embed_tokens.weight"); });
  tie(same);
  EXPECT_NO_THROW(load_huggingface(same.path()));
  // In another dtype, too, if that holds the same numbers.
  const auto narrow = changed_copy([](auto& t) {
    t["lm_head.weight"] = t.at("model.embed_tokens.weight").to(at::kBFloat16);
    t["model.embed_tokens.weight"] = t.at("lm_head.weight").to(at::kFloat);
  });
  tie(narrow);
  EXPECT_NO_THROW(load_huggingface(narrow.path()));
  const auto other = changed_copy([](auto&) {});
  tie(other);
  EXPECT_THAT(message_of([&] { load_huggingface(other.path()); }),
              HasSubstr("'lm_head.weight' differs from 'model.embed_tokens.weight', although config.json ties them"));
}

TEST(HuggingFaceWeights, ShardsAreJoinedByTheirIndex) {
  const auto folder = changed_copy([](auto&) {});
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
  const auto model = load_huggingface(folder.path()), expected = load_huggingface(kGolden / "qwen3-a");
  for (std::size_t i = 0; i < model->params().size(); ++i) {
    EXPECT_TRUE(at::equal(model->params()[i].tensor, expected->params()[i].tensor));
  }
  map["model.norm.weight"] = "../model-1.safetensors";
  write_index();
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }),
              HasSubstr("'model.norm.weight' must name a file of this folder"));
  map["model.norm.weight"] = "model-1.safetensors";
  map["model.norm.weigth"] = "model-1.safetensors";
  write_index();
  EXPECT_THAT(message_of([&] { load_huggingface(folder.path()); }),
              HasSubstr("'model.norm.weigth' is not in model-1.safetensors"));
}

}  // namespace test_huggingface_weights
}  // namespace equisweep
