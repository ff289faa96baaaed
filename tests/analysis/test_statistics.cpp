// Statistics against closed forms and published examples.
#include "analysis/statistics/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace equisweep {
namespace test_statistics {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Student 1908 (Cushny and Peebles): extra hours of sleep of ten patients under two drugs.
const std::vector<double> kDrug1 = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
const std::vector<double> kDrug2 = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};

TEST(StudentQuantile, ClosedFormsForOneTwoAndFourDegrees) {
  for (const double p : {0.6, 0.8, 0.9, 0.975, 0.995, 0.9999}) {
    const double a = 4 * p * (1 - p);
    EXPECT_NEAR(student_quantile(p, 1) / std::tan(std::numbers::pi * (p - 0.5)), 1, 1e-10) << p;
    EXPECT_NEAR(student_quantile(p, 2) / (2 * (p - 0.5) * std::sqrt(2 / a)), 1, 1e-10) << p;
    const double q = std::cos(std::acos(std::sqrt(a)) / 3) / std::sqrt(a);
    EXPECT_NEAR(student_quantile(p, 4) / (2 * std::sqrt(q - 1)), 1, 1e-10) << p;
    EXPECT_NEAR(student_quantile(1 - p, 4), -student_quantile(p, 4), 1e-9);
  }
}

TEST(TwoSidedP, ClosedFormForOneAndTwoDegrees) {
  for (const double t : {0.1, 1.0, 4.3, 60.0}) {
    EXPECT_NEAR(two_sided_p(t, 1), 1 - 2 / std::numbers::pi * std::atan(t), 1e-12);
    EXPECT_NEAR(two_sided_p(-t, 2), 1 - t / std::sqrt(2 + t * t), 1e-12);
  }
  EXPECT_EQ(two_sided_p(kInfinity, 3), 0);
}

TEST(IntervalOf, HandComputed) {
  // mean 4, squares 4 + 0 + 4, sd 2, t(0.975; 2) = 4.302652729749462
  const Interval i = interval_of(std::vector<double>{2, 4, 6});
  EXPECT_DOUBLE_EQ(i.mean, 4);
  EXPECT_DOUBLE_EQ(i.sd, 2);
  EXPECT_NEAR(i.half_width, 4.302652729749462 * 2 / std::sqrt(3.0), 1e-10);
  EXPECT_EQ(i.n, 3U);
}

TEST(IntervalOf, OneValueHasNoWidthAndNoneHasNoMean) {
  const Interval one = interval_of(std::vector<double>{5});
  EXPECT_EQ(one.mean, 5);
  EXPECT_TRUE(std::isnan(one.half_width) && std::isnan(one.sd));
  const Interval none = interval_of({});
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_EQ(none.n, 0U);
}

TEST(PairedDifference, StudentsSleepData) {
  const Comparison c = paired_difference(kDrug2, kDrug1);
  EXPECT_NEAR(c.difference.mean, 1.58, 1e-12);
  EXPECT_NEAR(c.t, 4.0621, 5e-5);
  EXPECT_EQ(c.df, 9);
  EXPECT_NEAR(c.p, 0.002833, 5e-7);
  EXPECT_NEAR(c.difference.mean - c.difference.half_width, 0.7001142, 5e-8);
  EXPECT_NEAR(c.difference.mean + c.difference.half_width, 2.4598858, 5e-8);
  EXPECT_TRUE(c.paired);
}

TEST(WelchDifference, StudentsSleepDataAsIndependentSamples) {
  const Comparison c = welch_difference(kDrug1, kDrug2);
  EXPECT_NEAR(c.t, -1.8608, 5e-5);
  EXPECT_NEAR(c.df, 17.776, 5e-4);
  EXPECT_NEAR(c.p, 0.07939, 5e-6);
  EXPECT_NEAR(c.difference.mean - c.difference.half_width, -3.3654832, 5e-8);
  EXPECT_NEAR(c.difference.mean + c.difference.half_width, 0.2054832, 5e-8);
}

TEST(Comparison, NoPValueBelowThreeSeeds) {
  const std::vector<double> a = {1.0, 1.1, 1.3}, b = {2.0, 2.2, 2.1};
  for (const std::size_t n : {1UL, 2UL, 3UL}) {
    const std::span<const double> first(a.data(), n), second(b.data(), n);
    EXPECT_EQ(paired_difference(first, second).printable_p().has_value(), n >= 3);
    EXPECT_EQ(welch_difference(first, second).printable_p().has_value(), n >= 3);
  }
}

// Seeds that do not differ at all are copies of one: no spread is no measure of chance.
TEST(Comparison, DifferencesWithoutSpreadHaveNoTest) {
  EXPECT_TRUE(std::isnan(paired_difference(std::vector<double>{2, 3, 4}, std::vector<double>{1, 2, 3}).p));
  EXPECT_TRUE(std::isnan(welch_difference(std::vector<double>{2, 2, 2}, std::vector<double>{1, 1, 1}).p));
  EXPECT_EQ(paired_difference(std::vector<double>{1, 2, 3}, std::vector<double>{1, 2, 3}).p, 1);
  EXPECT_EQ(paired_difference(std::vector<double>{1, 2, 3}, std::vector<double>{1, 2, 3}).t, 0);
}

TEST(Comparison, TheStandardErrorIsThatOfT) {
  const Comparison pairs = paired_difference(kDrug2, kDrug1), groups = welch_difference(kDrug2, kDrug1);
  EXPECT_NEAR(pairs.difference.mean / pairs.standard_error(), pairs.t, 1e-12);
  EXPECT_NEAR(groups.difference.mean / groups.standard_error(), groups.t, 1e-12);
}

double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

/// P(T > critical) of the noncentral t by its definition, T = (Z + ncp) / sqrt(V / df): the mean of 1 - Phi(critical s -
/// ncp) over the density of s = sqrt(V / df), by Simpson's rule.
double noncentral_tail(double critical, double df, double ncp) {
  const double log_scale = std::numbers::ln2 + df / 2 * std::log(df / 2) - std::lgamma(df / 2), end = 12;
  constexpr int kIntervals = 20'000;
  double sum = 0;
  for (int i = 0; i <= kIntervals; ++i) {
    const double s = end * i / kIntervals;
    const double density = s > 0 ? std::exp(log_scale + (df - 1) * std::log(s) - df * s * s / 2) : 0;
    const double weight = i == 0 || i == kIntervals ? 1 : i % 2 == 1 ? 4 : 2;
    sum += weight * density * normal_cdf(ncp - critical * s);
  }
  return sum * end / kIntervals / 3;
}

TEST(SmallestDetectableDifference, IsFoundWithItsPower) {
  for (const double df : {2.0, 4.0, 7.5, 30.0}) {
    for (const double power : {0.5, 0.8, 0.95}) {
      const Comparison groups{.difference = {.n = 3, .sd = 0.01}, .df = df};
      const double found = smallest_detectable_difference(groups, 0.05, power);
      EXPECT_NEAR(noncentral_tail(student_quantile(0.975, df), df, found / 0.01), power, 1e-6) << df << " " << power;
    }
  }
}

TEST(SmallestDetectableDifference, CountsThePairsAndKnowsWhereThereIsNoTest) {
  const Comparison pairs{.difference = {.n = 4, .sd = 0.02}, .paired = true, .df = 3};
  const Comparison groups{.difference = {.n = 4, .sd = 0.01}, .df = 3};  // the same standard error
  EXPECT_DOUBLE_EQ(smallest_detectable_difference(pairs), smallest_detectable_difference(groups));
  for (const double df : {0.0, kNan, kInfinity})
    EXPECT_TRUE(std::isnan(smallest_detectable_difference({.difference = {.n = 3, .sd = 0.01}, .df = df})));
  for (const double sd : {kNan, kInfinity})
    EXPECT_TRUE(std::isnan(smallest_detectable_difference({.difference = {.n = 3, .sd = sd}, .df = 2})));
  EXPECT_TRUE(std::isnan(smallest_detectable_difference(paired_difference(std::vector<double>{1}, std::vector<double>{2}))));
}

TEST(Holm, WorkedExample) {
  // Sorted 0.005, 0.01, 0.03, 0.04: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04 raised to the one before it.
  const std::vector<double> adjusted = holm(std::vector<double>{0.01, 0.04, 0.03, 0.005});
  const std::vector<double> expected = {0.03, 0.06, 0.06, 0.02};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(adjusted[i], expected[i], 1e-15);
}

TEST(Holm, NanIsNoTestAndOneIsTheLimit) {
  const std::vector<double> adjusted = holm(std::vector<double>{0.6, kNan, 0.02});
  EXPECT_EQ(adjusted[0], 0.6);
  EXPECT_TRUE(std::isnan(adjusted[1]));
  EXPECT_EQ(adjusted[2], 0.04);
  EXPECT_EQ(holm(std::vector<double>{0.7, 0.9})[0], 1);
}

TEST(RankingMean, DivergedIsInfiniteAndNanNeverWins) {
  EXPECT_EQ(ranking_mean(std::vector<double>{1, 3}), 2);
  EXPECT_EQ(ranking_mean(std::vector<double>{1, kNan}), kInfinity);
  EXPECT_EQ(ranking_mean(std::vector<double>{1, kInfinity}), kInfinity);
  EXPECT_EQ(ranking_mean(std::vector<double>{-kInfinity, kInfinity}), kInfinity);
  EXPECT_EQ(ranking_mean({}), kInfinity);
}

}  // namespace test_statistics
}  // namespace equisweep
