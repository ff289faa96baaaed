// What the statistics promise about chance, on 10,000 made-up experiments each. Seeded: the same numbers every time.
//
// A share of 95% over 10,000 draws has a standard deviation of 0.22%, so the 1% of the tests is four and a half of them.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numbers>
#include <random>

#include "analysis/report/compare.h"

namespace equisweep {
namespace test_statistics_simulation {

constexpr int kDraws = 10'000;

class Normal {
 public:
  explicit Normal(std::uint64_t seed) : bits_(seed) {}
  double operator()(double mean, double sd) {
    const double u = (static_cast<double>(bits_() >> 11) + 0.5) * 0x1p-53, v = static_cast<double>(bits_() >> 11) * 0x1p-53;
    return mean + sd * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  }

 private:
  std::mt19937_64 bits_;
};

using Losses = std::map<std::int64_t, double>;

TEST(Simulation, TheIntervalOfAMeanHoldsItNinetyFiveTimesInAHundred) {
  for (const int n : {2, 3, 5}) {
    Normal normal(11);
    int held = 0;
    std::vector<double> sample(static_cast<std::size_t>(n));
    for (int draw = 0; draw < kDraws; ++draw) {
      for (double& x : sample) x = normal(3.4, 0.02);
      const Interval i = interval_of(sample);
      held += std::abs(i.mean - 3.4) <= i.half_width ? 1 : 0;
    }
    EXPECT_NEAR(held, 0.95 * kDraws, 0.01 * kDraws) << n;
  }
}

// Seeds that move both stacks alike: pairs use it, and the interval of the difference still holds.
TEST(Simulation, TheIntervalOfAPairedDifferenceHoldsIt) {
  Normal normal(12);
  int held = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    Losses stack, baseline;
    for (std::int64_t seed = 0; seed < 3; ++seed) {
      const double of_seed = normal(0, 0.05);
      stack[seed] = 3.3 + of_seed + normal(0, 0.01);
      baseline[seed] = 3.4 + of_seed + normal(0, 0.02);
    }
    const Interval d = compare_points(stack, baseline).difference;
    held += std::abs(d.mean + 0.1) <= d.half_width ? 1 : 0;
  }
  EXPECT_NEAR(held, 0.95 * kDraws, 0.01 * kDraws);
}

/// Share of experiments without any effect in which at least one of `stacks` is called better or worse.
double false_positives(int stacks, int seeds, std::uint64_t seed_of_draws) {
  Normal normal(seed_of_draws);
  int called = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    Losses baseline;
    for (int seed = 0; seed < seeds; ++seed) baseline[seed] = normal(3.4, 0.02);
    std::vector<Comparison> comparisons;
    std::vector<double> p;
    for (int stack = 0; stack < stacks; ++stack) {
      Losses losses;
      for (int seed = 0; seed < seeds; ++seed) losses[seed] = normal(3.4, 0.02);
      comparisons.push_back(compare_points(losses, baseline));
      p.push_back(comparisons.back().p);
    }
    const std::vector<double> adjusted = holm(p);
    bool any = false;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const Outcome outcome = outcome_of(comparisons[i], adjusted[i]);
      any = any || outcome == Outcome::better || outcome == Outcome::worse;
    }
    called += any ? 1 : 0;
  }
  return static_cast<double>(called) / kDraws;
}

TEST(Simulation, TheVerdictIsWrongFiveTimesInAHundredWithoutAnEffect) {
  EXPECT_NEAR(false_positives(1, 3, 13), 0.05, 0.01);
  EXPECT_NEAR(false_positives(1, 5, 14), 0.05, 0.01);
}

TEST(Simulation, HolmKeepsTheWholeFamilyBelowIt) {
  // Comparisons with one baseline are correlated, so the share lies somewhat below 5%; without Holm it would be near 12%.
  const double share = false_positives(4, 3, 15);
  EXPECT_LT(share, 0.06);
  EXPECT_GT(share, 0.02);
}

/// Share of experiments in which a true difference of the smallest detectable size is found by one test alone. Seeds are
/// shared (pairs) or not (Welch), and no seed moves both stacks alike.
double power_at_the_smallest_detectable(int seeds, bool shared, std::uint64_t seed_of_draws) {
  Normal normal(seed_of_draws);
  const double n = seeds, sd = 0.02;
  const Comparison truth{.difference = {.n = static_cast<std::size_t>(seeds), .sd = sd * std::sqrt(shared ? 2 : 2 / n)},
                         .paired = shared,
                         .df = shared ? n - 1 : 2 * n - 2};
  const double effect = smallest_detectable_difference(truth);
  int seen = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    Losses stack, baseline;
    for (int i = 0; i < seeds; ++i) stack[i] = normal(3.4 - effect, sd), baseline[shared ? i : 100 + i] = normal(3.4, sd);
    const Comparison c = compare_points(stack, baseline);
    seen += outcome_of(c, c.p) == Outcome::better ? 1 : 0;
  }
  return static_cast<double>(seen) / kDraws;
}

TEST(Simulation, TheSmallestDetectableDifferenceHasEightyPercentPower) {
  EXPECT_NEAR(power_at_the_smallest_detectable(3, true, 16), 0.8, 0.016);  // four standard deviations of 10,000 draws
  EXPECT_NEAR(power_at_the_smallest_detectable(5, true, 17), 0.8, 0.016);
  // Welch estimates fewer degrees of freedom than the 2n - 2 that this true difference is computed for.
  EXPECT_NEAR(power_at_the_smallest_detectable(5, false, 18), 0.8, 0.03);
}

}  // namespace test_statistics_simulation
}  // namespace equisweep
