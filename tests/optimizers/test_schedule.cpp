#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"
#include "optimizers/schedule.h"

namespace equisweep {
namespace test_schedule {

using nlohmann::json;
using ::testing::HasSubstr;

Schedule make(const json& given, std::int64_t horizon) {
  return Schedule(complete(schedule_fields(), given, "schedule"), horizon);
}

struct Expected {
  const char* given;
  std::int64_t horizon, step;
  double factor;
};

class ScheduleFactor : public ::testing::TestWithParam<Expected> {};

TEST_P(ScheduleFactor, FollowsTheFormula) {
  const auto& [given, horizon, step, factor] = GetParam();
  EXPECT_NEAR(make(json::parse(given), horizon).factor(step), factor, 1e-15) << given << " step " << step;
}

constexpr double kPi = std::numbers::pi;

INSTANTIATE_TEST_SUITE_P(Table, ScheduleFactor,
                         ::testing::Values(Expected{R"({})", 10, 1, 1}, Expected{R"({})", 10, 10, 1},
                                           Expected{R"({"warmup": 4})", 10, 1, 0.25}, Expected{R"({"warmup": 4})", 10, 4, 1},
                                           Expected{R"({"warmup": 4})", 10, 5, 1}, Expected{R"({"warmup": 10})", 10, 10, 1},
                                           Expected{R"({"type": "linear"})", 10, 1, 0.9},
                                           Expected{R"({"type": "linear"})", 10, 10, 0},
                                           Expected{R"({"type": "linear", "final": 0.2})", 10, 5, 0.6},
                                           Expected{R"({"type": "linear", "warmup": 2, "final": 0.2})", 10, 2, 1},
                                           Expected{R"({"type": "linear", "warmup": 2, "final": 0.2})", 10, 4, 0.8},
                                           Expected{R"({"type": "cosine"})", 8, 2, 0.5 * (1 + std::cos(kPi / 4))},
                                           Expected{R"({"type": "cosine"})", 8, 8, 0},
                                           Expected{R"({"type": "cosine", "final": 0.1})", 8, 4, 0.55},
                                           Expected{R"({"type": "cosine", "warmup": 3, "final": 0.1})", 11, 1, 1.0 / 3},
                                           Expected{R"({"type": "cosine", "warmup": 3, "final": 0.1})", 11, 7, 0.55},
                                           Expected{R"({"type": "wsd", "decay": 0.4})", 10, 6, 1},
                                           Expected{R"({"type": "wsd", "decay": 0.4})", 10, 7, 0.75},
                                           Expected{R"({"type": "wsd", "decay": 0.4})", 10, 10, 0},
                                           Expected{R"({"type": "wsd", "decay": 0.4, "final": 0.5})", 10, 8, 0.75},
                                           Expected{R"({"type": "wsd", "decay": 0.6, "warmup": 4})", 10, 4, 1},
                                           Expected{R"({"type": "wsd", "decay": 0.6, "warmup": 4})", 10, 5, 5.0 / 6},
                                           Expected{R"({"type": "wsd", "decay": 0.25})", 10, 7, 1},  // D = round(2.5) = 3
                                           Expected{R"({"type": "wsd", "decay": 0.25})", 10, 8, 2.0 / 3},
                                           Expected{R"({"type": "wsd", "decay": 1})", 4, 1, 0.75},
                                           Expected{R"({"type": "wsd", "decay": 0.1})", 5, 4, 1},  // D = round(0.5) = 1
                                           Expected{R"({"type": "wsd", "decay": 0.1})", 5, 5, 0}));

TEST(Schedule, StaysBetweenZeroAndOneAndNeverRisesAfterWarmUp) {
  for (const char* given : {R"({"type": "linear", "warmup": 7})", R"({"type": "cosine", "warmup": 7, "final": 0.3})",
                            R"({"type": "wsd", "warmup": 7, "decay": 0.3})"}) {
    const Schedule schedule = make(json::parse(given), 50);
    for (std::int64_t t = 1; t <= 50; ++t) {
      EXPECT_GE(schedule.factor(t), 0);
      EXPECT_LE(schedule.factor(t), 1);
      if (t > 7) {
        EXPECT_LE(schedule.factor(t), schedule.factor(t - 1));
      }
    }
  }
}

struct Refused {
  const char* given;
  std::int64_t horizon;
  const char* message;
};

class ScheduleRefusal : public ::testing::TestWithParam<Refused> {};

TEST_P(ScheduleRefusal, NamesWhatDoesNotFit) {
  const auto& [given, horizon, message] = GetParam();
  try {
    make(json::parse(given), horizon);
    FAIL() << given << " was accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ScheduleRefusal,
    ::testing::Values(Refused{R"({"warmup": 11})", 10, "warm-up of 11 steps does not fit the horizon of 10 steps"},
                      Refused{R"({"type": "wsd", "warmup": 7, "decay": 0.4})", 10,
                              "warm-up of 7 and decay of 4 steps do not fit the horizon of 10 steps"},
                      Refused{R"({"type": "wsd"})", 10, "type wsd needs 'decay'"},
                      Refused{R"({"type": "wsd", "decay": 0.1})", 4,
                              "a decay over 0.1 of a horizon of 4 steps is less than half a step, so the factor never "
                              "falls; allowed: decay >= 0.125"},
                      Refused{R"({"type": "wsd", "decay": 0.4})", 1, "less than half a step"},
                      Refused{R"({"type": "cosine", "decay": 0.4})", 10, "'decay' has no effect with type cosine"},
                      Refused{R"({"final": 0.1})", 10, "'final' has no effect with type constant"},
                      Refused{R"({"type": "wds", "decay": 0.4})", 10, "did you mean 'wsd'"},
                      Refused{R"({"type": "cosine", "final": 1.5})", 10, "final"},
                      Refused{R"({"warmup": -1})", 10, "warmup"}, Refused{R"({"warmup": 1.5})", 10, "warmup"},
                      Refused{R"({"type": "wsd", "decay": 0})", 10, "decay"}));

}  // namespace test_schedule
}  // namespace equisweep
