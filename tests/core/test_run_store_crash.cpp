// A worker killed at any moment loses nothing that it was told is written.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_run_store_crash {

enum class Acknowledge { flush, timed_commit };

/// Writes steps without end, two rows a step, and says on `fd` which step is written.
[[noreturn]] void write_until_killed(const std::filesystem::path& path, std::int64_t attempt, Acknowledge how, int fd) {
  try {
    RunStore store(path, "0123456789abcdef", "{}", {.attempt = attempt, .started_at = "S"});
    store.set_flush_interval(how == Acknowledge::flush ? std::chrono::hours(1) : std::chrono::milliseconds(0));
    for (std::int64_t step = 1;; ++step) {
      store.add(BlockStatsRow{.step = step, .block = 0});
      store.add(StepRow{.step = step, .tokens = 1000 * attempt + step});
      if (how == Acknowledge::flush) store.flush();
      if (::write(fd, &step, sizeof step) != sizeof step) ::_exit(1);
    }
  } catch (...) {
    ::_exit(2);
  }
}

class Killed : public ::testing::TestWithParam<Acknowledge> {};

TEST_P(Killed, EveryAcknowledgedRowIsThere) {
  const TempFolder folder;
  const auto path = folder / "run.db";
  for (std::int64_t attempt = 1; attempt <= 12; ++attempt) {  // each one recovers from the kill before it
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_until_killed(path, attempt, GetParam(), fds[1]);
    ::close(fds[1]);
    std::int64_t acknowledged = 0;
    while (acknowledged < 3 * attempt * attempt % 37 &&
           ::read(fds[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself: " << status;
    while (::read(fds[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {  // what it still said before it died
    }
    ::close(fds[0]);
    ASSERT_GT(acknowledged, 0);

    const auto db = open_read_only(path);
    EXPECT_EQ(db->execAndGet("PRAGMA integrity_check").getString(), "ok");
    SQLite::Statement count(*db,
                            "SELECT count(*), min(step), max(step), min(tokens), max(tokens) FROM steps WHERE attempt = ?");
    count.bind(1, attempt);
    ASSERT_TRUE(count.executeStep());
    const std::int64_t rows = count.getColumn(0).getInt64();
    EXPECT_GE(rows, acknowledged);
    EXPECT_EQ(count.getColumn(1).getInt64(), 1);
    EXPECT_EQ(count.getColumn(2).getInt64(), rows);
    EXPECT_EQ(count.getColumn(4).getInt64(), 1000 * attempt + rows);
    if (GetParam() == Acknowledge::flush) {  // both rows of a step were in one transaction
      EXPECT_EQ(db->execAndGet("SELECT count(*) FROM block_stats").getInt64(),
                db->execAndGet("SELECT count(*) FROM steps").getInt64());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(RunStore, Killed, ::testing::Values(Acknowledge::flush, Acknowledge::timed_commit),
                         [](const auto& p) { return p.param == Acknowledge::flush ? "Flush" : "TimedCommit"; });

}  // namespace test_run_store_crash
}  // namespace equisweep
