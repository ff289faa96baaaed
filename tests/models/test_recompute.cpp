// Recomputation of activations: the same numbers, bit for bit, from a second run of each block.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "models/blocks/moe.h"
#include "models/blocks/recompute.h"
#include "models/models.h"

namespace equisweep {
namespace test_recompute {

struct Case {
  const char* model;
  at::ScalarType compute;
  bool auxiliary;  ///< gradients reach the blocks through the router logits as well
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << (c.compute == at::kFloat ? "" : "_bf16"); }

struct Step {
  double loss;
  std::vector<at::Tensor> gradients, router_logits;
};

Step train_step(const Case& c, bool recompute) {
  const auto model = make_model(resolve_model(c.model, nlohmann::json::object()));
  initialize(*model, 5);
  model->set_compute_dtype(c.compute);
  model->set_recompute(recompute);
  for (auto& p : model->params()) p.tensor.mutable_grad() = at::zeros_like(p.tensor);  // as the Optimizer's banks are
  const at::Tensor tokens =
      at::randint(model->vocabulary(), {3, 41}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{7}), at::kLong);
  const Forward f = model->forward(tokens.narrow(1, 0, 40));
  at::Tensor loss = model->loss(f.hidden_BTD, tokens.narrow(1, 1, 40));
  if (c.auxiliary) {
    const auto k = model->config().at("top_k").get<std::int64_t>();
    loss = loss + 0.3 * load_balancing_loss(f.router_logits_NE, k) + 0.1 * router_z_loss(f.router_logits_NE);
  }
  loss.backward();
  Step step{loss.item<double>(), {}, {}};
  for (const auto& p : model->params()) step.gradients.push_back(p.tensor.grad());
  for (const auto& logits : f.router_logits_NE) step.router_logits.push_back(logits.detach());
  return step;
}

class Recompute : public ::testing::TestWithParam<Case> {};

TEST_P(Recompute, LossAndGradientsAreBitwiseThoseWithout) {
  const Step plain = train_step(GetParam(), false), again = train_step(GetParam(), true);
  EXPECT_EQ(plain.loss, again.loss);
  ASSERT_EQ(plain.gradients.size(), again.gradients.size());
  for (std::size_t i = 0; i < plain.gradients.size(); ++i) {
    EXPECT_TRUE(at::equal(plain.gradients[i], again.gradients[i])) << i;
    EXPECT_GT(again.gradients[i].abs().max().item<double>(), 0) << i;
  }
  ASSERT_EQ(plain.router_logits.size(), again.router_logits.size());
  for (std::size_t i = 0; i < plain.router_logits.size(); ++i)
    EXPECT_TRUE(at::equal(plain.router_logits[i], again.router_logits[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Architectures, Recompute,
                         ::testing::Values(Case{"qwen3-nano", at::kFloat, false}, Case{"qwen3-nano", at::kBFloat16, false},
                                           Case{"gemma3-nano", at::kFloat, false}, Case{"olmoe-nano", at::kFloat, false},
                                           Case{"olmoe-nano", at::kFloat, true}, Case{"gpt_oss-nano", at::kFloat, true},
                                           Case{"gpt_oss-nano", at::kBFloat16, false}));

// x -> tanh(w x) x, by hand: two runs where a gradient is asked for, one where it is not.
TEST(RecomputedBlock, RunsAgainInTheBackwardPassAndNowhereElse) {
  const at::Tensor w = at::full({}, 0.7, at::kDouble).requires_grad_(true), x = at::full({1, 1, 1}, 0.3, at::kDouble);
  int runs = 0;
  const BlockFunction block = [&](const at::Tensor& in, std::vector<at::Tensor>&) {
    ++runs;
    return (w * in).tanh() * in;
  };
  std::vector<at::Tensor> none;
  const at::Tensor input = x.clone().requires_grad_(true);
  const at::Tensor y = recomputed(block, input, none);
  EXPECT_EQ(runs, 1);
  y.sum().backward();
  EXPECT_EQ(runs, 2);
  const double t = std::tanh(0.21), slope = 1 - t * t;
  EXPECT_NEAR(w.grad().item<double>(), slope * 0.09, 1e-15);
  EXPECT_NEAR(input.grad().item<double>(), slope * 0.7 * 0.3 + t, 1e-15);

  const at::NoGradGuard no_grad;
  recomputed(block, input, none);
  EXPECT_EQ(runs, 3);
}

}  // namespace test_recompute
}  // namespace equisweep
