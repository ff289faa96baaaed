#include "core/median.h"

#include <gtest/gtest.h>

#include <cmath>

namespace equisweep {
namespace test_median {

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoThere) {
  const double infinity = std::numeric_limits<double>::infinity(), large = std::numeric_limits<double>::max();
  struct Case {
    std::vector<double> values;
    double median;
  };
  for (const Case& c : {Case{{3}, 3}, Case{{9, 1}, 5}, Case{{5, -1, 2}, 2}, Case{{4, 1, 9, 2}, 3}, Case{{2, 2, 2, 7}, 2},
                        Case{{infinity, 1, 2}, 2}, Case{{infinity, 1}, infinity}, Case{{infinity, 1, infinity}, infinity},
                        Case{{large, large}, large}})
    EXPECT_EQ(median(c.values), c.median) << ::testing::PrintToString(c.values);
  EXPECT_TRUE(std::isnan(median({})));
}

}  // namespace test_median
}  // namespace equisweep
