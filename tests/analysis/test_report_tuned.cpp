// The report of a sweep that tunes: claims from the runs on fresh seeds alone, learning rates from the runs that tune.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "analysis/report/compare.h"
#include "analysis/report/report.h"
#include "analysis/report/section.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_report_tuned {

using equisweep::testing::FixtureRun;
using equisweep::testing::FixtureSweep;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

FixtureRun run(const char* phase, const std::string& stack, double lr_scale, std::int64_t seed, double final_loss,
               const std::string& state = "done") {
  FixtureRun r{
      .stack = stack, .baseline = stack == "base", .lr_scale = lr_scale, .seed = seed, .state = state, .phase = phase};
  r.evals = {{0, 6.0}, {100, 5.0}, {200, final_loss}};
  return r;
}

// In tuning good is far ahead; on fresh seeds it is behind by 0.1, 0.1, 0.4.
FixtureSweep tuned_sweep() {
  FixtureSweep sweep;
  sweep.runs = {run("tune", "base", 1, 0, 4.0),     run("tune", "base", 2, 0, 4.5),     run("tune", "good", 1, 0, 1.5),
                run("tune", "good", 2, 0, 1.0),     run("tune", "good", 4, 0, 1.2),     run("confirm", "base", 1, 10, 4.0),
                run("confirm", "base", 1, 11, 4.2), run("confirm", "base", 1, 12, 4.1), run("confirm", "good", 2, 10, 4.1),
                run("confirm", "good", 2, 11, 4.3), run("confirm", "good", 2, 12, 4.5)};
  return sweep;
}

class TunedReport : public ::testing::Test {
 protected:
  std::filesystem::path database(const FixtureSweep& sweep) {
    std::filesystem::remove(folder_ / "sweep.db");
    equisweep::testing::write_sweep(folder_ / "sweep.db", sweep);
    return folder_ / "sweep.db";
  }
  std::string verdict(const FixtureSweep& sweep) {
    const ReportData data(database(sweep));
    const auto results = compare(data);
    return verdict_text({data, results});
  }
  TempFolder folder_;
};

TEST_F(TunedReport, ClaimsComeFromTheRunsThatConfirm) {
  const ReportData data(database(tuned_sweep()));
  const auto results = compare(data);
  ASSERT_EQ(results.size(), 1U);
  EXPECT_NEAR(results[0].loss.mean, 4.3, 1e-12);
  EXPECT_EQ(results[0].comparison.difference.n, 3U);
  EXPECT_NEAR(results[0].comparison.difference.mean, 0.2, 1e-12);
  EXPECT_EQ(results[0].arm->chosen().lr_scale, 2);
  ASSERT_EQ(data.tuning_arms.size(), 2U);
  EXPECT_EQ(data.tuning_arms[1].points.size(), 3U);
  EXPECT_EQ(data.tuning_arms[1].chosen().mean, 1.0);
  const std::string text = verdict(tuned_sweep());
  EXPECT_THAT(text, HasSubstr("ended at 4.1000 ± 0.2484 nats per token (n = 3)."));
  EXPECT_THAT(text, HasSubstr("Learning rates were chosen on seed 0, and no run of that choice counts here."));
  EXPECT_THAT(text,
              HasSubstr("On m the baseline base was tuned with 2 trials and good with 3: the comparison favours good."));
  EXPECT_THAT(text, Not(HasSubstr("still await fresh seeds")));
}

TEST_F(TunedReport, TheSectionOnLearningRatesShowsTheRunsThatTune) {
  const ReportData data(database(tuned_sweep()));
  const auto results = compare(data);
  const Content content = learning_rate_section({data, results});
  const Table* table = nullptr;
  for (const Block& block : content)
    if (const auto* t = std::get_if<Table>(&block)) table = t;
  ASSERT_NE(table, nullptr);
  std::vector<std::string> trials, means;
  for (const auto& row : table->rows) {
    means.push_back(row.at(3).shown);
    trials.push_back(row.at(5).shown);
  }
  EXPECT_THAT(trials, ElementsAre("2", "3"));
  EXPECT_THAT(means, ElementsAre("4.0000", "1.0000"));
  EXPECT_EQ(table->columns.at(5).title, "Trials");
}

TEST_F(TunedReport, WhatIsNotConfirmedYetIsNoClaim) {
  FixtureSweep sweep = tuned_sweep();
  std::erase_if(sweep.runs, [](const FixtureRun& r) { return r.phase == "confirm" && r.stack == "good"; });
  EXPECT_THAT(verdict(sweep), HasSubstr("No claim about good on m: its learning rate is still being chosen."));
  for (FixtureRun& r : sweep.runs)
    if (r.stack == "good") r.state = "diverged";
  EXPECT_THAT(verdict(sweep), HasSubstr("No claim about good on m: at every learning rate a seed diverged."));
  std::erase_if(sweep.runs, [](const FixtureRun& r) { return r.phase == "confirm"; });
  EXPECT_THAT(verdict(sweep), HasSubstr("No claim about base on m: its learning rate is still being chosen."));
}

TEST_F(TunedReport, SettingsOfTheFileCount) {
  FixtureSweep sweep = tuned_sweep();
  sweep.meta["report"] = R"({"title": "Both <tuned>", "figures": false})";
  write_report(database(sweep), folder_ / "report");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "report/figures/lr-m.svg"));
  std::ifstream in(folder_ / "report/index.html");
  const std::string html((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(html, HasSubstr("<title>Both &lt;tuned&gt;</title>"));
  sweep.meta["report"] = "not JSON";
  write_report(database(sweep), folder_ / "report", {.figures = false});  // damage is no reason not to report
}

}  // namespace test_report_tuned
}  // namespace equisweep
