// SweepStore: plans change, runs are taken in once, and the views tell what is true of a run with several attempts.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_sweep_store {

const std::string kA = "aaaaaaaaaaaaaaaa", kB = "bbbbbbbbbbbbbbbb", kC = "cccccccccccccccc";

CellRow cell(const std::string& job, const std::string& stack = "adamw") {
  return {.job = job,
          .model = "qwen3-nano",
          .stack = stack,
          .baseline = true,
          .lr_scale = 0.5,
          .seed = 3,
          .config = "{\"job\":\"" + job + "\"}"};
}

std::string query(const std::filesystem::path& path, const std::string& sql) {
  const auto db = open_read_only(path);
  SQLite::Statement statement(*db, sql);
  std::string all;
  while (statement.executeStep()) {
    for (int i = 0; i < statement.getColumnCount(); ++i)
      all += statement.getColumn(i).getString() + (i + 1 < statement.getColumnCount() ? "," : ";");
  }
  return all;
}

void write_attempt(const std::filesystem::path& path, std::int64_t attempt, std::int64_t resume, std::int64_t last,
                   std::optional<RunState> end, std::int64_t eval_every = 2) {
  RunStore store(path, kA, cell(kA).config, {.attempt = attempt, .resume_step = resume, .started_at = "S"});
  const auto value = [&](std::int64_t step) { return static_cast<double>(1000 * attempt + step); };
  store.set_flush_interval(std::chrono::hours(1));
  // The one before training, or one that the interruption has left to be made.
  if (resume % eval_every == 0 && (resume == 0 || attempt % 2 == 0))
    store.add(EvalRow{.step = resume, .loss = value(resume)});
  for (std::int64_t step = resume + 1; step <= last; ++step) {
    store.add(StepRow{.step = step, .loss = value(step)});
    store.add(BlockStatsRow{.step = step, .block = 1, .spectral_norm = value(step)});
    if (step % eval_every == 0) store.add(EvalRow{.step = step, .loss = value(step)});
  }
  store.flush();
  if (end) store.finish({.state = *end, .message = "the end", .ended_at = "E"});
}

TEST(SweepStore, PlanAddsAndRetiresAndNeverRenumbers) {
  const TempFolder folder;
  const auto path = folder / "sweep.db";
  SweepStore store(path);
  store.set_plan({cell(kA), cell(kB), cell(kB, "muon")});
  const std::string cells = "SELECT cell, job, stack, retired FROM cells ORDER BY cell";
  EXPECT_EQ(query(path, cells), "1," + kA + ",adamw,0;2," + kB + ",adamw,0;3," + kB + ",muon,0;");
  EXPECT_EQ(query(path, "SELECT job, state, attempt FROM runs ORDER BY run"), kA + ",queued,0;" + kB + ",queued,0;");
  EXPECT_EQ(
      query(path, "SELECT model, baseline, lr_scale, seed, axes, config FROM cells JOIN runs USING (job) WHERE cell = 1"),
      "qwen3-nano,1,0.5,3,{}," + cell(kA).config + ";");
  store.set_state(kA, RunState::done, "", 1);
  store.set_plan({cell(kC), cell(kB)});
  EXPECT_EQ(query(path, cells), "1," + kA + ",adamw,1;2," + kB + ",adamw,0;3," + kB + ",muon,1;4," + kC + ",adamw,0;");
  EXPECT_EQ(store.state(kA), RunState::done);  // results stay
  EXPECT_EQ(store.state(kC), RunState::queued);
  store.set_plan({cell(kA), cell(kA)});  // back again, and twice
  EXPECT_EQ(query(path, cells),
            "1," + kA + ",adamw,0;2," + kB + ",adamw,1;3," + kB + ",muon,1;4," + kC + ",adamw,1;5," + kA + ",adamw,0;");
  EXPECT_EQ(store.state(kA), RunState::done);
}

TEST(SweepStore, PlanIsWholeOrNotAtAll) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  CellRow other = cell(kA);
  other.config = "{}";  // same id, other content
  EXPECT_THROW(store.set_plan({cell(kB), other}), DatabaseError);
  EXPECT_EQ(query(folder / "sweep.db", "SELECT job, retired FROM cells"), kA + ",0;");
  EXPECT_THROW(store.state(kB), DatabaseError);
}

TEST(SweepStore, OlderAttemptCannotSetTheState) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  EXPECT_TRUE(store.set_state(kA, RunState::running, "", 2));
  EXPECT_FALSE(store.set_state(kA, RunState::done, "zombie", 1));
  EXPECT_EQ(store.state(kA), RunState::running);
  EXPECT_TRUE(store.set_state(kA, RunState::failed, "killed by signal 9", 2));
  EXPECT_EQ(store.state(kA), RunState::failed);
  EXPECT_EQ(store.message(kA), "killed by signal 9");
  EXPECT_EQ(store.attempt(kA), 2);
}

TEST(SweepStore, TakesInEachRowOnce) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kB), cell(kA)});
  const std::int64_t before = store.rows();
  EXPECT_EQ(before, 4);
  {
    RunStore run(folder / "run.db", kA, cell(kA).config, {.attempt = 1, .started_at = "S"});
    run.set_corpus("{\"name\":\"kjv\"}", 42);
    run.add_blocks({{.block = 0, .name = "w"}});
    run.add_event(0, "start", "");
    run.add(StepRow{.step = 1, .loss = 5});
    run.flush();
    EXPECT_EQ(store.ingest(folder / "run.db"), 4);  // attempt, block, event, step: while the worker runs
    EXPECT_EQ(store.ingest(folder / "run.db"), 0);
    EXPECT_EQ(store.state(kA), RunState::running);
    run.add(StepRow{.step = 2, .loss = 4});
    run.add(EvalRow{.step = 2, .loss = 4});
    run.finish({.state = RunState::done, .message = "well", .ended_at = "E", .peak_rss_bytes = 9});
  }
  EXPECT_EQ(store.ingest(folder / "run.db"), 2);
  EXPECT_EQ(store.ingest(folder / "run.db"), 0);
  EXPECT_EQ(store.rows(), before + 6);
  EXPECT_EQ(store.state(kA), RunState::done);
  EXPECT_EQ(store.message(kA), "well");
  EXPECT_EQ(store.attempt(kA), 1);
  EXPECT_EQ(store.state(kB), RunState::queued);
  EXPECT_EQ(query(folder / "sweep.db", "SELECT run, step, loss FROM steps"), "2,1,5.0;2,2,4.0;");
  EXPECT_EQ(query(folder / "sweep.db", "SELECT run, attempt, state, message, ended_at, peak_rss_bytes FROM attempts"),
            "2,1,done,well,E,9;");
  EXPECT_EQ(query(folder / "sweep.db", "SELECT parameters, corpus FROM runs WHERE job = '" + kA + "'"),
            "42,{\"name\":\"kjv\"};");
  EXPECT_EQ(query(folder / "sweep.db", "SELECT job, state, val_loss, step FROM final_losses ORDER BY cell"),
            kB + ",queued,,;" + kA + ",done,4.0,2;");
}

TEST(SweepStore, SupervisorsWordStaysUntilTheWorkerHasOne) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  store.set_state(kA, RunState::running, "", 1);
  write_attempt(folder / "run.db", 1, 0, 3, std::nullopt);  // killed: no last word
  store.ingest(folder / "run.db");
  store.set_state(kA, RunState::failed, "killed by signal 9", 1);
  const std::string attempts = "SELECT attempt, state, message FROM attempts ORDER BY attempt";
  EXPECT_EQ(query(folder / "sweep.db", attempts), "1,failed,killed by signal 9;");
  store.set_state(kA, RunState::queued, "", 2);
  store.ingest(folder / "run.db");  // what attempt 1 left says nothing about attempt 2
  EXPECT_EQ(store.state(kA), RunState::queued);
  EXPECT_EQ(query(folder / "sweep.db", attempts), "1,failed,killed by signal 9;");
  write_attempt(folder / "run.db", 2, 2, 4, RunState::diverged);
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.state(kA), RunState::diverged);
  EXPECT_EQ(query(folder / "sweep.db", attempts), "1,failed,killed by signal 9;2,diverged,the end;");
}

TEST(SweepStore, WhatTheSupervisorSaidOfAnEndIsTakenBackByAResultAlone) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  write_attempt(folder / "run.db", 1, 0, 3, RunState::preempted);
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.state(kA), RunState::preempted);
  for (const RunState verdict : {RunState::timeout, RunState::cancelled, RunState::queued}) {
    store.set_state(kA, verdict, "said", 1);
    store.ingest(folder / "run.db");
    EXPECT_EQ(store.state(kA), verdict);
    EXPECT_EQ(store.message(kA), "said");
  }
  EXPECT_EQ(query(folder / "sweep.db", "SELECT state, message, ended_at FROM attempts"), "cancelled,said,E;");
  write_attempt(folder / "run.db", 2, 2, 4, RunState::failed);  // a newer attempt counts again
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.state(kA), RunState::failed);
  store.set_state(kA, RunState::cancelled, "said", 2);
  SQLite::Database((folder / "run.db").string(), SQLite::OPEN_READWRITE)
      .exec("UPDATE attempts SET state = 'done' WHERE attempt = 2");
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.state(kA), RunState::done);
}

// Trained on by a program that did not look, or copied from elsewhere: what comes after a result counts nowhere.
TEST(SweepStore, AResultIsReplacedByNoLaterAttempt) {
  for (const RunState first : {RunState::done, RunState::diverged}) {
    const TempFolder folder;
    SweepStore store(folder / "sweep.db"), rebuilt(folder / "rebuilt.db");
    store.set_plan({cell(kA)});
    rebuilt.set_plan({cell(kA)});
    write_attempt(folder / "run.db", 1, 0, 3, RunState::preempted);
    write_attempt(folder / "run.db", 2, 2, 4, first);
    store.ingest(folder / "run.db");
    const auto content = [&](const std::string& file) {
      std::string all;
      for (const char* sql : {"SELECT state, attempt FROM runs", "SELECT attempt, state FROM attempts ORDER BY attempt",
                              "SELECT step, loss FROM loss_curve ORDER BY step",
                              "SELECT step, loss FROM eval_curve ORDER BY step", "SELECT val_loss, step FROM final_losses"})
        all += query(folder / file, sql);
      return all;
    };
    const std::string before = content("sweep.db");
    const std::int64_t rows = store.rows();
    write_attempt(folder / "run.db", 3, 0, 2, first == RunState::done ? RunState::diverged : RunState::done);
    EXPECT_THAT([&] { store.ingest(folder / "run.db"); },
                ::testing::ThrowsMessage<DatabaseError>(::testing::HasSubstr("attempt 3 was made after attempt 2")));
    EXPECT_EQ(content("sweep.db"), before);
    EXPECT_EQ(store.rows(), rows);
    rebuilt.ingest(folder / "run.db");  // the database was lost, and with it what stood there
    EXPECT_EQ(content("rebuilt.db"), before);
    EXPECT_THAT(rebuilt.message(kA), ::testing::HasSubstr("attempt 3"));
  }
}

TEST(SweepStore, AResultCountsAlthoughANewerAttemptWasBegun) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  write_attempt(folder / "run.db", 1, 0, 3, RunState::done);
  store.set_state(kA, RunState::running, "", 2);  // its worker finds the result and leaves it alone
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.state(kA), RunState::done);
  EXPECT_EQ(store.attempt(kA), 2);
}

TEST(SweepStore, ARunThatHoldsNothingYetIsNoError) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  SQLite::Database(folder / "run.db", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("PRAGMA journal_mode = WAL");
  ASSERT_GT(std::filesystem::file_size(folder / "run.db"), 0u);  // a worker that was killed between its first two writes
  EXPECT_EQ(store.ingest(folder / "run.db"), 0);
  EXPECT_EQ(store.state(kA), RunState::queued);
}

TEST(SweepStore, ValidationLossIsThatOfTheNewestEvaluationThatCounts) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  EXPECT_EQ(store.validation_loss(kA), std::nullopt);
  write_attempt(folder / "run.db", 1, 0, 8, std::nullopt);  // evaluates at 0, 2, ..., 8: loss 1000 * attempt + step
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.validation_loss(kA), 1008);
  write_attempt(folder / "run.db", 2, 4, 6, RunState::done);  // went on from step 4: what came after it no longer counts
  store.ingest(folder / "run.db");
  EXPECT_EQ(store.validation_loss(kA), 2006);
  RunStore(folder / "b.db", kB, cell(kB).config, {.attempt = 1, .started_at = "S"}).add(EvalRow{.step = 1, .loss = NAN});
  store.set_plan({cell(kA), cell(kB)});
  store.ingest(folder / "b.db");
  EXPECT_EQ(store.validation_loss(kB), INFINITY);
}

TEST(SweepStore, TablesOfOthersInItsFileDoNotMatter) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  SQLite::Database(folder / "sweep.db", SQLite::OPEN_READWRITE).exec("CREATE TABLE audits (audit INTEGER PRIMARY KEY)");
  write_attempt(folder / "run.db", 1, 0, 3, RunState::done);
  EXPECT_GT(store.ingest(folder / "run.db"), 0);
  EXPECT_EQ(store.state(kA), RunState::done);
}

TEST(SweepStore, RefusesRunsThatAreNotItsOwn) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kB)});
  const std::int64_t before = store.rows();
  write_attempt(folder / "stranger.db", 1, 0, 3, RunState::done);
  EXPECT_THROW(store.ingest(folder / "stranger.db"), DatabaseError);
  { RunStore run(folder / "config.db", kB, "{}", {.attempt = 1, .started_at = "S"}); }
  EXPECT_THROW(store.ingest(folder / "config.db"), DatabaseError);
  EXPECT_THROW(store.ingest(folder / "sweep.db"), DatabaseError);
  EXPECT_EQ(store.rows(), before);
  EXPECT_EQ(store.state(kB), RunState::queued);
  store.set_plan({cell(kB), cell(kA)});  // and it can go on afterwards
  EXPECT_GT(store.ingest(folder / "stranger.db"), 0);
}

TEST(SweepStore, RowsThatBreakTheSchemaAreRefusedWhole) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_plan({cell(kA)});
  write_attempt(folder / "run.db", 1, 0, 3, RunState::done);
  const std::int64_t before = store.rows();
  for (const char* sql :
       {"CREATE TABLE evil (run, attempt, step, tokens, seconds, loss, lr, grad_norm, step_seconds, optimizer_seconds, "
        "diagnostics_seconds, nonfinite); INSERT INTO evil VALUES (1, 1, 'x', 1, 1, 1, 1, 1, 1, 1, 1, 0); "
        "DROP VIEW loss_curve; DROP TABLE steps; ALTER TABLE evil RENAME TO steps",
        "DROP TABLE steps; CREATE VIEW steps AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c",
        "DROP TABLE steps"}) {
    SQLite::Database((folder / "run.db").string(), SQLite::OPEN_READWRITE).exec(sql);
    EXPECT_THROW(store.ingest(folder / "run.db"), DatabaseError) << sql;
    EXPECT_EQ(store.rows(), before);
    std::filesystem::remove(folder / "run.db");
    write_attempt(folder / "run.db", 1, 0, 3, RunState::done);
  }
}

/// For each step the newest attempt whose resume point is not after it, by looking at every attempt.
std::map<std::int64_t, double> oracle(const std::vector<std::array<std::int64_t, 2>>& attempts, bool evals) {
  std::map<std::int64_t, double> curve;
  for (std::int64_t step = 0; step <= 20; ++step) {
    if (evals ? step % 2 != 0 : step == 0) continue;
    for (std::size_t a = attempts.size(); a-- > 0;) {
      const auto [resume, last] = attempts[a];
      const bool at_its_start = evals && step == resume && (resume == 0 || (a + 1) % 2 == 0);
      if (step <= resume && !at_its_start) continue;
      if (step <= last) curve[step] = 1000.0 * static_cast<double>(a + 1) + static_cast<double>(step);
      break;
    }
  }
  return curve;
}

std::map<std::int64_t, double> curve(const std::filesystem::path& path, const std::string& view,
                                     const std::string& value = "loss") {
  const auto db = open_read_only(path);
  SQLite::Statement statement(*db, "SELECT step, " + value + " FROM " + view);
  std::map<std::int64_t, double> result;
  while (statement.executeStep()) {
    EXPECT_TRUE(result.emplace(statement.getColumn(0).getInt64(), statement.getColumn(1).getDouble()).second)
        << "two rows for a step";
  }
  return result;
}

TEST(SweepStore, CurvesFollowTheNewestAttempt) {
  std::mt19937 random(1);
  for (int round = 0; round < 12; ++round) {
    const TempFolder folder;
    SweepStore store(folder / "sweep.db");
    store.set_plan({cell(kA)});
    std::vector<std::array<std::int64_t, 2>> attempts;
    std::int64_t reached = 0;
    for (std::int64_t a = 1; a <= 4; ++a) {
      const std::int64_t resume = round == 0 ? 0 : std::uniform_int_distribution<std::int64_t>(0, reached)(random);
      const std::int64_t last = resume + std::uniform_int_distribution<std::int64_t>(0, 5)(random);
      attempts.push_back({resume, last});
      reached = std::max(reached, last);
      write_attempt(folder / "run.db", a, resume, last, std::nullopt);
      store.ingest(folder / "run.db");
      for (const auto& path : {folder / "run.db", folder / "sweep.db"}) {
        EXPECT_EQ(curve(path, "loss_curve"), oracle(attempts, false));
        EXPECT_EQ(curve(path, "block_stats_curve", "spectral_norm"), oracle(attempts, false));
        EXPECT_EQ(curve(path, "eval_curve"), oracle(attempts, true));
      }
    }
  }
}

TEST(SweepStore, MetaIsReplaced) {
  const TempFolder folder;
  SweepStore store(folder / "sweep.db");
  store.set_meta("name", "first");
  store.set_meta("name", "'; DROP TABLE meta; --");
  EXPECT_EQ(query(folder / "sweep.db", "SELECT key, value FROM meta"), "name,'; DROP TABLE meta; --;");
}

}  // namespace test_sweep_store
}  // namespace equisweep
