// Ticks of axes: round numbers inside the range, few enough, told apart by their labels.
#include "analysis/report/axis.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

namespace equisweep {
namespace test_report_axis {

using ::testing::ElementsAre;

std::vector<std::string> labels(const std::vector<Plot::Tick>& ticks) {
  std::vector<std::string> out;
  for (const Plot::Tick& tick : ticks) out.push_back(tick.label);
  return out;
}

TEST(Axis, RoundNumbersWithTheDigitsThatTheyNeed) {
  EXPECT_THAT(labels(linear_ticks(0, 250, 5)), ElementsAre("0", "100", "200"));
  EXPECT_THAT(labels(linear_ticks(0.0135, 0.0141, 4)), ElementsAre("0.0136", "0.0138", "0.0140"));
  EXPECT_THAT(labels(linear_ticks(0, 2e6, 5)), ElementsAre("0", "0.5M", "1M", "1.5M", "2M"));
  EXPECT_THAT(labels(linear_ticks(0, 30000, 4)), ElementsAre("0", "10k", "20k", "30k"));
  EXPECT_THAT(labels(linear_ticks(-0.3, 0.3, 7)), ElementsAre("−0.3", "−0.2", "−0.1", "0.0", "0.1", "0.2", "0.3"));
  EXPECT_THAT(labels(linear_ticks(1e-7, 4e-7, 4)), ElementsAre("1e-07", "2e-07", "3e-07", "4e-07"));
}

TEST(Axis, PowersOfTenWhereThereAreTwo) {
  EXPECT_THAT(labels(log_ticks(5e-8, 0.3, 8)), ElementsAre("10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"));
  EXPECT_THAT(labels(log_ticks(1e-7, 1, 4)), ElementsAre("10⁻⁶", "10⁻⁴", "10⁻²", "1"));
  EXPECT_THAT(labels(log_ticks(1.2, 40, 4)), ElementsAre("2", "5", "10", "20"));
  EXPECT_THAT(labels(log_ticks(4e-8, 2e-7, 4)), ElementsAre("5·10⁻⁸", "1·10⁻⁷", "2·10⁻⁷"));
  EXPECT_THAT(labels(log_ticks(2.5, 9, 7)), ElementsAre("3", "4", "5", "6", "7", "8", "9"));
  EXPECT_THAT(labels(log_ticks(1, 100, 4)), ElementsAre("1", "10", "10²"));
}

TEST(Axis, InsideFewAndDistinctForRangesOfEverySize) {
  for (int e = -12; e <= 12; ++e) {
    for (const double from : {-3.7, 0.0, 1.0, 9.6, 123.456}) {
      for (const double span : {0.3, 1.0, 4.4, 77.0}) {
        const double low = from * std::pow(10, e), high = (from + span) * std::pow(10, e);
        for (const std::size_t most : {4U, 7U}) {
          const auto ticks = linear_ticks(low, high, most);
          EXPECT_LE(ticks.size(), most) << low << " " << high;
          EXPECT_GE(ticks.size(), 2U) << low << " " << high;
          for (const auto& tick : ticks) {
            EXPECT_GE(tick.at, low - 1e-6 * (high - low));
            EXPECT_LE(tick.at, high + 1e-6 * (high - low));
          }
          const auto text = labels(ticks);
          EXPECT_EQ(std::set<std::string>(text.begin(), text.end()).size(), ticks.size()) << low << " " << high;
        }
      }
    }
  }
}

TEST(Axis, NoTicksWhereThereIsNoRange) {
  EXPECT_TRUE(linear_ticks(1, 1, 5).empty());
  EXPECT_TRUE(linear_ticks(NAN, 1, 5).empty());
  EXPECT_TRUE(linear_ticks(0, INFINITY, 5).empty());
  EXPECT_TRUE(log_ticks(0, 1, 5).empty());
}

}  // namespace test_report_axis
}  // namespace equisweep
