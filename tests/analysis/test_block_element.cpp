// Elements for blocks of a run: orthogonal, of their group, Haar where they say so, and acting as a matrix does.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "analysis/diagnostics/block_element.h"
#include "core/rng.h"

namespace equisweep {
namespace test_block_element {

at::Tensor matrix_of(Group group, std::int64_t n, std::uint64_t seed) {
  return AxisElement(group, n, seed, at::kCPU).act(at::eye(n, at::kDouble), -2);
}

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  auto generator = make_generator(seed, "test");
  return at::randn(shape, generator, at::kDouble);
}

TEST(BlockElement, BelongsToItsGroup) {
  for (const std::int64_t n :
       {std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, std::int64_t{8}, std::int64_t{96}, kHaarUpTo + 1}) {
    for (const Group group : {Group::permutation, Group::signed_permutation, Group::orthogonal}) {
      const at::Tensor g = matrix_of(group, n, 9);
      EXPECT_LT(distance(at::matmul(g, g.mT()), at::eye(n, at::kDouble)), 1e-14) << name_of(group) << " " << n;
      const auto entries = g.ne(0).sum().item<std::int64_t>();
      if (group != Group::orthogonal) {
        EXPECT_EQ(entries, n);
        EXPECT_EQ(at::equal(g.abs(), g), group == Group::permutation || g.ge(0).all().item<bool>());
      } else if (n > 2) {
        EXPECT_GT(entries, 2 * n);
        EXPECT_EQ(entries == n * n, n <= kHaarUpTo);
      }
      EXPECT_TRUE(at::equal(g, matrix_of(group, n, 9)));
      EXPECT_TRUE(n < 8 || !at::equal(g, matrix_of(group, n, 10)));
      EXPECT_TRUE(n < 8 || !at::equal(g, at::eye(n, at::kDouble)));
    }
  }
  const at::Tensor signs = matrix_of(Group::signed_permutation, 96, 9).sum(-1);
  EXPECT_GT(signs.eq(1).sum().item<int>(), 24);
  EXPECT_GT(signs.eq(-1).sum().item<int>(), 24);
}

// Haar on O(n): E q^4 = 3 / (n (n + 2)) for every entry, E tr Q = 0, E (tr Q)^2 = 1 (Diaconis & Shahshahani 1994). Standard
// errors below: 0.0005, 0.06 and 0.08; two rounds of pair rotations would have E q^4 = 0.070.
TEST(BlockElement, IsHaarUpToALimit) {
  constexpr std::int64_t n = 8, draws = 300;
  double fourth = 0, trace = 0, trace_squared = 0;
  for (std::uint64_t seed = 0; seed < draws; ++seed) {
    const at::Tensor q = matrix_of(Group::orthogonal, n, seed);
    const double t = q.trace().item<double>();
    fourth += q.pow(4).mean().item<double>() / draws;
    trace += t / draws;
    trace_squared += t * t / draws;
  }
  EXPECT_NEAR(fourth, 3.0 / (n * (n + 2)), 0.002);
  EXPECT_NEAR(trace, 0, 0.2);
  EXPECT_NEAR(trace_squared, 1, 0.3);
}

TEST(BlockElement, ActsOnEveryMatrixOfABlockFromBothSides) {
  for (const Group rows : {Group::identity, Group::signed_permutation, Group::orthogonal}) {
    for (const Group features : {Group::identity, Group::permutation, Group::orthogonal}) {
      const at::Tensor x = normal({3, 7, 10}, 1);
      const BlockElement g(rows, features, x, 5);
      for (const std::int64_t e : {0, 1, 2}) EXPECT_LT(distance(g.act(x)[e], g.act(x[e])), 1e-14);
      const at::Tensor L = AxisElement(rows, 7, derive_seed(5, "rows"), at::kCPU).act(at::eye(7, at::kDouble), -2);
      const at::Tensor R = AxisElement(features, 10, derive_seed(5, "features"), at::kCPU).act(at::eye(10, at::kDouble), -2);
      EXPECT_LT(distance(g.act(x), at::matmul(at::matmul(L, x), R.mT())), 1e-14);
    }
  }
}

TEST(BlockElement, RoundsToTheDtypeOnce) {
  const at::Tensor x = normal({40, 24}, 2).to(at::kFloat);
  const BlockElement g(Group::orthogonal, Group::orthogonal, x, 5);
  EXPECT_TRUE(at::equal(g.act(x), g.act(x.to(at::kDouble)).to(at::kFloat)));
  EXPECT_EQ(g.act(at::eye(40, 24, at::kDouble)).ne(0).sum().item<int>(), 40 * 24);
  // A matrix of 40 would round more than a rule does in double.
  const BlockElement wide(Group::orthogonal, Group::identity, x.to(at::kDouble), 5);
  EXPECT_LE(wide.act(at::eye(40, 24, at::kDouble)).ne(0).sum().item<int>(), 4 * 24);
  const BlockElement p(Group::signed_permutation, Group::permutation, x, 5);
  EXPECT_TRUE(at::equal(std::get<0>(p.act(x).abs().flatten().sort()), std::get<0>(x.abs().flatten().sort())));
}

}  // namespace test_block_element
}  // namespace equisweep
