// Spectral norms against Eigen's SVD in double.
#include "analysis/diagnostics/power_iteration.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/oracle.h"

namespace equisweep {
namespace test_power_iteration {

// xorshift, so that these tests share no generator with the code.
double uniform(std::uint64_t& state) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return static_cast<double>(state >> 11) * 0x1p-53 * 2 - 1;
}

at::Tensor random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  at::Tensor x = at::empty({rows, columns}, at::kDouble);
  for (int i = 0; i < 16; ++i) uniform(state);
  double* values = x.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < rows * columns; ++i) values[i] = uniform(state) + uniform(state) + uniform(state);
  return x;
}

at::Tensor orthonormal_columns(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const at::Tensor x = random_matrix(rows, columns, seed);
  at::Tensor q = at::empty_like(x);
  testing::oracle::orthonormal_columns(x.const_data_ptr<double>(), rows, columns, q.mutable_data_ptr<double>());
  return q;
}

at::Tensor with_singular_values(std::int64_t rows, std::int64_t columns, std::vector<double> values, std::uint64_t seed) {
  const std::int64_t k = std::min(rows, columns);
  values.resize(static_cast<std::size_t>(k), 0.0);
  const at::Tensor s = at::from_blob(values.data(), {k}, at::kDouble);
  return (orthonormal_columns(rows, k, seed) * s).matmul(orthonormal_columns(columns, k, seed + 1).t());
}

double exact(const at::Tensor& x) {
  const at::Tensor dense = x.contiguous();
  return testing::oracle::largest_singular_value(dense.const_data_ptr<double>(), x.size(0), x.size(1));
}

std::vector<double> ramp(int n, double top, double step) {
  std::vector<double> values;
  for (int i = 0; i < n; ++i) values.push_back(top - step * i);
  return values;
}

struct Case {
  std::string name;
  at::Tensor x;
};

std::vector<Case> cases() {
  std::vector<double> bulk_near_top = ramp(200, 1.0, 1e-4);  // everything within 2% of the top
  std::vector<double> geometric;
  for (int i = 0; i < 128; ++i) geometric.push_back(std::pow(0.99, i));
  return {{"random square", random_matrix(96, 96, 1)},
          {"random tall", random_matrix(512, 64, 2)},
          {"random wide", random_matrix(64, 192, 3)},
          {"tiny gap", with_singular_values(128, 128, ramp(128, 1.0, 1e-3), 4)},
          {"tiny gap above a bulk", with_singular_values(192, 128, {1.0005, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.5}, 5)},
          {"dense near the top", with_singular_values(256, 200, bulk_near_top, 6)},
          {"geometric", with_singular_values(160, 128, geometric, 7)},
          {"repeated top, more than the block", with_singular_values(96, 64, {2, 2, 2, 2, 2, 2, 2, 2, 2, 0.1}, 8)},
          {"orthogonal", orthonormal_columns(64, 64, 9)},
          {"rank one", with_singular_values(300, 100, {3}, 10)},
          {"rank one and a little noise", with_singular_values(64, 64, {1, 1e-6, 1e-6}, 11)},
          {"large", 1e18 * random_matrix(32, 48, 12)},
          {"small", 1e-18 * random_matrix(32, 48, 13)},
          {"three columns", random_matrix(40, 3, 14)},
          {"one row", random_matrix(1, 128, 15)},
          {"one number", random_matrix(1, 1, 16)}};
}

TEST(PowerIteration, AgreesWithTheSvdOnItsFirstCall) {
  for (const Case& c : cases()) {
    PowerIteration iteration(0);
    const double found = spectral_norms(iteration.measure(c.x.to(at::kFloat).unsqueeze(0))).item<double>();
    EXPECT_NEAR(found / exact(c.x), 1, 1e-4) << c.name;
  }
}

TEST(PowerIteration, FollowsAMatrixThatChanges) {
  PowerIteration iteration(0);
  at::Tensor x = with_singular_values(192, 96, ramp(96, 1.0, 5e-3), 21);
  for (std::uint64_t t = 0; t < 12; ++t) {
    const double found = spectral_norms(iteration.measure(x.to(at::kFloat).unsqueeze(0))).item<double>();
    EXPECT_NEAR(found / exact(x), 1, 1e-4) << "call " << t;
    x += 0.002 * random_matrix(192, 96, 30 + t);  // ||change||_2 is 5% of ||x||_2
  }
}

TEST(PowerIteration, ABatchGivesWhatEachMatrixAloneGives) {
  std::vector<at::Tensor> matrices;
  std::vector<double> expected;
  for (std::uint64_t i = 0; i < 6; ++i) {
    const at::Tensor x = std::pow(10.0, static_cast<double>(i) - 3) * random_matrix(48, 80, 40 + i);
    matrices.push_back(x.to(at::kFloat));
    expected.push_back(exact(x));
  }
  PowerIteration iteration(0);
  const at::Tensor found = spectral_norms(iteration.measure(at::stack(matrices).reshape({3, 2, 48, 80})));
  ASSERT_EQ(found.sizes(), at::IntArrayRef({3, 2}));
  for (std::int64_t i = 0; i < 6; ++i)
    EXPECT_NEAR(found.flatten()[i].item<double>() / expected[static_cast<std::size_t>(i)], 1, 1e-4);
}

TEST(PowerIteration, ZeroIsZeroAndNonFiniteIsNanAndNeighboursAreLeftAlone) {
  at::Tensor x = random_matrix(48, 32, 50).to(at::kFloat).unsqueeze(0).repeat({4, 1, 1});
  x[0].zero_();
  x[1][3][4] = std::numeric_limits<double>::quiet_NaN();
  x[2][5][6] = std::numeric_limits<double>::infinity();
  PowerIteration iteration(0);
  for (int call = 0; call < 2; ++call) {
    const at::Tensor found = spectral_norms(iteration.measure(x));
    EXPECT_EQ(found[0].item<double>(), 0);
    EXPECT_TRUE(std::isnan(found[1].item<double>()));
    EXPECT_TRUE(std::isnan(found[2].item<double>()));
    EXPECT_NEAR(found[3].item<double>() / exact(random_matrix(48, 32, 50)), 1, 1e-4);
  }
}

}  // namespace test_power_iteration
}  // namespace equisweep
