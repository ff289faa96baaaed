// When two trainings of one job count as the same.
#include "sweeps/rerun.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_rerun {

/// What the run.db of a test holds: steps 1.. and an evaluation after every second one and before the first.
struct Training {
  std::int64_t steps = 6;
  RunState end = RunState::done;
  std::function<void(StepRow&)> change = [](StepRow&) {};
  std::int64_t last_eval = 6;
  std::string message = {};
};

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void write_training(const std::filesystem::path& file, const Training& training) {
  RunStore store(file, "0123456789abcdef", "{}", {.attempt = 1, .started_at = "S", .device = "cpu", .threads = 1});
  for (std::int64_t step = 0; step <= std::max(training.steps, training.last_eval); ++step) {
    StepRow row{.step = step, .loss = 1.0 / static_cast<double>(step), .lr = 0.1, .grad_norm = static_cast<double>(step)};
    training.change(row);
    if (step > 0 && step <= training.steps) store.add(row);
    if (step % 2 == 0 && step <= training.last_eval)
      store.add(EvalRow{.step = step, .loss = 2.0 / static_cast<double>(step + 1)});
  }
  store.finish({.state = training.end, .message = training.message, .ended_at = "E"});
}

class Rerun : public ::testing::Test {
 protected:
  static RerunResult compare(const Training& recorded, const Training& again, std::int64_t steps = 0) {
    const TempFolder folder(memory_root());
    write_training(folder / "recorded.db", recorded);
    write_training(folder / "again.db", again);
    return compare_runs(folder / "recorded.db", folder / "again.db", steps);
  }
  /// "training loss 3: 0.5 0.25"
  static std::string first(const RerunResult& result) {
    if (!result.difference) return "";
    const Difference& d = *result.difference;
    return d.what + " " + std::to_string(d.step) + ": " + d.recorded + " " + d.again;
  }
};

TEST_F(Rerun, TheSame) {
  const RerunResult result = compare({}, {});
  EXPECT_TRUE(result.same());
  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(result.evaluations, 4);
  const auto spoilt = [](StepRow& row) { row.loss = row.grad_norm = row.step == 6 ? kNaN : 1; };
  const Training diverged{.end = RunState::diverged, .change = spoilt, .message = "loss is nan"};
  EXPECT_TRUE(compare(diverged, diverged).same());
}

TEST_F(Rerun, EachNumberOfAStepCounts) {
  struct Case {
    std::function<void(StepRow&)> change;
    const char* difference;
  };
  const auto at_3 = [](double StepRow::*number, double value) {
    return [number, value](StepRow& row) {
      if (row.step == 3) row.*number = value;
    };
  };
  for (const auto& [change, difference] :
       std::initializer_list<Case>{{at_3(&StepRow::loss, 0.5), "training loss 3: 0.3333333333333333 0.5"},
                                   {at_3(&StepRow::loss, kNaN), "training loss 3: 0.3333333333333333 nan"},
                                   {at_3(&StepRow::lr, std::nextafter(0.1, 1)), "learning rate 3: 0.1 0.10000000000000002"},
                                   {at_3(&StepRow::grad_norm, INFINITY), "gradient norm 3: 3 inf"},
                                   {at_3(&StepRow::grad_norm, kNaN), "gradient norm 3: 3 nan"}})
    EXPECT_EQ(first(compare({}, {.change = change})), difference);
}

// A run that stops earlier or goes on longer than the recorded one is not the same, whatever the steps are that both have.
TEST_F(Rerun, WithoutALimitBothHaveTheSameStepsAndEnd) {
  const RerunResult shorter = compare({}, {.steps = 4, .end = RunState::diverged, .last_eval = 4, .message = "loss is nan"});
  EXPECT_FALSE(shorter.same());
  EXPECT_EQ(first(shorter), "training loss 5: 0.2 none");
  EXPECT_EQ(shorter.recorded_end, "done");
  EXPECT_EQ(shorter.end, "diverged (loss is nan)");
  EXPECT_EQ(first(compare({.steps = 5}, {})), "training loss 6: none 0.16666666666666666");
  EXPECT_EQ(first(compare({}, {.last_eval = 4})), "validation loss 6: 0.2857142857142857 none");
  EXPECT_EQ(first(compare({.last_eval = 4}, {})), "validation loss 6: none 0.2857142857142857");
  const RerunResult state = compare({}, {.end = RunState::diverged});
  EXPECT_FALSE(state.same());
  EXPECT_EQ(first(state), "");
  EXPECT_EQ(state.end, "diverged");
}

TEST_F(Rerun, WithALimitTheStepsUpToThereCount) {
  const Training stopped{.steps = 4, .end = RunState::preempted, .last_eval = 4};
  EXPECT_TRUE(compare({}, stopped, 4).same());
  EXPECT_TRUE(compare({}, {.steps = 4, .end = RunState::preempted, .last_eval = 2}, 4).same());    // it is stopped before it
  EXPECT_TRUE(compare({.steps = 3, .end = RunState::failed, .last_eval = 2}, stopped, 4).same());  // and went no further
  EXPECT_EQ(first(compare({}, {.steps = 4, .end = RunState::preempted, .last_eval = 0}, 4)),
            "validation loss 2: 0.6666666666666666 none");
  const RerunResult diverged = compare({}, {.steps = 3, .end = RunState::diverged, .last_eval = 2}, 4);
  EXPECT_EQ(first(diverged), "training loss 4: 0.25 none");
  EXPECT_EQ(diverged.end, "diverged");
}

// What walks a document recurses: brackets without end in a database that came from elsewhere ended the process.
TEST_F(Rerun, AnEnvironmentNestedWithoutEndIsNone) {
  const TempFolder folder(memory_root());
  for (const char* name : {"recorded.db", "again.db"}) write_training(folder / name, {});
  SQLite::Database(folder / "recorded.db", SQLite::OPEN_READWRITE)
      .exec("UPDATE attempts SET environment = '{\"os\": " + std::string(200'000, '[') + std::string(200'000, ']') + "}'");
  EXPECT_TRUE(compare_runs(folder / "recorded.db", folder / "again.db", 0).same());
}

TEST_F(Rerun, NothingInCommonIsAnError) {
  EXPECT_THROW(compare({.steps = 0, .end = RunState::failed, .last_eval = -1}, {}), DatabaseError);
}

}  // namespace test_rerun
}  // namespace equisweep
