// The verdict's picture: means and intervals where they belong, one plot a model, nothing drawn of what is not there.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_differences {

using testing::FixtureSweep;
using ::testing::HasSubstr;

void add(FixtureSweep& sweep, const std::string& model, const std::string& stack, const std::vector<double>& losses,
         const std::string& state = "done") {
  for (std::size_t seed = 0; seed < losses.size(); ++seed)
    sweep.runs.push_back({.model = model,
                          .stack = stack,
                          .baseline = stack == "base",
                          .seed = static_cast<std::int64_t>(seed),
                          .state = state,
                          .evals = {{0, 6}, {200, losses[seed]}}});
}

class ReportDifferences : public SweepFolder {
 protected:
  std::optional<Figure> figure(const FixtureSweep& sweep) {
    const ReportData data(database(sweep));
    const auto results = compare(data);
    return differences_figure({data, results});
  }
};

// up: differences -0.5, -0.4, -0.5: mean -7/15, sd 1/sqrt(300), standard error 1/30; t(0.975, 2) = 4.302653.
TEST_F(ReportDifferences, AreTheMeansAndTheirIntervals) {
  FixtureSweep sweep;
  add(sweep, "a", "base", {4.0, 4.2, 4.4}), add(sweep, "a", "up", {3.5, 3.8, 3.9});
  add(sweep, "a", "gone", {4, 4, 4}, "diverged");
  add(sweep, "b", "base", {4.0, 4.2, 4.4}), add(sweep, "b", "gone", {4, 4, 4}, "diverged");
  add(sweep, "c", "base", {4.0, 4.1}), add(sweep, "c", "up", {4.1, 4.3});
  const auto found = figure(sweep);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->plots.size(), 2U) << "a and c; on b nothing can be compared";
  const Plot& a = found->plots[0];
  EXPECT_EQ(a.title, "a");
  ASSERT_EQ(a.y_ticks.size(), 1U);
  EXPECT_EQ(a.y_ticks[0].label, "up");
  ASSERT_EQ(a.series.size(), 3U) << "the line of no difference, the interval, the mean";
  for (const auto& p : a.series[0].points) EXPECT_EQ(p.x, 0);
  const double mean = -7.0 / 15, half = 4.302653 / 30;
  ASSERT_EQ(a.series[1].points.size(), 2U);
  EXPECT_NEAR(a.series[1].points[0].x, mean - half, 1e-6);
  EXPECT_NEAR(a.series[1].points[1].x, mean + half, 1e-6);
  ASSERT_EQ(a.series[2].points.size(), 1U);
  EXPECT_EQ(a.series[2].kind, Series::Kind::points);
  EXPECT_NEAR(a.series[2].points[0].x, mean, 1e-12);
  for (const std::size_t s : {1U, 2U})
    for (const auto& p : a.series[s].points) EXPECT_EQ(p.y, a.y_ticks[0].at);
  EXPECT_EQ(found->data.size, 2U);
  EXPECT_THAT(found->caption, HasSubstr("n = 2 to 3"));
  EXPECT_THAT(found->alternative, HasSubstr("up on a: −0.4667 (−0.6101 to −0.3232)."));
}

TEST_F(ReportDifferences, OfOneSeedHaveNoIntervalAndOfNoneThereIsNoPicture) {
  FixtureSweep sweep;
  add(sweep, "a", "base", {4.0}), add(sweep, "a", "up", {3.5});
  const auto found = figure(sweep);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->plots.size(), 1U);
  ASSERT_EQ(found->plots[0].series.size(), 2U);
  EXPECT_EQ(found->plots[0].series[1].points[0].x, -0.5);
  sweep.runs.resize(1);
  EXPECT_FALSE(figure(sweep));
}

}  // namespace test_report_differences
}  // namespace equisweep
