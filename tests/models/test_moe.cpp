// Mixture of experts against a loop over tokens and their experts, in fp64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "models/blocks/moe.h"
#include "tests/models/finite_differences.h"

namespace equisweep {
namespace test_moe {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed, double scale = 1) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble) * scale;
}

void randomize(Weights& weights) {
  std::uint64_t seed = 1;
  for (auto& p : weights.params()) p.tensor = random(p.tensor.sizes(), seed++, 0.7).requires_grad_(true);
}

struct Case {
  std::int64_t experts, top_k;
  bool clamped;
  Routing routing;
};

class MoeBlock : public ::testing::TestWithParam<Case> {
 protected:
  static MoeShape shape_of(const Case& c) {
    return {.d = 4,
            .experts = c.experts,
            .top_k = c.top_k,
            .expert_ff = 3,
            .routing = c.routing,
            .clamped = c.clamped,
            .alpha = 1.3,
            .limit = 0.8};
  }
  const at::Tensor& weight(const std::string& end) {
    for (auto& p : weights.params()) {
      if (p.name.ends_with(end)) return p.tensor;
    }
    throw std::logic_error("no weight " + end);
  }

  /// One token at a time, from the definition.
  at::Tensor by_loops(const at::Tensor& x_BTD) {
    const Case c = GetParam();
    const at::Tensor x_ND = x_BTD.reshape({-1, 4});
    std::vector<at::Tensor> rows;
    for (std::int64_t n = 0; n < x_ND.size(0); ++n) {
      at::Tensor z = at::mv(weight(c.clamped ? "router.weight" : "gate.weight"), x_ND[n]);
      if (c.clamped) z = z + weight("router.bias");
      const at::Tensor order = z.argsort(-1, true).narrow(0, 0, c.top_k);
      at::Tensor share = c.routing == Routing::top_k_then_softmax ? z.index_select(0, order).softmax(0)
                                                                  : z.softmax(0).index_select(0, order);
      if (c.routing == Routing::softmax_then_top_k_normalized) share = share / share.sum();
      at::Tensor y = at::zeros({4}, at::kDouble);
      for (std::int64_t k = 0; k < c.top_k; ++k) {
        const auto e = order[k].item<std::int64_t>();
        at::Tensor out;
        if (c.clamped) {
          const at::Tensor g = at::mv(weight("gate_up_proj")[e].t(), x_ND[n]) + weight("gate_up_proj_bias")[e];
          const at::Tensor gate = g.slice(0, 0, {}, 2).clamp_max(0.8), up = g.slice(0, 1, {}, 2).clamp(-0.8, 0.8);
          out =
              at::mv(weight("down_proj")[e].t(), (up + 1) * gate / (1 + (-1.3 * gate).exp())) + weight("down_proj_bias")[e];
        } else {
          const at::Tensor g = at::mv(weight("gate_up_proj")[e], x_ND[n]);
          const at::Tensor gate = g.narrow(0, 0, 3), up = g.narrow(0, 3, 3);
          out = at::mv(weight("down_proj")[e], gate / (1 + (-gate).exp()) * up);
        }
        y = y + share[k] * out;
      }
      rows.push_back(y);
    }
    return at::stack(rows).view_as(x_BTD);
  }

  Weights weights{at::kCPU};
  Moe moe{Scope(weights, "m."), shape_of(GetParam())};
  std::vector<at::Tensor> logits;
};

TEST_P(MoeBlock, EqualsTheDefinition) {
  randomize(weights);
  const at::Tensor x = random({2, 5, 4}, 40);
  EXPECT_TRUE(at::allclose(moe(x, logits), by_loops(x), 1e-12, 1e-13));
  ASSERT_EQ(logits.size(), 1U);
  EXPECT_EQ(logits[0].sizes(), (at::IntArrayRef{10, GetParam().experts}));
}

TEST_P(MoeBlock, HasTheGradientOfTheDefinition) {
  randomize(weights);
  at::Tensor x = random({2, 5, 4}, 41).requires_grad_(true);
  const at::Tensor direction = random({2, 5, 4}, 42);
  (by_loops(x) * direction).sum().backward();
  std::vector<at::Tensor> expected = {x.grad()};
  x.mutable_grad() = at::Tensor();
  for (auto& p : weights.params()) {
    expected.push_back(p.tensor.grad().defined() ? p.tensor.grad() : at::zeros_like(p.tensor));
    p.tensor.mutable_grad() = at::Tensor();
  }
  (moe(x, logits) * direction).sum().backward();
  EXPECT_TRUE(at::allclose(x.grad(), expected[0], 1e-11, 1e-12));
  for (std::size_t i = 0; i < weights.params().size(); ++i) {
    EXPECT_TRUE(at::allclose(weights.params()[i].tensor.grad(), expected[i + 1], 1e-11, 1e-12)) << weights.params()[i].name;
  }
}

// bf16 on the CPU pads the rows of each expert; nothing may leak from the padding.
TEST_P(MoeBlock, Bf16IsNearFp64) {
  randomize(weights);
  at::Tensor x = random({3, 50, 4}, 43).to(at::kBFloat16);
  const at::Tensor y = moe(x, logits), exact = moe(x.to(at::kDouble), logits);
  // Tokens whose k-th and next logit are close may be sent elsewhere; the others are compared.
  const auto [sorted, order] = logits[1].sort(-1, true);
  const auto K = GetParam().top_k;
  at::Tensor safe = at::ones({150}, at::kBool);
  if (K < GetParam().experts) safe = (sorted.select(1, K - 1) - sorted.select(1, K)) > 0.1;
  ASSERT_GT(safe.sum().item<std::int64_t>(), 50);
  const at::Tensor error = (y.to(at::kDouble) - exact).view({150, 4}).index({safe}).abs().max();
  EXPECT_LT(error.item<double>(), 0.03 * exact.abs().max().item<double>());
}

INSTANTIATE_TEST_SUITE_P(Kinds, MoeBlock,
                         ::testing::Values(Case{5, 2, false, Routing::softmax_then_top_k},
                                           Case{5, 3, false, Routing::softmax_then_top_k_normalized},
                                           Case{4, 4, false, Routing::softmax_then_top_k},
                                           Case{5, 2, true, Routing::top_k_then_softmax},
                                           Case{40, 1, true, Routing::top_k_then_softmax}));

TEST(GroupedProduct, LeavesExpertsWithoutRowsAlone) {
  const at::Tensor x = random({3, 2}, 50).requires_grad_(true), w = random({4, 5, 2}, 51).requires_grad_(true);
  const std::vector<std::int64_t> begins = {0, 0, 2, 2, 3};
  const at::Tensor y = grouped_product(x, w, begins, false);
  EXPECT_TRUE(at::allclose(y.narrow(0, 0, 2), at::mm(x.narrow(0, 0, 2), w[1].t())));
  EXPECT_TRUE(at::allclose(y.narrow(0, 2, 1), at::mm(x.narrow(0, 2, 1), w[3].t())));
  y.sum().backward();
  EXPECT_TRUE(at::equal(w.grad()[0], at::zeros({5, 2}, at::kDouble)));
  EXPECT_TRUE(at::equal(w.grad()[2], at::zeros({5, 2}, at::kDouble)));
}

TEST(RouterLosses, FollowTheirFormulas) {
  const std::vector<at::Tensor> layers = {random({6, 4}, 60, 2), random({6, 4}, 61, 2)};
  double f[4] = {}, p[4] = {}, z = 0;
  for (const auto& logits : layers) {
    for (std::int64_t n = 0; n < 6; ++n) {
      double row[4], total = 0;
      for (int e = 0; e < 4; ++e) total += row[e] = std::exp(logits[n][e].item<double>());
      z += std::log(total) * std::log(total) / 12;
      for (int e = 0; e < 4; ++e) {
        p[e] += row[e] / total / 12;
        int above = 0;
        for (int other = 0; other < 4; ++other) above += row[other] > row[e] ? 1 : 0;
        f[e] += above < 2 ? 1.0 / 12 : 0;
      }
    }
  }
  double expected = 0;
  for (int e = 0; e < 4; ++e) expected += 4 * f[e] * p[e];
  EXPECT_NEAR(load_balancing_loss(layers, 2).item<double>(), expected, 1e-13);
  EXPECT_NEAR(router_z_loss(layers).item<double>(), z, 1e-12);
  // Where all experts are equally likely the loss is k, whoever is chosen.
  const std::vector<at::Tensor> uniform = {at::zeros({6, 4}, at::kDouble)};
  EXPECT_NEAR(load_balancing_loss(uniform, 3).item<double>(), 3, 1e-14);
}

TEST(MoeBlockErrors, MoreChoicesThanExperts) {
  Weights weights(at::kCPU);
  EXPECT_THROW(Moe(Scope(weights), {.d = 4, .experts = 2, .top_k = 3, .expert_ff = 4}), UsageError);
}

}  // namespace test_moe
}  // namespace equisweep
