// run.db on a disk that fails at each write in turn: the process killed there (also in the middle of the write), the disk
// full, one write refused; and again while the next attempt recovers from it.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_database_faults {

constexpr const char* kFaultyJob = "0123456789abcdef";
constexpr std::int64_t kFaultySteps = 4;

/// Two rows a step, made durable together; `written` hears of each step.
void write_steps(const std::filesystem::path& path, std::int64_t attempt, const std::function<void(std::int64_t)>& written) {
  RunStore store(path, kFaultyJob, "{}", {.attempt = attempt, .started_at = "S"});
  for (std::int64_t step = 1; step <= kFaultySteps; ++step) {
    store.add(StepRow{.step = step, .tokens = 1000 * attempt + step});
    store.add(BlockStatsRow{.step = step});
    store.flush();
    written(step);
  }
  store.finish({.state = RunState::done, .message = "", .ended_at = "E"});
  written(kFaultySteps + 1);
}

/// Runs `body` in a process whose k-th write is its last; the last word that it got out, and whether it was killed.
struct Killed {
  std::int64_t acknowledged = 0;
  bool killed = false;
};

Killed killed_at(DiskFault how, std::int64_t k, const std::function<void(const std::function<void(std::int64_t)>&)>& body) {
  int fds[2];
  if (::pipe(fds) != 0) throw std::runtime_error("no pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      set_disk_fault(how, k);
      body([&](std::int64_t step) {
        if (::write(fds[1], &step, sizeof step) != sizeof step) ::_exit(3);
      });
      ::_exit(0);
    } catch (...) {
      ::_exit(2);
    }
  }
  ::close(fds[1]);
  Killed result;
  while (::read(fds[0], &result.acknowledged, sizeof result.acknowledged) == sizeof result.acknowledged) {
  }
  ::close(fds[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.killed = WIFSIGNALED(status);
  EXPECT_TRUE(result.killed || status == 0) << "the writer failed by itself: " << status;
  return result;
}

std::int64_t count(SQLite::Database& db, const std::string& sql) { return db.execAndGet(sql).getInt64(); }

/// What attempt `attempt` has left: whole steps in order, at least those that were acknowledged.
void expect_whole(const std::filesystem::path& path, std::int64_t attempt, std::int64_t acknowledged) {
  const auto db = open_read_only(path);
  EXPECT_EQ(db->execAndGet("PRAGMA integrity_check").getString(), "ok");
  const std::string of = " WHERE attempt = " + std::to_string(attempt);
  const std::int64_t steps = count(*db, "SELECT count(*) FROM steps" + of);
  EXPECT_GE(steps, std::min(acknowledged, kFaultySteps));
  EXPECT_EQ(count(*db, "SELECT coalesce(max(step), 0) FROM steps" + of), steps);
  EXPECT_EQ(count(*db, "SELECT coalesce(max(tokens), 0) FROM steps" + of), steps == 0 ? 0 : 1000 * attempt + steps);
  EXPECT_EQ(count(*db, "SELECT count(*) FROM block_stats" + of), steps);
  const bool finished = count(*db, "SELECT count(*) FROM attempts" + of + " AND state = 'done'") == 1;
  EXPECT_TRUE(finished || acknowledged <= kFaultySteps);
  EXPECT_TRUE(!finished || steps == kFaultySteps);
}

class KilledAtEveryWrite : public ::testing::TestWithParam<DiskFault> {};

TEST_P(KilledAtEveryWrite, AcknowledgedRowsAreThereAndTheNextAttemptWrites) {
  std::int64_t k = 1;
  for (bool killed = true; killed; ++k) {
    const TempFolder folder;
    const auto path = folder / "run.db";
    const Killed first = killed_at(GetParam(), k, [&](const auto& written) { write_steps(path, 1, written); });
    killed = first.killed;
    if (first.acknowledged > 0) expect_whole(path, 1, first.acknowledged);
    write_steps(path, 2, [](std::int64_t) {});
    expect_whole(path, 2, kFaultySteps + 1);
    expect_whole(path, 1, first.acknowledged);
    if (HasFailure()) FAIL() << "killed at write " << k;
  }
  EXPECT_GT(k, 20) << "hardly anything was written";
}

TEST_P(KilledAtEveryWrite, AlsoWhileRecovering) {
  const TempFolder folder;
  const auto killed_once = folder / "killed";
  std::filesystem::create_directory(killed_once);
  std::int64_t last = 0;  // write of the last step: its log is there and not yet taken in
  {
    const TempFolder scratch;
    set_disk_fault(DiskFault::none);
    write_steps(scratch / "run.db", 1, [&](std::int64_t step) {
      if (step == kFaultySteps) last = disk_operations();
    });
  }
  const Killed first =
      killed_at(GetParam(), last, [&](const auto& written) { write_steps(killed_once / "run.db", 1, written); });
  ASSERT_TRUE(first.killed);
  ASSERT_EQ(first.acknowledged, kFaultySteps - 1);
  std::int64_t k = 1;
  for (bool killed = true; killed; ++k) {
    const auto again = folder / std::to_string(k);
    std::filesystem::copy(killed_once, again);
    const Killed second = killed_at(GetParam(), k, [&](const auto& written) { write_steps(again / "run.db", 2, written); });
    killed = second.killed;
    write_steps(again / "run.db", 3, [](std::int64_t) {});
    expect_whole(again / "run.db", 1, first.acknowledged);
    expect_whole(again / "run.db", 2, second.acknowledged);
    expect_whole(again / "run.db", 3, kFaultySteps + 1);
    if (HasFailure()) FAIL() << "killed at write " << k << " of the recovery";
  }
  EXPECT_GT(k, 10);
}

INSTANTIATE_TEST_SUITE_P(RunStore, KilledAtEveryWrite, ::testing::Values(DiskFault::kill, DiskFault::torn),
                         [](const auto& p) { return p.param == DiskFault::kill ? "Before" : "Within"; });

class FailingDisk : public ::testing::TestWithParam<DiskFault> {
 protected:
  ~FailingDisk() override { set_disk_fault(DiskFault::none); }
};

TEST_P(FailingDisk, IsAnErrorWithoutHalfARow) {
  std::int64_t k = 1, errors = 0;
  for (bool failed = true; failed; ++k) {
    const TempFolder folder;
    const auto path = folder / "run.db";
    std::int64_t acknowledged = 0;
    failed = false;
    set_disk_fault(GetParam(), k);
    try {
      write_steps(path, 1, [&](std::int64_t step) { acknowledged = step; });
      failed = disk_operations() >= k;  // closing a database may fail unheard; the log then stays and is read next time
    } catch (const DatabaseError& error) {
      failed = true;
      ++errors;
      EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
      if (GetParam() == DiskFault::full) {
        EXPECT_NE(std::string(error.what()).find("the disk or the quota is full"), std::string::npos) << error.what();
      }
    }
    set_disk_fault(DiskFault::none);
    if (acknowledged > 0) expect_whole(path, 1, acknowledged);
    write_steps(path, 2, [](std::int64_t) {});
    expect_whole(path, 1, acknowledged);
    expect_whole(path, 2, kFaultySteps + 1);
    if (HasFailure()) FAIL() << "write " << k << " failed";
  }
  EXPECT_GT(errors, 20);
}

TEST_P(FailingDisk, RowsAreKeptUntilThereIsRoomAgain) {
  const TempFolder folder;
  set_disk_fault(DiskFault::none);
  RunStore store(folder / "run.db", kFaultyJob, "{}", {.attempt = 1, .started_at = "S"});
  store.set_flush_interval(std::chrono::hours(1));
  for (std::int64_t step = 1; step <= 3; ++step) {
    store.add(StepRow{.step = step, .tokens = 1000 + step});
    store.add(BlockStatsRow{.step = step});
    set_disk_fault(GetParam(), 1);
    EXPECT_THROW(store.flush(), DatabaseError);
    set_disk_fault(DiskFault::none);
    store.flush();
    expect_whole(folder / "run.db", 1, step);
  }
}

INSTANTIATE_TEST_SUITE_P(RunStore, FailingDisk, ::testing::Values(DiskFault::full, DiskFault::io),
                         [](const auto& p) { return p.param == DiskFault::full ? "Full" : "OneWrite"; });

}  // namespace test_database_faults
}  // namespace equisweep
