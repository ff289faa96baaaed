// What status, ls and explain say, against databases whose content is known.

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"
#include "sweeps/explain.h"
#include "sweeps/overview.h"
#include "sweeps/retention.h"
#include "sweeps/sweep_folder.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_overview {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

nlohmann::json config_of(double lr, std::int64_t seed, std::int64_t steps = 100) {
  return {{"seed", seed}, {"stack", {{"default", {{"lr", lr}}}}}, {"train", {{"steps", steps}}}};
}

CellRow cell_of(const std::string& stack, double lr, std::int64_t seed, std::int64_t steps = 100) {
  const nlohmann::json config = config_of(lr, seed, steps);
  CellRow cell;
  cell.job = job_id(config), cell.model = "m", cell.stack = stack, cell.seed = seed, cell.config = canonical(config);
  return cell;
}

/// A sweep of the cells, as the supervisor leaves it before anything has run.
class Overview : public ::testing::Test {
 protected:
  void plan(const std::vector<CellRow>& cells) {
    SweepStore store(folder() / "sweep.db");
    store.set_meta("name", "small");
    store.set_plan(cells);
  }
  void set_state(const CellRow& cell, RunState state, const std::string& message = "") {
    SweepStore store(folder() / "sweep.db");
    store.set_state(cell.job, state, message, 1);
  }
  /// `steps` steps of 10 tokens and half a second each, the loss of step k being k, then an evaluation of 0.25.
  fs::path run(const CellRow& cell, std::int64_t steps) {
    const fs::path run_db = folder() / "runs" / cell.job / "run.db";
    fs::create_directories(run_db.parent_path());
    RunStore store(run_db, cell.job, cell.config, AttemptRow{.started_at = utc_now()});
    for (std::int64_t k = 1; k <= steps; ++k)
      store.add(
          StepRow{.step = k, .tokens = 10 * k, .seconds = 0.5 * static_cast<double>(k), .loss = static_cast<double>(k)});
    store.add(EvalRow{
        .step = steps, .tokens = 10 * steps, .seconds = 0.5 * static_cast<double>(steps), .loss = 0.25, .eval_tokens = 1});
    store.flush();
    return run_db;
  }
  fs::path folder() const { return temp_.path(); }

  const TempFolder temp_;
};

TEST_F(Overview, ARunningJobIsAsFarAsItsOwnDatabaseSays) {
  const CellRow a = cell_of("adamw", 0.1, 0), b = cell_of("muon", 0.2, 0);
  plan({a, b});
  set_state(a, RunState::running);
  run(a, 30);
  const SweepOverview overview = read_overview(folder());
  ASSERT_EQ(overview.runs.size(), 2U);
  const RunOverview& running = overview.runs[0];
  EXPECT_EQ(running.step, 30);
  EXPECT_EQ(running.steps, 100);
  EXPECT_DOUBLE_EQ(running.tokens_per_second(), 20);
  EXPECT_DOUBLE_EQ(running.train_loss.value(), 30);
  EXPECT_DOUBLE_EQ(running.val_loss.value(), 0.25);
  EXPECT_EQ(overview.runs[1].step, 0);
  EXPECT_FALSE(overview.runs[1].val_loss);
  // 70 + 100 steps are left at the 2 steps a second of the one that runs.
  EXPECT_DOUBLE_EQ(overview.seconds_left().value(), 85);
}

TEST_F(Overview, CountsEachJobOnceAndNothingThatIsRetired) {
  CellRow a = cell_of("adamw", 0.1, 0), twin = a, b = cell_of("muon", 0.2, 0), gone = cell_of("scion", 0.3, 0);
  twin.stack = "the same under another name";
  plan({a, gone});
  plan({a, twin, b});
  set_state(a, RunState::diverged);
  const SweepOverview overview = read_overview(folder());
  const std::map<RunState, std::size_t> expected = {{RunState::diverged, 1}, {RunState::queued, 1}};
  EXPECT_EQ(overview.counts(), expected);
  EXPECT_EQ(overview.runs.size(), 4U);
}

TEST_F(Overview, TheSupervisorIsWhoHoldsTheLock) {
  plan({cell_of("adamw", 0.1, 0)});
  EXPECT_FALSE(read_overview(folder()).supervisor);
  const ProcessLock lock = lock_sweep(folder());
  EXPECT_EQ(read_overview(folder()).supervisor, std::to_string(::getpid()));
}

std::vector<RunOverview> three_runs() {
  std::vector<RunOverview> runs(3);
  runs[0].stack = "adamw", runs[0].val_loss = 3, runs[0].lr_scale = 1;
  runs[1].stack = "muon", runs[1].lr_scale = 0.5;
  runs[2].stack = "muon", runs[2].val_loss = 2, runs[2].lr_scale = 2;
  return runs;
}

std::string kept(const std::vector<std::string>& filters) {
  std::vector<RunOverview> runs = three_runs();
  filter_runs(runs, filters);
  std::string text;
  for (const RunOverview& run : runs) text += fmt::format("{}@{} ", run.stack, run.lr_scale);
  return text;
}

TEST(Filters, KeepWhatTheySay) {
  EXPECT_EQ(kept({}), "adamw@1 muon@0.5 muon@2 ");
  EXPECT_EQ(kept({"stack=muon"}), "muon@0.5 muon@2 ");
  EXPECT_EQ(kept({"stack!=muon"}), "adamw@1 ");
  EXPECT_EQ(kept({"stack=muon", "lr_scale>=2"}), "muon@2 ");
  EXPECT_EQ(kept({"lr_scale<=1"}), "adamw@1 muon@0.5 ");
  EXPECT_EQ(kept({"lr_scale<1"}), "muon@0.5 ");
  EXPECT_EQ(kept({"loss>2.5"}), "adamw@1 ");
  EXPECT_EQ(kept({"loss!=3"}), "muon@0.5 muon@2 ") << "a loss that there is not is not 3";
  EXPECT_EQ(kept({"loss<100"}), "adamw@1 muon@2 ") << "a loss that there is not is in no range";
}

std::string complaint(const std::string& filter) {
  try {
    kept({filter});
  } catch (const UsageError& e) {
    return e.what();
  }
  return "none";
}

TEST(Filters, RefuseWhatTheyCannotMean) {
  EXPECT_THAT(complaint("stak=muon"), AllOf(HasSubstr("unknown column 'stak'"), HasSubstr("did you mean 'stack'")));
  EXPECT_THAT(complaint("muon"), HasSubstr("is no comparison"));
  EXPECT_THAT(complaint("loss!3"), HasSubstr("is no comparison"));
  EXPECT_THAT(complaint("stack<muon"), HasSubstr("stack is text, which has no order"));
  EXPECT_THAT(complaint("loss=low"), HasSubstr("loss is a number"));
  EXPECT_THAT(complaint("loss="), HasSubstr("loss is a number"));
}

TEST(Sorting, PutsWhatThereIsNotLast) {
  const auto order = [](std::string_view column) {
    std::vector<RunOverview> runs = three_runs();
    sort_runs(runs, column);
    std::vector<double> scales;
    for (const RunOverview& run : runs) scales.push_back(run.lr_scale);
    return scales;
  };
  EXPECT_THAT(order("loss"), ElementsAre(2, 1, 0.5));
  EXPECT_THAT(order("-loss"), ElementsAre(1, 2, 0.5));
  EXPECT_THAT(order("stack"), ElementsAre(1, 0.5, 2));
  EXPECT_THAT(order("-lr_scale"), ElementsAre(2, 1, 0.5));
  EXPECT_THROW(order("los"), UsageError);
}

Job job_of(const CellRow& cell) {
  Job job;
  job.id = cell.job, job.model = cell.model, job.stack = cell.stack, job.seed = cell.seed;
  job.config = nlohmann::json::parse(cell.config);
  return job;
}

TEST_F(Overview, ExplainSaysWhatChangedAndWhatStays) {
  const CellRow done = cell_of("adamw", 0.1, 0), failed = cell_of("muon", 0.2, 0), old = cell_of("scion", 0.3, 0),
                changed = cell_of("scion", 0.4, 0, 200);
  plan({done, failed, old});
  set_state(done, RunState::done);
  set_state(failed, RunState::failed, "no such corpus");
  const std::vector<Job> jobs = {job_of(done), job_of(failed), job_of(changed)};
  const auto explanations = explain(jobs, read_overview(folder()), read_configs(folder()));
  ASSERT_EQ(explanations.size(), 4U);
  EXPECT_FALSE(explanations[0].will_run);
  EXPECT_EQ(explanations[0].reason, "done");
  EXPECT_TRUE(explanations[1].will_run);
  EXPECT_EQ(explanations[1].reason, "failed: no such corpus; starts again as attempt 2");
  EXPECT_TRUE(explanations[2].will_run);
  EXPECT_EQ(explanations[2].reason, "new");
  EXPECT_EQ(explanations[2].other, old.job);
  EXPECT_THAT(explanations[2].changed, ElementsAre("stack.default.lr: 0.3 -> 0.4", "train.steps: 100 -> 200"));
  EXPECT_FALSE(explanations[3].in_file);
  EXPECT_FALSE(explanations[3].will_run);
  EXPECT_EQ(explanations[3].job, old.job);
  EXPECT_EQ(explanations[3].other, changed.job);
}

TEST_F(Overview, ExplainRefusesAConfigThatIsNestedWithoutEnd) {
  const CellRow cell = cell_of("adamw", 0.1, 0);
  plan({cell});
  for (const std::string& text : {std::string("{"), std::string(200'000, '[') + std::string(200'000, ']')}) {
    SQLite::Database(folder() / "sweep.db", SQLite::OPEN_READWRITE).exec("UPDATE runs SET config = '" + text + "'");
    EXPECT_THAT([&] { read_configs(folder()); }, ::testing::ThrowsMessage<DatabaseError>(HasSubstr("nested")));
  }
}

TEST_F(Overview, ExplainOfARunningJobDependsOnWhetherAnybodyRunsIt) {
  const CellRow a = cell_of("adamw", 0.1, 0);
  plan({a});
  set_state(a, RunState::running);
  run(a, 30);
  const std::vector<Job> jobs = {job_of(a)};
  EXPECT_TRUE(explain(jobs, read_overview(folder()), {}).at(0).will_run);
  const ProcessLock lock = lock_sweep(folder());
  EXPECT_FALSE(explain(jobs, read_overview(folder()), {}).at(0).will_run);
}

TEST(Changes, AreListedWithBothValues) {
  EXPECT_THAT(changes({{"a", 1}, {"b", {{"c", "x"}}}, {"d", 1}}, {{"a", 1.0}, {"b", {{"c", "y"}}}, {"e", true}}),
              ElementsAre("b.c: \"x\" -> \"y\"", "d: 1 -> -", "e: - -> true"));
}

class Retention : public Overview {
 protected:
  fs::path put(const CellRow& cell, const std::string& name) {
    const fs::path file = folder() / "runs" / cell.job / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << "12345";
    return file;
  }
};

TEST_F(Retention, TakesCheckpointsOfFinishedAndRetiredJobsAndLeftoversOnly) {
  const CellRow done = cell_of("adamw", 0.1, 0), waits = cell_of("muon", 0.2, 0), retired = cell_of("scion", 0.3, 0);
  plan({done, waits, retired});
  plan({done, waits});
  set_state(done, RunState::done);
  const std::vector<fs::path> goes = {put(done, "ckpt/step-000000010.ckpt"),
                                      put(waits, "ckpt/.step-000000010.ckpt.77-1.tmp"), put(waits, ".config.yaml.77-2.tmp"),
                                      put(retired, "ckpt/step-000000010.ckpt")};
  const std::vector<fs::path> stays = {put(done, "run.db"),
                                       put(done, "config.yaml"),
                                       put(done, "log.txt"),
                                       put(done, "final.safetensors"),
                                       put(waits, "ckpt/step-000000010.ckpt"),
                                       put(retired, "run.db")};
  fs::create_symlink(stays[0], folder() / "runs" / done.job / "ckpt" / "step-000000020.ckpt");
  const std::vector<Removable> files = removable_files(folder());
  std::vector<fs::path> names;
  for (const Removable& file : files) names.push_back(file.file);
  EXPECT_THAT(names, ::testing::UnorderedElementsAreArray(goes));
  EXPECT_EQ(remove_files(files), 20);
  for (const fs::path& file : goes) EXPECT_FALSE(fs::exists(file)) << file;
  for (const fs::path& file : stays) EXPECT_TRUE(fs::exists(file)) << file;
  EXPECT_THAT(removable_files(folder()), IsEmpty());
}

TEST_F(Retention, LeavesTheFolderOfALivingWorkerAlone) {
  const CellRow done = cell_of("adamw", 0.1, 0);
  plan({done});
  set_state(done, RunState::done);
  put(done, "ckpt/step-000000010.ckpt");
  fs::create_symlink(folder() / "runs" / done.job, folder() / "runs" / "0000000000000000");
  EXPECT_EQ(removable_files(folder()).size(), 1U);
  fs::rename(folder() / "runs" / done.job, folder() / "elsewhere");
  fs::create_directory_symlink(folder() / "elsewhere", folder() / "runs" / done.job);
  EXPECT_THAT(removable_files(folder()), IsEmpty()) << "a run folder that is a link leads out of the sweep";
}

}  // namespace test_overview
}  // namespace equisweep
