#include "core/symmetry.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace equisweep {
namespace test_symmetry {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::array kGroups = {Group::identity, Group::permutation, Group::signed_permutation, Group::orthogonal};

Eigen::MatrixXd to_eigen(const at::Tensor& matrix) {
  const auto m = matrix.to(at::kDouble).contiguous();
  return Eigen::Map<const RowMajor>(m.const_data_ptr<double>(), m.size(0), m.size(1));
}

// Entry by entry: these are small, and Eigen's blocked product takes long to compile.
template <class A, class B>
Eigen::MatrixXd product(const A& a, const B& b) {
  return a.lazyProduct(b);
}

double distance_to_identity(const Eigen::MatrixXd& m) { return (m - Eigen::MatrixXd::Identity(m.rows(), m.cols())).norm(); }

at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble);
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const auto bits = [](const at::Tensor& t) { return t.contiguous().reshape({-1}).view(at::kByte); };
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(bits(a), bits(b));
}

TEST(Symmetry, Words) {
  EXPECT_EQ(to_string(Symmetry{Group::signed_permutation, Group::orthogonal, true}), "signed P(m) x O(n) + shift");
  EXPECT_EQ(to_string(Symmetry{Group::permutation, Group::identity, false}), "P(m) x I(n)");
  EXPECT_EQ(name_of(Group::signed_permutation), "signed_permutation");
}

TEST(Symmetry, RandomMatricesAreOrthogonal) {
  for (const auto group : kGroups) {
    for (const std::int64_t n : {1, 2, 5, 40}) {
      const auto q = to_eigen(random_matrix(group, n, 7));
      ASSERT_EQ(q.rows(), n);
      EXPECT_LT(distance_to_identity(product(q, q.transpose())), 1e-13 * static_cast<double>(n)) << name_of(group);
    }
  }
}

TEST(Symmetry, EachGroupHasItsOwnEntries) {
  EXPECT_EQ(distance_to_identity(to_eigen(random_matrix(Group::identity, 9, 1))), 0);
  const auto p = to_eigen(random_matrix(Group::permutation, 30, 1));
  EXPECT_EQ(p.cwiseAbs2().sum(), 30);
  EXPECT_EQ((p.array() == 1).count(), 30);
  EXPECT_GT(distance_to_identity(p), 0);
  const auto s = to_eigen(random_matrix(Group::signed_permutation, 30, 1));
  EXPECT_EQ((s.array().abs() == 1).count(), 30);
  EXPECT_EQ((s.array() == 0).count(), 870);
  EXPECT_GT((s.array() == -1).count(), 0);
  EXPECT_GT((s.array() == 1).count(), 0);
  EXPECT_EQ((to_eigen(random_matrix(Group::orthogonal, 30, 1)).array() == 0).count(), 0);
}

TEST(Symmetry, APureFunctionOfTheSeed) {
  for (const auto group : {Group::permutation, Group::signed_permutation, Group::orthogonal}) {
    EXPECT_TRUE(at::equal(random_matrix(group, 20, 3), random_matrix(group, 20, 3)));
    EXPECT_FALSE(at::equal(random_matrix(group, 20, 3), random_matrix(group, 20, 4)));
  }
  const Symmetry both{Group::orthogonal, Group::orthogonal, false};
  const auto g = random_element(both, 6, 6, 5);
  EXPECT_TRUE(at::equal(g.left, random_element(both, 6, 6, 5).left));
  EXPECT_FALSE(at::equal(g.left, g.right));
}

// Each of the 4! * 2^4 = 384 elements is equally likely: chi-squared with 383 degrees of freedom has mean 383 and
// deviation 28.
TEST(Symmetry, SignedPermutationsAreUniform) {
  std::map<std::vector<double>, int> counts;
  constexpr int kDraws = 48 * 50;
  for (int seed = 0; seed < kDraws; ++seed) {
    const auto q = random_matrix(Group::signed_permutation, 3, static_cast<std::uint64_t>(seed));
    ++counts[std::vector<double>(q.const_data_ptr<double>(), q.const_data_ptr<double>() + 9)];
  }
  EXPECT_EQ(counts.size(), 48U);
  double chi_squared = 0;
  for (const auto& [element, count] : counts) chi_squared += (count - 50.0) * (count - 50.0) / 50.0;
  EXPECT_NEAR(chi_squared, 47, 5 * 9.7);
}

// Haar on O(n): E q_ij = 0, E q_ij^2 = 1/n, E q_ij^4 = 3/(n(n+2)), E (trace Q)^2 = 1, and both determinants are equally
// likely. Without the sign of R's diagonal, LAPACK's Householder QR has E q_00 well below 0 and E (trace Q)^2 far from 1.
TEST(Symmetry, OrthogonalMatricesAreHaar) {
  at::set_num_threads(1);  // matrices this small only wait for a second thread
  constexpr int kDraws = 4000, n = 3;
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(n, n), squares = sum, fourths = sum;
  double trace_squares = 0, determinants = 0;
  for (int seed = 0; seed < kDraws; ++seed) {
    const auto q = to_eigen(random_matrix(Group::orthogonal, n, static_cast<std::uint64_t>(seed)));
    sum += q;
    squares += q.cwiseAbs2();
    fourths += q.cwiseAbs2().cwiseAbs2();
    trace_squares += q.trace() * q.trace();
    determinants += Eigen::Matrix3d(q).determinant();
  }
  const double error = 5 / std::sqrt(kDraws);  // five deviations of a mean of numbers with variance <= 1
  EXPECT_LT((sum / kDraws).cwiseAbs().maxCoeff(), error * std::sqrt(1.0 / n));
  EXPECT_LT((squares.array() / kDraws - 1.0 / n).abs().maxCoeff(), error * std::sqrt(3.0 / (n * (n + 2)) - 1.0 / (n * n)));
  // |q| <= 1, so the variance of q^4 is at most E q^4.
  EXPECT_LT((fourths.array() / kDraws - 3.0 / (n * (n + 2))).abs().maxCoeff(), error * std::sqrt(3.0 / (n * (n + 2))));
  EXPECT_NEAR(trace_squares / kDraws, 1, error * std::sqrt(2.0));  // E (trace Q)^4 = 3 for n >= 2
  EXPECT_NEAR(determinants / kDraws, 0, error);
}

TEST(Symmetry, ActIsLeftTimesXTimesRightTransposed) {
  for (const auto rows : kGroups) {
    for (const auto columns : kGroups) {
      const auto g = random_element({rows, columns, false}, 7, 5, 11);
      const auto x = normal({2, 3, 7, 5}, 12);
      const auto y = act(g, x);
      ASSERT_EQ(y.sizes(), x.sizes());
      for (std::int64_t i = 0; i < 2; ++i) {
        for (std::int64_t j = 0; j < 3; ++j) {
          const Eigen::MatrixXd expected =
              product(product(to_eigen(g.left), to_eigen(x[i][j])), to_eigen(g.right).transpose());
          EXPECT_LT((to_eigen(y[i][j]) - expected).norm(), 1e-13);
        }
      }
    }
  }
}

// Against the entries moved one by one; the numbers carry every bit that the dtype has, and the extremes.
TEST(Symmetry, PermutationsAndSignsActWithoutRounding) {
  constexpr std::int64_t m = 6, n = 9;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const auto rows : {Group::identity, Group::permutation, Group::signed_permutation}) {
      for (const auto columns : {Group::identity, Group::permutation, Group::signed_permutation}) {
        auto x = normal({2, m, n}, 3).to(dtype);
        x[0][0][0] = 0.0;
        x[0][1][2] = std::numeric_limits<double>::infinity();
        x[1][2][3] = 1e-45;  // subnormal in fp32
        x[1][3][3] = 6e-8;   // subnormal in fp16
        const auto g = random_element({rows, columns, false}, m, n, 21);
        auto expected = at::empty_like(x);
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            const auto k = g.left[i].abs().argmax().item<std::int64_t>(), l = g.right[j].abs().argmax().item<std::int64_t>();
            const bool negate = g.left[i][k].item<double>() * g.right[j][l].item<double>() < 0;
            const auto entry = x.select(1, k).select(1, l);
            expected.select(1, i).select(1, j).copy_(negate ? -entry : entry);
          }
        }
        EXPECT_TRUE(same_bits(act(g, x), expected)) << dtype << to_string(Symmetry{rows, columns, false});
        EXPECT_TRUE(same_bits(act(inverse(g), act(g, x)), x));
      }
    }
  }
}

TEST(Symmetry, IntegersCanBePermuted) {
  const auto g = random_element({Group::permutation, Group::identity, false}, 8, 2, 1);
  const auto x = at::arange(16, at::kLong).reshape({8, 2});
  const auto y = act(g, x);
  EXPECT_EQ(y.scalar_type(), at::kLong);
  EXPECT_EQ(to_eigen(y), product(to_eigen(g.left), to_eigen(x)));
}

// Computed in double and rounded once, so the result is the nearest number of its dtype.
TEST(Symmetry, RotationsRoundOnce) {
  const auto g = random_element({Group::orthogonal, Group::orthogonal, false}, 6, 9, 4);
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto x = normal({6, 9}, 5).to(dtype);
    const auto y = act(g, x);
    const Eigen::MatrixXd expected = product(product(to_eigen(g.left), to_eigen(x)), to_eigen(g.right).transpose());
    const double unit = dtype == at::kFloat ? 0x1p-24 : 0x1p-8;  // half a step, relative
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_TRUE(((to_eigen(y) - expected).array().abs() <= 1.001 * unit * expected.array().abs() + 1e-14).all()) << dtype;
  }
}

TEST(Symmetry, GroupAxioms) {
  for (const auto rows : kGroups) {
    for (const auto columns : kGroups) {
      const Symmetry symmetry{rows, columns, false};
      const auto a = random_element(symmetry, 6, 4, 1), b = random_element(symmetry, 6, 4, 2),
                 c = random_element(symmetry, 6, 4, 3);
      const auto x = normal({3, 6, 4}, 9);
      const auto near = [](const at::Tensor& p, const at::Tensor& q) { return at::allclose(p, q, 0, 1e-13); };
      EXPECT_TRUE(near(act(compose(a, b), x), act(a, act(b, x))));
      EXPECT_TRUE(near(act(compose(compose(a, b), c), x), act(compose(a, compose(b, c)), x)));
      EXPECT_TRUE(near(act(inverse(a), act(a, x)), x));
      EXPECT_TRUE(near(act(compose(a, inverse(a)), x), x));
      EXPECT_TRUE(near(act(inverse(compose(a, b)), x), act(compose(inverse(b), inverse(a)), x)));
    }
  }
  const auto identity = random_element({}, 6, 4, 1);
  const auto x = normal({6, 4}, 9);
  EXPECT_TRUE(same_bits(act(identity, x), x));
}

TEST(Symmetry, ProductsOfSignedPermutationsStayExact) {
  const Symmetry symmetry{Group::signed_permutation, Group::signed_permutation, false};
  const auto a = random_element(symmetry, 12, 12, 1), b = random_element(symmetry, 12, 12, 2);
  const auto x = normal({12, 12}, 3).to(at::kBFloat16);
  EXPECT_TRUE(same_bits(act(compose(a, b), x), act(a, act(b, x))));
}

TEST(Symmetry, WrongShapesAreProgrammerErrors) {
  const auto g = random_element({}, 3, 4, 1);
  EXPECT_THROW(act(g, at::zeros({4, 3})), c10::Error);
  EXPECT_THROW(act(g, at::zeros({4})), c10::Error);
  EXPECT_THROW(random_matrix(Group::orthogonal, 0, 1), c10::Error);
}

}  // namespace test_symmetry
}  // namespace equisweep
