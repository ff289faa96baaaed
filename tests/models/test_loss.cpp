// Chunked cross entropy against the plain formula.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/blocks/loss.h"
#include "tests/models/allocations.inc"
#include "tests/models/compare_kernels.inc"
#include "tests/models/finite_differences.h"

namespace equisweep {
namespace test_loss {

using fused_tests::normal;

/// What evaluation does costs no more than if there were no weights to train: the gradients are not even allocated.
void expect_no_work_for_gradients(const at::Tensor& h, const at::Tensor& w, const at::Tensor& targets, double softcap,
                                  std::int64_t chunk) {
  const at::Tensor h_leaf = h.detach().requires_grad_(true), w_leaf = w.detach().requires_grad_(true);
  const at::Tensor trained = cross_entropy(h_leaf, w_leaf, targets, softcap, chunk);
  const at::NoGradGuard no_grad;
  at::Tensor plain, evaluated;
  const auto needed = Allocations::of([&] { plain = cross_entropy(h, w, targets, softcap, chunk); });
  const auto used = Allocations::of([&] { evaluated = cross_entropy(h_leaf, w_leaf, targets, softcap, chunk); });
  ASSERT_FALSE(needed.empty());
  EXPECT_EQ(used, needed);
  EXPECT_TRUE(at::equal(evaluated, plain));
  EXPECT_TRUE(at::equal(evaluated, trained));
  EXPECT_FALSE(evaluated.requires_grad());
}

struct Case {
  std::int64_t N, V, chunk;
  double softcap;
};

class CrossEntropy : public ::testing::TestWithParam<Case> {
 protected:
  Case c = GetParam();
  at::Tensor hidden = normal({c.N, 5}, 1), head = normal({c.V, 5}, 2);
  at::Tensor targets = at::arange(c.N, at::kLong).mul(7).remainder(c.V);

  at::Tensor plain(const at::Tensor& h, const at::Tensor& w) const {
    at::Tensor z = at::matmul(h, w.t());
    if (c.softcap > 0) z = c.softcap * at::tanh(z / c.softcap);
    return (at::logsumexp(z, {1}) - z.gather(1, targets.unsqueeze(1)).squeeze(1)).mean();
  }
};

TEST_P(CrossEntropy, EqualsThePlainFormula) {
  hidden.requires_grad_(true), head.requires_grad_(true);
  const at::Tensor expected = plain(hidden, head);
  expected.backward();
  const at::Tensor dhidden = hidden.grad().clone(), dhead = head.grad().clone();
  hidden.mutable_grad() = at::Tensor(), head.mutable_grad() = at::Tensor();
  const at::Tensor loss = cross_entropy(hidden, head, targets, c.softcap, c.chunk);
  EXPECT_EQ(loss.dim(), 0);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-13);
  (3 * loss).backward();
  EXPECT_TRUE(at::allclose(hidden.grad(), 3 * dhidden, 1e-12, 1e-14));
  EXPECT_TRUE(at::allclose(head.grad(), 3 * dhead, 1e-12, 1e-14));
}

TEST_P(CrossEntropy, HasTheGradientOfItsValue) {
  hidden.requires_grad_(true), head.requires_grad_(true);
  const std::vector<at::Tensor> inputs = {hidden, head};
  EXPECT_LT(worst_gradient_error([&] { return cross_entropy(hidden, head, targets, c.softcap, c.chunk); }, inputs), 1e-8);
}

TEST_P(CrossEntropy, NeedsNoGradient) {
  const at::NoGradGuard no_grad;
  EXPECT_NEAR(cross_entropy(hidden, head, targets, c.softcap, c.chunk).item<double>(), plain(hidden, head).item<double>(),
              1e-13);
}

TEST_P(CrossEntropy, GivesTheHiddenGradientAloneWhereTheHeadIsFixed) {
  hidden.requires_grad_(true);
  cross_entropy(hidden, head, targets, c.softcap, c.chunk).backward();
  const at::Tensor ours = hidden.grad().clone();
  hidden.mutable_grad() = at::Tensor();
  plain(hidden, head).backward();
  EXPECT_TRUE(at::allclose(ours, hidden.grad(), 1e-12, 1e-14));
  EXPECT_FALSE(head.grad().defined());
}

TEST_P(CrossEntropy, Bf16ProductsKeepAnFp32Loss) {
  const at::Tensor loss = cross_entropy(hidden.to(at::kBFloat16), head.to(at::kFloat), targets, c.softcap, c.chunk);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(loss.item<double>(), plain(hidden, head).item<double>(), 0.02);  // logits of size 5, rounded by 2^-9
}

TEST_P(CrossEntropy, DoesNoWorkForGradientsWhereNobodyWantsThem) {
  expect_no_work_for_gradients(hidden, head, targets, c.softcap, c.chunk);
  expect_no_work_for_gradients(hidden.to(at::kBFloat16), head.to(at::kFloat), targets, c.softcap, c.chunk);
  const fused_tests::WithKernels plain(Kernels::reference);
  expect_no_work_for_gradients(hidden, head, targets, c.softcap, c.chunk);
}

// Sizes that the packed products serve.
TEST(CrossEntropyOnTiles, DoesNoWorkForGradientsWhereNobodyWantsThem) {
  const at::Tensor h = normal({70, 64}, 3).to(at::kFloat), w = normal({96, 64}, 4).to(at::kFloat);
  const at::Tensor targets = at::arange(70, at::kLong);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) expect_no_work_for_gradients(h.to(dtype), w, targets, 0, 40);
}

INSTANTIATE_TEST_SUITE_P(Chunks, CrossEntropy,
                         ::testing::Values(Case{12, 7, 0, 0}, Case{12, 7, 12, 0}, Case{12, 7, 5, 0}, Case{12, 7, 1, 0},
                                           Case{11, 9, 4, 2.5}, Case{11, 9, 100, 2.5}, Case{1, 2, 1, 0}));

TEST(HeadLogits, AreSoftcapped) {
  const at::Tensor h = at::ones({1, 1}, at::kDouble), head = at::tensor({-1e3, 0.0, 1.0, 1e3}, at::kDouble).view({4, 1});
  const at::Tensor z = head_logits(h, head, 30);
  EXPECT_DOUBLE_EQ(z[0][0].item<double>(), -30);
  EXPECT_DOUBLE_EQ(z[0][2].item<double>(), 30 * std::tanh(1.0 / 30));
  EXPECT_DOUBLE_EQ(head_logits(h, head, 0)[0][3].item<double>(), 1e3);
}

// A confident right answer has a loss near zero and a confident wrong one a finite, large loss.
TEST(CrossEntropyExtremes, StayFinite) {
  const at::Tensor h = at::ones({1, 1}), head = at::tensor({200.0F, -200.0F}).view({2, 1});
  EXPECT_EQ(cross_entropy(h, head, at::zeros({1}, at::kLong), 0).item<float>(), 0);
  EXPECT_EQ(cross_entropy(h, head, at::ones({1}, at::kLong), 0).item<float>(), 400);
}

TEST(LossChunk, BoundsTheLogits) {
  EXPECT_EQ(loss_chunk(4096, 512, false), 4096) << "a small vocabulary takes one chunk";
  EXPECT_LE(loss_chunk(4096, 262144, false) * 262144, std::int64_t{1} << 24);
  EXPECT_EQ(loss_chunk(10, 262144, false), 10);
}

}  // namespace test_loss
}  // namespace equisweep
