// The numbers of a report against a sweep that was computed by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "analysis/report/compare.h"
#include "analysis/report/report.h"
#include "analysis/report/section.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_report_numbers {

namespace fs = std::filesystem;
using testing::FixtureRun;
using testing::FixtureSweep;

class Report : public ::testing::Test {
 protected:
  fs::path database(const FixtureSweep& sweep) {
    fs::remove(folder_ / "sweep.db");
    testing::write_sweep(folder_ / "sweep.db", sweep);
    return folder_ / "sweep.db";
  }

  std::string verdict(const FixtureSweep& sweep) {
    const ReportData data(database(sweep));
    const auto results = compare(data);
    return verdict_text({data, results});
  }

  TempFolder folder_;
};

FixtureRun run(const std::string& stack, double lr_scale, std::int64_t seed, double final_loss,
               const std::string& state = "done") {
  FixtureRun r{.stack = stack, .baseline = stack == "base", .lr_scale = lr_scale, .seed = seed, .state = state};
  r.evals = {{0, 6.0}, {100, 5.0}, {200, final_loss}};
  r.step_seconds = stack == "base" ? 0.01 : 0.02;
  return r;
}

// Baseline 4.0, 4.2, 4.4. good: differences -0.5, -0.4, -0.5: mean -7/15, sd 1/sqrt(300), t = -14, df 2. Its better mean at
// lr_scale 2 holds a diverged seed. same: differences 0.1, -0.1, 0.1: mean 1/30, sd 0.2/sqrt(3), t = 0.5.
FixtureSweep by_hand() {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("base", 1, 1, 4.2), run("base", 1, 2, 4.4), run("base", 2, 0, 5.0),
                run("base", 2, 1, 5.0), run("base", 2, 2, 5.0), run("good", 1, 0, 3.5), run("good", 1, 1, 3.8),
                run("good", 1, 2, 3.9), run("good", 2, 0, 3.0), run("good", 2, 1, 3.0), run("good", 2, 2, 3.0, "diverged"),
                run("same", 1, 0, 4.1), run("same", 1, 1, 4.1), run("same", 1, 2, 4.5)};
  return sweep;
}

TEST_F(Report, ComparesTheBestLearningRatesBySeed) {
  const ReportData data(database(by_hand()));
  const auto results = compare(data);
  ASSERT_EQ(results.size(), 2U);
  const double t975 = 4.302652729749462;

  const StackResult& good = results[0];
  EXPECT_EQ(good.arm->chosen().lr_scale, 1) << "a diverged seed makes a mean infinite";
  EXPECT_NEAR(good.loss.mean, 11.2 / 3, 1e-12);
  EXPECT_TRUE(good.comparison.paired);
  EXPECT_NEAR(good.comparison.difference.mean, -7.0 / 15, 1e-12);
  EXPECT_NEAR(good.comparison.difference.sd, 1 / std::sqrt(300.0), 1e-12);
  EXPECT_NEAR(good.comparison.difference.half_width, t975 / 30, 1e-10);
  EXPECT_NEAR(good.comparison.t, -14, 1e-9);
  EXPECT_NEAR(good.adjusted_p, 2 * (1 - 14 / std::sqrt(198.0)), 1e-9);
  EXPECT_NEAR(good.detectable / smallest_detectable_difference({.difference = {.n = 3, .sd = 1}, .df = 2}), 1.0 / 30, 1e-12)
      << "in units of the standard error";
  EXPECT_EQ(good.outcome, Outcome::better);
  // From 5 at step 100 to 11.2/3 at step 200: 4.2 after 0.8 / (19/15) of the way.
  ASSERT_TRUE(good.reached && good.baseline_reached);
  EXPECT_NEAR(good.reached->step, 100 + 100 * 0.8 * 15 / 19, 1e-9);
  EXPECT_NEAR(good.reached->tokens, 100 * good.reached->step, 1e-6);
  EXPECT_NEAR(good.reached->seconds, 0.02 * good.reached->step, 1e-9);
  EXPECT_NEAR(good.baseline_reached->step, 200, 1e-9);

  const StackResult& same = results[1];
  EXPECT_NEAR(same.comparison.difference.mean, 1.0 / 30, 1e-12);
  EXPECT_NEAR(same.adjusted_p, 2.0 / 3, 1e-9);
  EXPECT_EQ(same.outcome, Outcome::indistinguishable);
  EXPECT_FALSE(same.reached) << "4.233 never comes down to 4.2";
}

TEST_F(Report, VerdictInWords) {
  EXPECT_EQ(
      verdict(by_hand()),
      "Of 2 comparisons with the tuned base (2 stacks, n = 3), 1 is better and 1 is not distinguishable, at a level of 0.05 "
      "after Holm's correction for 2 tests. Better: good.\n\n"
      "On m, the base baseline at its best learning rate (lr_scale 1) ended at 4.2000 ± 0.4968 nats per token (n = 3). good "
      "ended 0.4667 nats per token lower (95% interval 0.3232 to 0.6101, paired by seed, n = 3, p = 0.01 after Holm's "
      "correction), and reached the baseline's final loss in 82% of its steps and 163% of its training time. same is not "
      "distinguishable from the baseline at n = 3: difference +0.0333 ± 0.2868 (smallest detectable 0.3769 by this test "
      "alone, p = 0.67 after "
      "Holm's correction). Best at the edge of the learning rates that were tried, and so perhaps not fully tuned: base, "
      "good.\n\n"
      "The lowest mean loss, 3.7333 (good on m), is 1.267 nats below the unigram entropy of the corpus, 5.000. 1 of 15 runs "
      "diverged; they count as infinite losses. The seeds that chose the learning rates also support these "
      "claims, "
      "so the differences still await fresh seeds.");
}

TEST_F(Report, TwoSeedsGiveIntervalsAndNoPValue) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("base", 1, 1, 4.2), run("good", 1, 0, 3.5), run("good", 1, 1, 3.69)};
  const std::string text = verdict(sweep);
  // Differences -0.5 and -0.51: mean -0.505, half width t(0.975; 1) * 0.005 = 0.0635.
  EXPECT_NE(text.find("95% interval 0.4415 to 0.5685, paired by seed, n = 2)"), std::string::npos) << text;
  EXPECT_EQ(text.find("p ="), std::string::npos) << text;
  EXPECT_EQ(text.find("p <"), std::string::npos) << text;
}

TEST_F(Report, OneSeedMakesNoClaim) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("good", 1, 0, 3.5)};
  EXPECT_NE(verdict(sweep).find("No claim about good: one seed says nothing about chance (difference −0.5000 at n = 1)."),
            std::string::npos)
      << verdict(sweep);
}

TEST_F(Report, NanNeverWins) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("base", 2, 0, std::numeric_limits<double>::quiet_NaN()),
                run("base", 4, 0, 1.0, "failed")};
  const ReportData data(database(sweep));
  EXPECT_EQ(data.arms.at(0).chosen().lr_scale, 1);
  EXPECT_EQ(data.arms.at(0).points.at(1).lost + data.arms.at(0).points.at(2).lost, 2U);
}

TEST_F(Report, UnsharedSeedsAreComparedByWelch) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("base", 1, 1, 4.2), run("base", 1, 2, 4.1),
                run("good", 1, 7, 3.5), run("good", 1, 8, 3.8), run("good", 1, 9, 3.6)};
  const ReportData data(database(sweep));
  const auto results = compare(data);
  EXPECT_FALSE(results.at(0).comparison.paired);
  EXPECT_NEAR(results.at(0).comparison.difference.mean, 10.9 / 3 - 4.1, 1e-12);
}

TEST_F(Report, APointWithPendingSeedsDoesNotBeatACompleteOne) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0), run("base", 1, 1, 4.2), run("base", 2, 0, 3.0), run("base", 2, 1, 9, "queued")};
  const ReportData data(database(sweep));
  EXPECT_EQ(data.arms.at(0).chosen().lr_scale, 1);
  EXPECT_FALSE(data.complete());
  EXPECT_EQ(verdict(sweep).find("Preliminary: 3 of 4 runs have a result."), 0U) << verdict(sweep);
}

TEST_F(Report, UsesTheNewestAttemptOfEachStep) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 1, 0, 4.0)};
  const fs::path path = database(sweep);
  testing::add_attempt(path, 1, 2, 100, {{200, 3.25}});  // resumed at 100: its 200 counts, not the first one
  const ReportData data(path);
  const std::vector<EvalRow> evals = data.evals(*data.runs.at(0));
  ASSERT_EQ(evals.size(), 3U);
  EXPECT_EQ(evals.at(2).loss, 3.25);
  EXPECT_EQ(data.runs.at(0)->final_loss(), 3.25);
}

}  // namespace test_report_numbers
}  // namespace equisweep
