// Fewer points in a plot: no spike and no gap is lost.
#include "analysis/report/reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_reduce {

std::vector<Series::Point> wave(std::size_t n) {
  std::vector<Series::Point> points;
  for (std::size_t i = 0; i < n; ++i)
    points.push_back({.x = static_cast<double>(i), .y = std::sin(1e-3 * static_cast<double>(i))});
  return points;
}

bool holds(const std::vector<std::size_t>& kept, std::size_t i) {
  return std::find(kept.begin(), kept.end(), i) != kept.end();
}

TEST(Reduce, KeepsASingleSpikeWhereverItStands) {
  for (const std::size_t at : {std::size_t{1}, std::size_t{17}, std::size_t{4999}, std::size_t{9998}}) {
    for (const double spike : {7.0, -7.0}) {
      auto points = wave(10000);
      points[at].y = spike;
      const auto kept = shown_points(points, Series::Kind::line, 100);
      EXPECT_TRUE(holds(kept, at)) << at;
      EXPECT_LE(kept.size(), 2U * 100 + 2);
      EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
      EXPECT_TRUE(holds(kept, 0) && holds(kept, points.size() - 1));
    }
  }
}

// By brute force: in each column the kept points span what all of its points span.
TEST(Reduce, EveryColumnSpansWhatItSpanned) {
  auto points = wave(5000);
  for (std::size_t i = 0; i < points.size(); ++i) points[i].y += std::sin(78.233 * static_cast<double>(i * i % 977));
  constexpr std::size_t kColumns = 64;
  const auto kept = shown_points(points, Series::Kind::line, kColumns);
  for (std::size_t c = 0; c < kColumns; ++c) {
    double low = INFINITY, high = -INFINITY, kept_low = INFINITY, kept_high = -INFINITY;
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (std::min(kColumns - 1, static_cast<std::size_t>(points[i].x * kColumns / 4999)) != c) continue;
      low = std::min(low, points[i].y), high = std::max(high, points[i].y);
      if (holds(kept, i)) kept_low = std::min(kept_low, points[i].y), kept_high = std::max(kept_high, points[i].y);
    }
    EXPECT_EQ(kept_low, low) << c;
    EXPECT_EQ(kept_high, high) << c;
  }
}

TEST(Reduce, ALineBreaksWhereItDidAndABandKeepsBothOfItsEdges) {
  auto points = wave(3000);
  points[1500].y = kNan;
  EXPECT_TRUE(holds(shown_points(points, Series::Kind::line, 50), 1500));
  points = wave(3000);
  for (auto& p : points) p.high = p.y + 1;
  points[700].high = 9;
  EXPECT_TRUE(holds(shown_points(points, Series::Kind::band, 50), 700));
  EXPECT_FALSE(holds(shown_points(points, Series::Kind::line, 50), 700));
}

TEST(Reduce, FewPointsAndPointsOfOnePlaceStay) {
  EXPECT_EQ(shown_points(wave(200), Series::Kind::line, 100).size(), 200U);
  EXPECT_TRUE(shown_points({}).empty());
  std::vector<Series::Point> one(1000, Series::Point{.x = 3, .y = 1});
  one[400].y = 5, one[500].y = -5;
  const auto kept = shown_points(one, Series::Kind::line, 10);
  EXPECT_TRUE(holds(kept, 400) && holds(kept, 500));
}

class ReduceInReport : public SweepFolder {};

TEST_F(ReduceInReport, ASpikeAmongThousandsOfEvaluationsIsDrawnAndListed) {
  testing::FixtureSweep sweep;
  for (const std::int64_t seed : {0, 1}) {
    testing::FixtureRun run{.baseline = true, .seed = seed, .evals = {}};
    for (std::int64_t step = 0; step <= 4000; ++step)
      run.evals.emplace_back(step, seed == 1 && step == 2345 ? 77.5 : 6 - 1e-4 * static_cast<double>(step));
    sweep.runs.push_back(run);
  }
  const Content content = content_of(curves_section, database(sweep));
  const auto& figure = std::get<Figure>(content.at(0));
  double drawn = 0;
  for (const Series& series : figure.plots.at(0).series) {
    EXPECT_LE(series.points.size(), 2 * kPlotColumns + 2);
    for (const Series::Point& p : series.points) drawn = std::max(drawn, p.y);
  }
  EXPECT_EQ(drawn, 77.5);
  EXPECT_NE(figure.data.lines.find(",2345,234500,"), std::string::npos);
  EXPECT_NE(figure.data.lines.find(",77.5\n"), std::string::npos);
  EXPECT_LE(figure.data.size, 2 * (2 * kPlotColumns + 2));
}

TEST_F(ReduceInReport, ManySingleRunsAreNotDrawnAndTheCaptionSaysSo) {
  for (const std::int64_t seeds : {30, 31}) {
    testing::FixtureSweep sweep;
    for (std::int64_t seed = 0; seed < seeds; ++seed)
      sweep.runs.push_back(
          {.baseline = true, .seed = seed, .evals = {{0, 6.0}, {10, 5.0}, {20, 4.0 + 0.01 * static_cast<double>(seed)}}});
    const Content content = content_of(curves_section, database(sweep));
    const auto& steps = std::get<Figure>(content.at(0));
    const auto faint = std::count_if(steps.plots.at(0).series.begin(), steps.plots.at(0).series.end(),
                                     [](const Series& s) { return s.kind == Series::Kind::faint; });
    EXPECT_EQ(faint, seeds == 30 ? 30 : 0);
    EXPECT_EQ(steps.caption.find("31 single runs are not drawn") != std::string::npos, seeds == 31) << steps.caption;
    EXPECT_EQ(steps.caption.find("faint lines: single runs") != std::string::npos, seeds == 30) << steps.caption;
    EXPECT_EQ(steps.data.size, static_cast<std::size_t>(3 * seeds)) << "its table has them all the same";
    for (const std::size_t other : {1, 2}) {
      EXPECT_EQ(std::get<Figure>(content.at(other)).data_of, steps.id) << "one table for the three axes";
      EXPECT_EQ(std::get<Figure>(content.at(other)).data.size, 0U);
    }
  }
}

}  // namespace test_report_reduce
}  // namespace equisweep
