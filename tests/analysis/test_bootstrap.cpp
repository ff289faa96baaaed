// Bootstrap intervals against the distribution of all resamples, expansions for large samples, and made-up experiments.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <numbers>
#include <random>

#include "analysis/report/compare.h"
#include "analysis/statistics/bootstrap.h"

namespace equisweep {
namespace test_bootstrap {

constexpr IntervalMethod kMany{.resamples = 200'000, .seed = 7}, kLarge{.resamples = 30'000, .seed = 8};

double normal_cdf(double z) { return boost::math::cdf(boost::math::normal(), z); }
double normal_quantile(double p) { return boost::math::quantile(boost::math::normal(), p); }

/// Every resample of `values`, each equally likely.
std::vector<double> all_means(const std::vector<double>& values) {
  std::vector<double> sums = {0};
  for (std::size_t draw = 0; draw < values.size(); ++draw) {
    std::vector<double> longer;
    for (const double sum : sums)
      for (const double x : values) longer.push_back(sum + x);
    sums = std::move(longer);
  }
  for (double& sum : sums) sum /= static_cast<double>(values.size());
  std::sort(sums.begin(), sums.end());
  return sums;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

/// The level at which BCa takes its quantile, from its definition with the jackknife, and the exact distribution.
double exact_level(const std::vector<double>& values, const std::vector<double>& means, double p) {
  const double n = static_cast<double>(values.size()), mean = mean_of(values);
  double less = 0, cubes = 0, squares = 0;
  for (const double m : means) less += std::abs(m - mean) < 1e-9 ? 0.5 : m < mean ? 1 : 0;
  for (const double x : values) {
    const double without = (n * mean - x) / (n - 1);  // their mean is `mean`
    cubes += std::pow(mean - without, 3);
    squares += std::pow(mean - without, 2);
  }
  const double z0 = normal_quantile(less / static_cast<double>(means.size()));
  const double a = cubes / (6 * std::pow(squares, 1.5)), z = z0 + normal_quantile(p);
  return normal_cdf(z0 + z / (1 - a * z));
}

/// `bound` is the quantile at `level` of the exact distribution, as far as so many random resamples can tell.
void expect_quantile(const std::vector<double>& means, double bound, double level) {
  const double n = static_cast<double>(means.size());
  const double chance = 5 * std::sqrt(level * (1 - level) / static_cast<double>(kMany.resamples));
  const auto below = std::lower_bound(means.begin(), means.end(), bound - 1e-9) - means.begin();
  const auto up_to = std::upper_bound(means.begin(), means.end(), bound + 1e-9) - means.begin();
  EXPECT_LE(static_cast<double>(below) / n, level + chance) << bound;
  EXPECT_GE(static_cast<double>(up_to) / n, level - chance) << bound;
}

TEST(Bootstrap, BoundsAreTheQuantilesOfAllResamples) {
  for (const std::vector<double>& values : {std::vector<double>{3.41, 3.44, 3.52},
                                            {1, 2, 3, 4},
                                            {0, 0, 1, 10, 11},
                                            {-5.5, 0.25, 0.5, 0.75, 1, 7},
                                            {2, 2, 2, 2, 2, 2, 50}}) {
    const std::vector<double> means = all_means(values);
    const Bounds bounds = bootstrap_mean(values, kMany);
    expect_quantile(means, bounds.low, exact_level(values, means, 0.025));
    expect_quantile(means, bounds.high, exact_level(values, means, 0.975));
  }
}

// Hours of sleep under two drugs (Student 1908). scipy.stats.bootstrap of SciPy 1.17 with 200,000 resamples: paired 1.05
// to 2.64, unpaired 0.00 to 3.15. Means of ten values with one decimal are multiples of 0.01.
TEST(Bootstrap, AgreesWithAnotherProgramOnPublishedData) {
  const std::vector<double> first = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4},
                            second = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
  std::vector<double> differences;
  for (std::size_t i = 0; i < first.size(); ++i) differences.push_back(first[i] - second[i]);
  const Bounds paired = bootstrap_mean(differences, kMany), unpaired = bootstrap_difference(first, second, kMany);
  EXPECT_NEAR(paired.low, 1.05, 0.015);
  EXPECT_NEAR(paired.high, 2.64, 0.025);
  EXPECT_NEAR(unpaired.low, 0.0, 0.025);
  EXPECT_NEAR(unpaired.high, 3.15, 0.025);
}

TEST(Bootstrap, SameValuesSameSeedSameBounds) {
  const std::vector<double> values = {3.1, 3.3, 3.21, 3.6, 3.15, 3.37, 3.02, 3.44};
  const Bounds first = bootstrap_mean(values, {1000, 1}), again = bootstrap_mean(values, {1000, 1});
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  const Bounds other = bootstrap_mean(values, {1000, 2});
  EXPECT_NE(first.low, other.low);
  EXPECT_NEAR(first.low, other.low, 0.03);
}

// y = c x + d moves the bounds alike; a negative c turns them round. z0 and a change their signs with it.
TEST(Bootstrap, FollowsUnitsAndSigns) {
  const std::vector<double> values = {0.1, 0.4, 0.2, 2.5, 0.3, 0.9};
  const IntervalMethod method{2001, 3};
  const Bounds x = bootstrap_mean(values, method);
  std::vector<double> scaled = values, negated = values;
  for (double& v : scaled) v = 1000 * v - 7;
  for (double& v : negated) v = -v;
  EXPECT_NEAR(bootstrap_mean(scaled, method).low, 1000 * x.low - 7, 1e-9);
  EXPECT_NEAR(bootstrap_mean(scaled, method).high, 1000 * x.high - 7, 1e-9);
  EXPECT_NEAR(bootstrap_mean(negated, method).low, -x.high, 1e-12);
  EXPECT_NEAR(bootstrap_mean(negated, method).high, -x.low, 1e-12);
}

TEST(Bootstrap, WithoutSpreadOrWithoutValues) {
  const Bounds equal = bootstrap_mean(std::vector<double>{3.3, 3.3, 3.3}, {100, 0});
  EXPECT_DOUBLE_EQ(equal.low, 3.3);
  EXPECT_DOUBLE_EQ(equal.high, 3.3);
  EXPECT_TRUE(std::isnan(bootstrap_mean(std::vector<double>{3.3}, {100, 0}).low));
  EXPECT_TRUE(std::isnan(bootstrap_mean({}, {100, 0}).high));
  EXPECT_TRUE(std::isnan(bootstrap_difference(std::vector<double>{1, 2}, std::vector<double>{1}, {100, 0}).low));
}

/// Quantiles of a gamma-like shape: skewed, its moments computed from the values themselves.
std::vector<double> skewed(std::size_t n) {
  std::vector<double> values;
  for (std::size_t i = 0; i < n; ++i)
    values.push_back(-std::log(1 - (static_cast<double>(i) + 0.5) / static_cast<double>(n)));
  return values;
}

struct Moments {
  double mean = 0, variance = 0, third = 0;
};

Moments moments_of(const std::vector<double>& values) {
  Moments m{.mean = mean_of(values)};
  for (const double x : values) {
    m.variance += std::pow(x - m.mean, 2) / static_cast<double>(values.size());
    m.third += std::pow(x - m.mean, 3) / static_cast<double>(values.size());
  }
  return m;
}

// The expansion of BCa for a mean: m + s / sqrt(n) (z + (2 z^2 + 1) skewness / (6 sqrt(n))) + O(1 / n), s without n - 1
// (Hall, Ann. Statist. 16, 1988). Its middle lies above the mean by the second term, of which the next is a tenth here.
TEST(Bootstrap, OfALargeSampleAgreesWithItsExpansion) {
  const std::vector<double> values = skewed(200);
  const Moments m = moments_of(values);
  const double z = 1.959964, root = std::sqrt(200.0), sd = std::sqrt(m.variance), skewness = m.third / std::pow(sd, 3);
  const Bounds bounds = bootstrap_mean(values, kLarge);
  const double shift = sd / root * (2 * z * z + 1) * skewness / (6 * root);
  EXPECT_NEAR((bounds.high - bounds.low) / 2, z * sd / root, 0.03 * z * sd / root);
  EXPECT_NEAR((bounds.high + bounds.low) / 2 - m.mean, shift, 0.12 * shift);
}

TEST(Bootstrap, OfADifferenceAgreesWithItsExpansion) {
  const std::vector<double> first = skewed(150);
  std::vector<double> second = skewed(300);
  for (double& x : second) x *= 0.5;
  const Moments a = moments_of(first), b = moments_of(second);
  const double variance = a.variance / 150 + b.variance / 300, third = a.third / (150 * 150) - b.third / (300.0 * 300);
  const double z = 1.959964, shift = (2 * z * z + 1) * third / (6 * variance);
  const Bounds bounds = bootstrap_difference(first, second, kLarge);
  EXPECT_NEAR((bounds.high - bounds.low) / 2, z * std::sqrt(variance), 0.03 * z * std::sqrt(variance));
  EXPECT_NEAR((bounds.high + bounds.low) / 2 - (a.mean - b.mean), shift, 0.12 * shift);
}

TEST(Bootstrap, ComparisonsKeepTheTestAndTakeTheBounds) {
  const std::map<std::int64_t, double> stack = {{0, 3.30}, {1, 3.36}, {2, 3.31}}, base = {{0, 3.40}, {1, 3.50}, {2, 3.43}},
                                       elsewhere = {{10, 3.40}, {11, 3.50}, {12, 3.43}, {13, 3.47}};
  const IntervalMethod method{5000, 1};
  const Comparison t = compare_points(stack, base), paired = compare_points(stack, base, method);
  EXPECT_EQ(paired.p, t.p);
  EXPECT_EQ(paired.difference.mean, t.difference.mean);
  EXPECT_FALSE(t.difference.bounds.has_value());
  const Bounds expected = bootstrap_mean(std::vector<double>{3.30 - 3.40, 3.36 - 3.50, 3.31 - 3.43}, method);
  EXPECT_EQ(paired.difference.low(), expected.low);
  EXPECT_EQ(paired.difference.high(), expected.high);
  EXPECT_DOUBLE_EQ(paired.difference.half_width, (expected.high - expected.low) / 2);
  const Comparison welch = compare_points(stack, elsewhere, method);
  EXPECT_EQ(welch.p, compare_points(stack, elsewhere).p);
  EXPECT_EQ(
      welch.difference.low(),
      bootstrap_difference(std::vector<double>{3.30, 3.36, 3.31}, std::vector<double>{3.40, 3.50, 3.43, 3.47}, method).low);
}

/// Share of made-up experiments with `n` normal losses whose interval holds the mean.
double coverage(std::size_t n, std::uint64_t seed) {
  constexpr int kExperiments = 1500;
  std::mt19937_64 bits(seed);
  const auto uniform = [&] { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; };
  int held = 0;
  std::vector<double> sample(n);
  for (int draw = 0; draw < kExperiments; ++draw) {
    for (double& x : sample) x = std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
    const Bounds bounds = bootstrap_mean(sample, {250, static_cast<std::uint64_t>(draw)});
    held += bounds.low <= 0 && 0 <= bounds.high ? 1 : 0;
  }
  return static_cast<double>(held) / kExperiments;
}

// The numbers of docs/report.md. A share of 1500 experiments has a standard deviation of at most 1.1%. Over three values
// hardly more than their own range is left, which holds the median of a symmetric distribution in 1 - 2 / 2^3 = 75%.
TEST(Bootstrap, HoldsTheMeanAsOftenAsTheGuideSays) {
  EXPECT_NEAR(coverage(3, 1), 0.75, 0.03);
  EXPECT_NEAR(coverage(5, 2), 0.83, 0.03);
  EXPECT_NEAR(coverage(10, 3), 0.90, 0.03);
  EXPECT_NEAR(coverage(30, 4), 0.935, 0.025);
}

}  // namespace test_bootstrap
}  // namespace equisweep
