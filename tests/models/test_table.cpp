// The table of models: sizes, names, overrides, initialisation.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "models/models.h"

namespace equisweep {
namespace test_table {

using nlohmann::json;
using ::testing::HasSubstr;

std::int64_t parameters(const json& config) {
  std::int64_t n = 0;
  for (const auto& p : describe_params(config)) n += p.tensor.numel();
  return n;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(ModelTable, EveryNamedModelResolvesAndHasDistinctWeights) {
  for (const auto& name : model_names()) {
    const auto params = describe_params(resolve_model(name, json::object()));
    std::set<std::string> names;
    for (const auto& p : params) {
      EXPECT_TRUE(names.insert(p.name).second) << name << ": " << p.name << " twice";
      EXPECT_TRUE(p.tensor.is_leaf() && p.tensor.requires_grad()) << p.name;
      if (p.layout.kind != LayoutKind::vector) {
        EXPECT_NO_THROW(view_of(p)) << p.name;
      }
      EXPECT_EQ(p.role == Role::vector, p.layout.kind == LayoutKind::vector) << p.name;
    }
  }
}

TEST(ModelTable, Qwen3DeclaresRolesAndLayouts) {
  const auto params = describe_params(resolve_model("qwen3-nano", {{"layers", 1}}));
  std::map<std::string, std::string> found;
  for (const auto& p : params) {
    std::string text = std::string(name_of(p.role)) + " " + std::string(name_of(p.layout.kind)) + " " +
                       std::to_string(p.layout.heads) + " [";
    for (const auto n : p.tensor.sizes()) text += std::to_string(n) + " ";
    text.back() = ']';
    found[p.name] = text + " " + std::to_string(p.layer);
  }
  const std::string l = "model.layers.0.";
  const std::map<std::string, std::string> expected = {
      {"model.embed_tokens.weight", "embedding matrix 1 [512 64] -1"},
      {"model.norm.weight", "vector vector 1 [64] -1"},
      {"lm_head.weight", "lm_head matrix 1 [512 64] -1"},
      {l + "input_layernorm.weight", "vector vector 1 [64] 0"},
      {l + "self_attn.q_proj.weight", "attention_q heads_rows 4 [128 64] 0"},
      {l + "self_attn.k_proj.weight", "attention_k heads_rows 2 [64 64] 0"},
      {l + "self_attn.v_proj.weight", "attention_v heads_rows 2 [64 64] 0"},
      {l + "self_attn.o_proj.weight", "attention_o heads_columns 4 [64 128] 0"},
      {l + "self_attn.q_norm.weight", "vector vector 1 [32] 0"},
      {l + "self_attn.k_norm.weight", "vector vector 1 [32] 0"},
      {l + "post_attention_layernorm.weight", "vector vector 1 [64] 0"},
      {l + "mlp.gate_proj.weight", "mlp_gate matrix 1 [192 64] 0"},
      {l + "mlp.up_proj.weight", "mlp_up matrix 1 [192 64] 0"},
      {l + "mlp.down_proj.weight", "mlp_down matrix 1 [64 192] 0"},
  };
  EXPECT_EQ(found, expected);
}

TEST(ModelTable, TiedModelHasNoHead) {
  const auto tied = describe_params(resolve_model("qwen3-nano", {{"tied", true}}));
  for (const auto& p : tied) EXPECT_NE(p.role, Role::lm_head);
  EXPECT_EQ(parameters(resolve_model("qwen3-nano", {{"tied", true}})), 188864 - 512 * 64);
}

TEST(ModelTable, OverridesAreLaidOverTheSizeAndStated) {
  const json config = resolve_model("qwen3-nano", {{"d", 96}, {"rope_base", 10000}});
  EXPECT_EQ(config, json::parse(R"({"architecture": "qwen3", "vocab": 512, "d": 96, "layers": 2, "heads": 4, "kv_heads": 2,
    "head_dim": 32, "ff": 192, "rope_base": 10000.0, "norm_eps": 1e-6, "bias": false, "tied": false})"));
  EXPECT_EQ(make_model(config)->config(), config);
  EXPECT_EQ(complete_config(config), config) << "a complete configuration is complete";
}

TEST(ModelTable, RefusesByName) {
  EXPECT_THAT(message_of([] { resolve_model("qwen3-nanno", json::object()); }),
              HasSubstr("unknown model 'qwen3-nanno'; allowed: one of: qwen3-nano, qwen3-tiny"));
  EXPECT_THAT(message_of([] { resolve_model("qwen3-nanno", json::object()); }), HasSubstr("did you mean 'qwen3-nano'?"));
  EXPECT_THAT(message_of([] { resolve_model("qwen3-nano", {{"head", 4}}); }), HasSubstr("did you mean 'heads'?"));
  EXPECT_THAT(message_of([] { resolve_model("qwen3-nano", {{"d", 0}}); }), HasSubstr("d: 0 is out of range"));
  EXPECT_THAT(message_of([] { make_model({{"architecture", "quen3"}}); }), HasSubstr("did you mean 'qwen3'?"));
  EXPECT_EQ(message_of([] {
              make_model(resolve_model("qwen3-nano", {{"kv_heads", 3}}));
            }),
            "model qwen3: kv_heads must divide heads; found heads 4, kv_heads 3");
  EXPECT_EQ(message_of([] {
              make_model(resolve_model("qwen3-nano", {{"head_dim", 7}}));
            }),
            "model qwen3: head_dim must be even (rotary embedding turns pairs); found 7");
}

TEST(Initialize, IsAFunctionOfSeedAndNameAlone) {
  const json config = resolve_model("qwen3-nano", json::object());
  const auto a = make_model(config), b = make_model(config), c = make_model(config);
  const auto deeper = make_model(resolve_model("qwen3-nano", {{"layers", 3}}));
  initialize(*a, 1), initialize(*b, 1), initialize(*c, 2), initialize(*deeper, 1);
  std::map<std::string, at::Tensor> of_deeper;
  for (const auto& p : deeper->params()) of_deeper[p.name] = p.tensor;
  for (std::size_t i = 0; i < a->params().size(); ++i) {
    const auto &p = a->params()[i], &q = c->params()[i];
    EXPECT_TRUE(at::equal(p.tensor, b->params()[i].tensor)) << p.name;
    EXPECT_TRUE(at::equal(p.tensor, of_deeper.at(p.name))) << p.name << " depends on the other weights";
    EXPECT_EQ(at::equal(p.tensor, q.tensor), p.init != Init::normal) << p.name;
  }
}

TEST(Initialize, DrawsMatricesFromNormalAndGainsAreOne) {
  const auto model = make_model(resolve_model("qwen3-nano", json::object()));
  initialize(*model, 7);
  for (const auto& p : model->params()) {
    if (p.role == Role::vector) {
      EXPECT_TRUE(at::equal(p.tensor, at::ones_like(p.tensor))) << p.name;
      continue;
    }
    // Five standard errors of the mean and of the standard deviation.
    const auto n = static_cast<double>(p.tensor.numel());
    EXPECT_NEAR(p.tensor.mean().item<double>(), 0, 5 * 0.02 / std::sqrt(n)) << p.name;
    EXPECT_NEAR(p.tensor.std().item<double>(), 0.02, 5 * 0.02 / std::sqrt(2 * n)) << p.name;
  }
}

TEST(Initialize, StartsNearTheUniformLoss) {
  const auto model = make_model(resolve_model("qwen3-nano", json::object()));
  initialize(*model, 3);
  const auto tokens = at::arange(0, 128, at::kLong).view({2, 64});
  const auto loss = model->loss(model->forward(tokens).hidden_BTD, tokens + 1);
  EXPECT_NEAR(loss.item<double>(), std::log(512.0), 0.1);
}

}  // namespace test_table
}  // namespace equisweep
