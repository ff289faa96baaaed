// RunStore: what goes in comes out, and an older attempt cannot write.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_run_store {

using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
const char* const kJob = "0123456789abcdef";
const char* const kConfig = R"({"seed":0})";

AttemptRow attempt_row(std::int64_t attempt, std::int64_t resume_step = 0) {
  return {
      .attempt = attempt, .resume_step = resume_step, .started_at = "2026-11-22T00:00:00Z", .device = "cpu", .threads = 2};
}

/// All REAL columns of the only row of `table` as text in SQLite's 17 digits, "NULL" for NULL.
std::vector<double> reals(SQLite::Database& db, const std::string& table, std::int64_t step, std::int64_t* mask) {
  SQLite::Statement query(db, "SELECT * FROM " + table + " WHERE step = ?");
  query.bind(1, step);
  EXPECT_TRUE(query.executeStep());
  SQLite::Statement info(db, "SELECT name, type FROM pragma_table_info(?)");
  info.bind(1, table);
  std::vector<double> result;
  *mask = query.getColumn("nonfinite").getInt64();
  while (info.executeStep()) {
    if (info.getColumn(1).getString() != "REAL") continue;
    const SQLite::Column column = query.getColumn(info.getColumn(0).getText());
    if (!column.isNull()) {
      result.push_back(column.getDouble());
    } else {  // the k-th REAL column was NaN if bit k says so, else absent
      result.push_back((*mask >> result.size()) & 1 ? kNan : -12345.0);
    }
  }
  return result;
}

TEST(RunStore, EveryColumnComesBack) {
  const TempFolder folder;
  const auto path = folder / "run.db";
  const double tiny = 4.9e-324, third = 1.0 / 3;
  {
    RunStore store(
        path, kJob, kConfig,
        {.attempt = 1, .resume_step = 7, .started_at = "S", .device = "cuda:0", .threads = 3, .environment = R"({"a":1})"});
    store.set_corpus(R"({"name":"kjv"})", 1234567);
    store.add_blocks(
        {{.block = 0, .name = "model.w", .role = "q", .layer = 3, .shape = "[2,3]", .entry = "matrix", .rule = "muon"}});
    store.add(StepRow{.step = 8,
                      .tokens = 1LL << 40,
                      .seconds = third,
                      .loss = kNan,
                      .lr = tiny,
                      .grad_norm = kInf,
                      .step_seconds = -kInf,
                      .optimizer_seconds = -0.0,
                      .diagnostics_seconds = kNan});
    store.add(
        EvalRow{.step = 0, .tokens = 5, .seconds = 0.1, .loss = 2.5, .bits_per_byte = std::nullopt, .eval_tokens = 99});
    store.add(EvalRow{.step = 9, .tokens = 6, .seconds = 0.2, .loss = kInf, .bits_per_byte = kNan, .eval_tokens = 98});
    store.add(BlockStatsRow{.step = 8,
                            .block = 0,
                            .spectral_norm = 1,
                            .stable_rank = kNan,
                            .update_spectral_norm = kInf,
                            .update_to_weight = 4,
                            .gradient_norm = 5,
                            .lr = kNan});
    store.add_event(8, "diverged", "the loss is 'nan'\n\x1b[31m");
    store.finish({.state = RunState::diverged, .message = "NaN at 8", .ended_at = "E", .peak_rss_bytes = 77});
  }
  const auto db = open_read_only(path);
  std::int64_t mask = 0;
  const auto steps = reals(*db, "steps", 8, &mask);
  EXPECT_EQ(mask, 0b1000010);
  ASSERT_EQ(steps.size(), 7u);
  EXPECT_EQ(steps[0], third);
  EXPECT_TRUE(std::isnan(steps[1]));
  EXPECT_EQ(steps[2], tiny);
  EXPECT_EQ(steps[3], kInf);
  EXPECT_EQ(steps[4], -kInf);
  EXPECT_EQ(steps[5], 0.0);
  EXPECT_TRUE(std::isnan(steps[6]));
  EXPECT_EQ(reals(*db, "evals", 0, &mask), (std::vector<double>{0.1, 2.5, -12345.0}));  // absent, not NaN
  EXPECT_EQ(mask, 0);
  const auto evals = reals(*db, "evals", 9, &mask);
  EXPECT_EQ(mask, 0b100);
  EXPECT_EQ(evals[1], kInf);
  EXPECT_TRUE(std::isnan(evals[2]));
  const auto stats = reals(*db, "block_stats", 8, &mask);
  EXPECT_EQ(mask, 0b100010);
  EXPECT_EQ(stats[0], 1);
  EXPECT_EQ(stats[2], kInf);
  EXPECT_EQ(stats[4], 5);

  SQLite::Statement attempts(
      *db,
      "SELECT attempt || ',' || resume_step || ',' || state || ',' || message || ',' || started_at || ',' || ended_at "
      "|| ',' || device || ',' || threads || ',' || peak_rss_bytes || ',' || environment, state_bytes FROM attempts");
  ASSERT_TRUE(attempts.executeStep());
  EXPECT_EQ(attempts.getColumn(0).getString(), R"(1,7,diverged,NaN at 8,S,E,cuda:0,3,77,{"a":1})");
  EXPECT_TRUE(attempts.getColumn(1).isNull());
  SQLite::Statement runs(*db, "SELECT job || config || state || message || attempt || parameters || corpus FROM runs");
  ASSERT_TRUE(runs.executeStep());
  EXPECT_EQ(runs.getColumn(0).getString(), R"(0123456789abcdef{"seed":0}divergedNaN at 811234567{"name":"kjv"})");
  SQLite::Statement blocks(*db, "SELECT block || name || role || layer || shape || entry || rule FROM blocks");
  ASSERT_TRUE(blocks.executeStep());
  EXPECT_EQ(blocks.getColumn(0).getString(), "0model.wq3[2,3]matrixmuon");
  SQLite::Statement events(*db, "SELECT attempt, sequence, step, kind, message FROM events");
  ASSERT_TRUE(events.executeStep());
  EXPECT_EQ(events.getColumn(2).getInt64(), 8);
  EXPECT_EQ(events.getColumn(3).getString(), "diverged");
  EXPECT_EQ(events.getColumn(4).getString(), "the loss is 'nan'\n\x1b[31m");
  SQLite::Statement tokens(*db, "SELECT tokens FROM steps");
  ASSERT_TRUE(tokens.executeStep());
  EXPECT_EQ(tokens.getColumn(0).getInt64(), 1LL << 40);
}

TEST(RunStore, FileSaysWhatItIs) {
  const TempFolder folder;
  { RunStore store(folder / "run.db", kJob, kConfig, attempt_row(1)); }
  const auto db = open_read_only(folder / "run.db");
  EXPECT_EQ(db->execAndGet("PRAGMA application_id").getInt(), 0x45715377);
  EXPECT_EQ(db->execAndGet("PRAGMA user_version").getInt(), kSchemaVersion);
  EXPECT_EQ(db->execAndGet("PRAGMA journal_mode").getString(), "wal");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%STRICT%'").getInt(),
            0);
}

TEST(RunStore, RowsWaitForTheIntervalAndFlushDoesNot) {
  const TempFolder folder;
  RunStore store(folder / "run.db", kJob, kConfig, attempt_row(1));
  const auto db = open_read_only(folder / "run.db");
  const auto count = [&] { return db->execAndGet("SELECT count(*) FROM steps").getInt(); };
  store.set_flush_interval(std::chrono::hours(1));
  for (int step = 1; step <= 5; ++step) store.add(StepRow{.step = step});
  EXPECT_EQ(count(), 0);
  store.flush();
  EXPECT_EQ(count(), 5);
  store.set_flush_interval(std::chrono::milliseconds(0));
  store.add(StepRow{.step = 6});
  EXPECT_EQ(count(), 6);
}

TEST(RunStore, OlderOrEqualAttemptIsRefused) {
  const TempFolder folder;
  { RunStore store(folder / "run.db", kJob, kConfig, attempt_row(3)); }
  for (const std::int64_t attempt : {1, 2, 3}) {
    try {
      RunStore store(folder / "run.db", kJob, kConfig, attempt_row(attempt));
      FAIL() << attempt;
    } catch (const DatabaseError& e) {
      EXPECT_THAT(e.what(), HasSubstr("attempt 3 owns this run"));
      EXPECT_EQ(e.code(), ExitCode::database);
    }
  }
  RunStore store(folder / "run.db", kJob, kConfig, attempt_row(4));
}

TEST(RunStore, ZombieCannotWriteAnyMore) {
  const TempFolder folder;
  RunStore zombie(folder / "run.db", kJob, kConfig, attempt_row(1));
  zombie.set_flush_interval(std::chrono::hours(1));
  zombie.add(StepRow{.step = 1});
  zombie.flush();
  RunStore owner(folder / "run.db", kJob, kConfig, attempt_row(2, 1));
  zombie.add(StepRow{.step = 2});
  EXPECT_THROW(zombie.flush(), DatabaseError);
  EXPECT_THROW(zombie.finish({.state = RunState::done, .message = "", .ended_at = "E"}), DatabaseError);
  EXPECT_THROW(zombie.set_corpus("{}", 1), DatabaseError);
  EXPECT_THROW(zombie.add_blocks({}), DatabaseError);
  zombie.set_flush_interval(std::chrono::milliseconds(0));
  EXPECT_THROW(zombie.add_event(1, "warning", ""), DatabaseError);
  const auto db = open_read_only(folder / "run.db");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM steps").getInt(), 1);
  EXPECT_EQ(db->execAndGet("SELECT state FROM runs").getString(), "running");
}

TEST(RunStore, OneFileOneJob) {
  const TempFolder folder;
  { RunStore store(folder / "run.db", kJob, kConfig, attempt_row(1)); }
  EXPECT_THROW(RunStore(folder / "run.db", "fedcba9876543210", kConfig, attempt_row(2)), DatabaseError);
  EXPECT_THROW(RunStore(folder / "run.db", kJob, R"({"seed":1})", attempt_row(2)), DatabaseError);
  EXPECT_THROW(RunStore(folder / "other.db", "short", kConfig, attempt_row(1)), DatabaseError);
}

TEST(RunState, NamesRoundTrip) {
  for (const RunState state : kRunStates) EXPECT_EQ(run_state_from_name(name_of(state)), state);
  EXPECT_EQ(run_state_from_name("Done"), std::nullopt);
  EXPECT_EQ(run_state_from_name(""), std::nullopt);
}

}  // namespace test_run_store
}  // namespace equisweep
