// Every generator against the axioms of a group and against what defines its own.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "analysis/audit/groups.h"
#include "core/rng.h"

namespace equisweep {
namespace test_audit_groups {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t kHeads = 6, kWidth = 4, kSize = kHeads * kWidth;

struct Generator {
  std::string name;
  std::function<at::Tensor(std::uint64_t)> draw;
  bool monomial;  ///< one entry of +-1 in each row
};

std::vector<Generator> generators() {
  return {{"identity", [](auto s) { return random_element_matrix(Group::identity, kSize, s); }, true},
          {"permutation", [](auto s) { return random_element_matrix(Group::permutation, kSize, s); }, true},
          {"signed_permutation", [](auto s) { return random_element_matrix(Group::signed_permutation, kSize, s); }, true},
          {"orthogonal", [](auto s) { return random_element_matrix(Group::orthogonal, kSize, s); }, false},
          {"fixing_ones", [](auto s) { return orthogonal_fixing_ones(kSize, s); }, false},
          {"block_orthogonal", [](auto s) { return block_orthogonal(kHeads, kWidth, s); }, false},
          {"torus", [](auto s) { return rope_torus(kHeads, kWidth, s); }, false},
          {"block_permutation", [](auto s) { return block_permutation(kHeads, kWidth, s); }, true},
          {"gqa", [](auto s) { return gqa_permutation(2, 3, kWidth, s); }, true}};
}

at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  auto generator = make_generator(seed, "test");
  return at::randn(shape, generator, at::kDouble);
}

Eigen::MatrixXd to_eigen(const at::Tensor& matrix) {
  const at::Tensor m = matrix.contiguous();
  return Eigen::Map<const RowMajor>(m.const_data_ptr<double>(), m.size(0), m.size(1));
}

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(AuditGroups, OrthogonalToTheLastBitAndAFunctionOfTheSeed) {
  for (const Generator& generator : generators()) {
    SCOPED_TRACE(generator.name);
    const Eigen::MatrixXd q = to_eigen(generator.draw(1));
    ASSERT_EQ(q.rows(), kSize);
    // The entries themselves are rounded to 2^-53 of their size, and a sum of 24 products of them cannot be closer.
    EXPECT_LT((q.lazyProduct(q.transpose()) - Eigen::MatrixXd::Identity(kSize, kSize)).cwiseAbs().maxCoeff(), 6 * 0x1p-53);
    EXPECT_EQ((q.array().abs() == 1).count() == kSize && (q.array() == 0).count() == kSize * (kSize - 1),
              generator.monomial);
    EXPECT_TRUE(at::equal(generator.draw(1), generator.draw(1)));
    EXPECT_EQ(at::equal(generator.draw(1), generator.draw(2)), generator.name == "identity");
  }
}

TEST(AuditGroups, Axioms) {
  for (const Generator& generator : generators()) {
    SCOPED_TRACE(generator.name);
    const Move a{generator.draw(1), generator.draw(4), random_matrix(Group::permutation, 3, 7)};
    const Move b{generator.draw(2), {}, random_matrix(Group::permutation, 3, 8)}, c{{}, generator.draw(3), {}};
    const at::Tensor x = normal({3, kSize, kSize}, 9);
    EXPECT_LT(distance(act(inverse(a), act(a, x)), x), 1e-14);
    EXPECT_LT(distance(act(compose(a, b), x), act(a, act(b, x))), 1e-13);
    EXPECT_LT(distance(act(compose(compose(a, b), c), x), act(compose(a, compose(b, c)), x)), 1e-13);
    EXPECT_LT(distance(act(compose(a, inverse(a)), x), x), 1e-14);
    EXPECT_TRUE(at::equal(act(Move{}, x), x));
    EXPECT_TRUE(at::equal(act({random_element_matrix(Group::identity, kSize, 1), {}, {}}, x), x));
  }
}

TEST(AuditGroups, ActIsTheProductWithBothSidesAndThePermutedBatch) {
  const Move g{normal({5, 5}, 1), normal({4, 4}, 2), random_matrix(Group::permutation, 3, 3)};
  const at::Tensor x = normal({3, 5, 4}, 4), y = act(g, x);
  for (std::int64_t e = 0; e < 3; ++e) {
    const std::int64_t source = g.batch[e].argmax().item<std::int64_t>();
    const Eigen::MatrixXd left = to_eigen(g.left).lazyProduct(to_eigen(x[source]));
    const Eigen::MatrixXd expected = left.lazyProduct(to_eigen(g.right).transpose());
    EXPECT_LT((to_eigen(y[e]) - expected).cwiseAbs().maxCoeff(), 1e-14);
  }
  EXPECT_THROW(act({normal({4, 4}, 1), {}, {}}, x), c10::Error);
}

TEST(AuditGroups, ManyElementsAtOnceActAsEachAlone) {
  std::vector<at::Tensor> elements;
  for (std::uint64_t k = 0; k < 4; ++k) elements.push_back(random_element_matrix(Group::orthogonal, 5, k));
  const at::Tensor x = normal({2, 5, 3}, 1), y = act({at::stack(elements).unsqueeze(1), {}, {}}, x);
  ASSERT_EQ(y.sizes(), (std::vector<std::int64_t>{4, 2, 5, 3}));
  for (std::int64_t k = 0; k < 4; ++k) EXPECT_TRUE(at::equal(y[k], act({elements[static_cast<std::size_t>(k)], {}, {}}, x)));
}

// Rounded once: the error of an entry is at most half a step of its dtype, for fp64 too.
TEST(AuditGroups, RoundsOnceInEveryDtype) {
  const Move g{random_element_matrix(Group::orthogonal, 6, 1), random_element_matrix(Group::orthogonal, 6, 2), {}};
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const at::Tensor x = normal({6, 6}, 3).to(dtype), y = act(g, x);
    EXPECT_EQ(y.scalar_type(), dtype);
    const double unit = dtype == at::kDouble ? 0x1p-53 : dtype == at::kFloat ? 0x1p-24 : 0x1p-8;
    const auto l = to_eigen(g.left).cast<long double>().eval(), r = to_eigen(g.right).cast<long double>().eval();
    const auto exact = (l * to_eigen(x.to(at::kDouble)).cast<long double>() * r.transpose()).eval();
    const auto error = (to_eigen(y.to(at::kDouble)).cast<long double>() - exact).cwiseAbs().eval();
    EXPECT_TRUE((error.array() <= 1.001L * static_cast<long double>(unit) * exact.array().abs() + 1e-17L).all()) << dtype;
  }
}

TEST(AuditGroups, FixingOnesFixesOnesAndIsHaarOnTheRest) {
  at::set_num_threads(1);  // matrices this small only wait for a second thread
  constexpr std::int64_t n = 4;
  constexpr int kDraws = 3000;
  double corner = 0, square = 0, trace = 0, trace_squares = 0;
  for (int seed = 0; seed < kDraws; ++seed) {
    const at::Tensor q = orthogonal_fixing_ones(n, static_cast<std::uint64_t>(seed));
    // Three factors in double, some roundings each.
    EXPECT_LT(distance(q.sum(1), at::ones({n}, at::kDouble)), 5e-15);
    EXPECT_LT(distance(q.sum(0), at::ones({n}, at::kDouble)), 5e-15);
    // q = 11^T / n + B Q' B^T with B orthonormal on the complement: E q_00 = 1/n, E (q_00 - 1/n)^2 = |b|^4 / (n - 1) with
    // |b|^2 = 1 - 1/n, and trace q - 1 is the trace of Q', with mean 0 and mean square 1.
    const double inner = q[0][0].item<double>() - 1.0 / n, t = q.trace().item<double>() - 1;
    corner += inner;
    square += inner * inner;
    trace += t;
    trace_squares += t * t;
  }
  const double b4 = (1 - 1.0 / n) * (1 - 1.0 / n), deviations = 5 / std::sqrt(kDraws);
  EXPECT_NEAR(corner / kDraws, 0, deviations * std::sqrt(b4 / (n - 1)));
  EXPECT_NEAR(square / kDraws, b4 / (n - 1), deviations * b4 * std::sqrt(3.0 / ((n - 1) * (n + 1))));
  EXPECT_NEAR(trace / kDraws, 0, deviations);
  EXPECT_NEAR(trace_squares / kDraws, 1, deviations * std::sqrt(2.0));  // E t^4 = 3 on O(3)
  EXPECT_TRUE(at::equal(orthogonal_fixing_ones(1, 3), at::ones({1, 1}, at::kDouble)));
}

// The trace of a Haar element of O(4) in each block has mean 0 and mean square 1; blocks are independent and off-diagonal
// blocks vanish.
TEST(AuditGroups, BlockOrthogonalKeepsHeadsApart) {
  at::set_num_threads(1);  // matrices this small only wait for a second thread
  constexpr int kDraws = 2000;
  double traces = 0, squares = 0, products = 0;
  for (int seed = 0; seed < kDraws; ++seed) {
    const at::Tensor q = block_orthogonal(2, 4, static_cast<std::uint64_t>(seed));
    EXPECT_EQ(q.narrow(0, 0, 4).narrow(1, 4, 4).abs().max().item<double>(), 0);
    EXPECT_EQ(q.narrow(0, 4, 4).narrow(1, 0, 4).abs().max().item<double>(), 0);
    const double first = q.narrow(0, 0, 4).narrow(1, 0, 4).trace().item<double>();
    const double second = q.narrow(0, 4, 4).narrow(1, 4, 4).trace().item<double>();
    traces += first;
    squares += first * first;
    products += first * second;
  }
  const double deviations = 5 / std::sqrt(kDraws);
  EXPECT_NEAR(traces / kDraws, 0, deviations);
  EXPECT_NEAR(squares / kDraws, 1, deviations * std::sqrt(2.0));
  EXPECT_NEAR(products / kDraws, 0, deviations);
}

// The torus commutes with the rotation that position embedding applies, at any position, and with itself; a random rotation
// of the heads does not.
TEST(AuditGroups, TheTorusCommutesWithRotaryEmbedding) {
  const auto rotary = [](double position) {
    at::Tensor r = at::zeros({kSize, kSize}, at::kDouble);
    for (std::int64_t head = 0; head < kHeads; ++head)
      for (std::int64_t pair = 0; pair < kWidth / 2; ++pair) {
        const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(pair) / kWidth);
        const std::int64_t i = head * kWidth + pair, j = i + kWidth / 2;
        r[i][i] = r[j][j] = std::cos(angle);
        r[i][j] = -std::sin(angle);
        r[j][i] = std::sin(angle);
      }
    return r;
  };
  const at::Tensor torus = rope_torus(kHeads, kWidth, 1), other = rope_torus(kHeads, kWidth, 2);
  for (const double position : {1.0, 17.0}) {
    const at::Tensor r = rotary(position);
    EXPECT_LT(distance(at::matmul(torus, r), at::matmul(r, torus)), 1e-15);
    const at::Tensor rotation = block_orthogonal(kHeads, kWidth, 1);
    EXPECT_GT(distance(at::matmul(rotation, r), at::matmul(r, rotation)), 0.1);
  }
  EXPECT_LT(distance(at::matmul(torus, other), at::matmul(other, torus)), 1e-15);
  EXPECT_EQ(torus.ne(0).sum().item<std::int64_t>(), 2 * kSize);
  EXPECT_THROW(rope_torus(2, 3, 1), c10::Error);
}

TEST(AuditGroups, GqaKeepsGroupsTogetherAndMovesBothKinds) {
  constexpr std::int64_t groups = 3, per_group = 2, width = 2;
  bool inside = false, between = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const at::Tensor g = gqa_permutation(groups, per_group, width, seed);
    const at::Tensor source = at::matmul(g, at::arange(g.size(0), at::kDouble));  // where each row comes from
    for (std::int64_t group = 0; group < groups; ++group) {
      const double first = source[group * per_group * width].item<double>();
      const double from = std::floor(first / (per_group * width));
      between |= from != static_cast<double>(group);
      inside |= first - from * (per_group * width) >= width;
      for (std::int64_t i = 0; i < per_group * width; ++i) {
        const double row = source[group * per_group * width + i].item<double>();
        EXPECT_EQ(std::floor(row / (per_group * width)), from);            // heads stay with their group
        EXPECT_EQ(std::fmod(row, width), static_cast<double>(i % width));  // and dimensions in their head
      }
    }
  }
  EXPECT_TRUE(inside);
  EXPECT_TRUE(between);
}

TEST(AuditGroups, CopiesAndWidths) {
  const at::Tensor p = random_matrix(Group::permutation, 3, 1), x = at::arange(6, at::kDouble);
  const at::Tensor order = at::matmul(p, at::arange(3, at::kDouble));
  for (std::int64_t i = 0; i < 3; ++i) {
    const double source = order[i].item<double>();
    for (std::int64_t copy = 0; copy < 2; ++copy) {
      EXPECT_EQ(at::matmul(repeated(p, 2), x)[copy * 3 + i].item<double>(), static_cast<double>(copy) * 3 + source);
      EXPECT_EQ(at::matmul(widened(p, 2), x)[i * 2 + copy].item<double>(), source * 2 + static_cast<double>(copy));
    }
  }
}

}  // namespace test_audit_groups
}  // namespace equisweep
