// Another process holds sweep.db while a sweep runs: no job pays for that.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include "sweeps/sweep_folder.h"
#include "tests/support/fake_launcher.h"

namespace equisweep {
namespace test_supervisor_locked {

using fake::fake_job;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class SupervisorLocked : public fake::SupervisorTest {
 protected:
  std::optional<SQLite::Database> other_;

  /// Another process holds sweep.db from second `from` until second `to`.
  void hold(double from, double to) {
    launcher_.on_wait = [this, from, to] {
      if (!other_ && launcher_.now >= from && launcher_.now < to) {
        other_.emplace(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE);
        other_->exec("BEGIN EXCLUSIVE");
      }
      if (other_ && launcher_.now >= to) other_.reset();
    };
  }
};

TEST_F(SupervisorLocked, WhatEndsMeanwhileIsRecordedAfterwardsAndNothingIsStarted) {
  options_.devices[0].slots = 1;
  launcher_.scripts["b"] = {.final_row = RunState::oom, .exit = {.code = 1}};
  hold(5, 100);
  EXPECT_EQ(run({fake_job("a", 0), fake_job("b", 0)}), ExitCode::some_failed);
  EXPECT_EQ(states(), "a done;b oom;");
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "b/0@#1"));
  EXPECT_GE(launcher_.start_times.at(1), 100);
  EXPECT_EQ(db("SELECT exit_status FROM attempts ORDER BY run"), "exit 0;exit 1;");
  EXPECT_THAT(said_, HasSubstr((folder_ / "s" / "sweep.db").string() + " is locked by another process"));
  EXPECT_EQ(said_.find("is locked"), said_.rfind("is locked"));  // once
  EXPECT_THAT(said_, HasSubstr("sweep.db is free again"));
}

TEST_F(SupervisorLocked, AFewSecondsAreNotWorthALine) {
  hold(9, 15);
  EXPECT_EQ(run({fake_job("a", 0)}), ExitCode::ok);
  EXPECT_THAT(said_, Not(HasSubstr("locked")));
  EXPECT_THAT(said_, Not(HasSubstr("free again")));
}

TEST_F(SupervisorLocked, LimitsHoldAllTheSame) {
  options_.timeout = 20;
  options_.grace_seconds = 5;
  options_.stall_seconds = 1000;
  launcher_.scripts["slow"] = {.seconds = 1000, .obeys_term = false};
  launcher_.scripts["zombie"] = {.seconds = 500, .obeys_term = false, .obeys_kill = false};
  hold(5, 100);
  EXPECT_EQ(run({fake_job("slow", 0), fake_job("zombie", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "ask", "kill", "kill"));
  EXPECT_LT(launcher_.abort_times.back(), 26);
  EXPECT_EQ(states(), "slow timeout;zombie lost;");
  EXPECT_THAT(said_, HasSubstr("killed, but its process is still there"));
}

// A job that ended long ago is not taken for one that hangs.
TEST_F(SupervisorLocked, WhoHasEndedDoesNotHang) {
  options_.timeout = 30;
  options_.stall_seconds = 30;
  hold(5, 200);
  EXPECT_EQ(run({fake_job("a", 0)}), ExitCode::ok);
  EXPECT_TRUE(launcher_.aborts.empty());
  EXPECT_EQ(states(), "a done;");
}

// Who asks for more than that the running finish does not wait: the next run takes in what could not be recorded.
TEST_F(SupervisorLocked, ASecondCtrlCDoesNotWait) {
  static sqlite3* connection = nullptr;  // the first that is opened, which is the supervisor's
  const auto note = [](sqlite3* db, char**, const void*) {
    connection = connection == nullptr ? db : connection;
    return SQLITE_OK;
  };
  sqlite3_auto_extension(reinterpret_cast<void (*)()>(+note));
  launcher_.scripts["long"] = {.seconds = 500};
  hold(5, 1e9);
  launcher_.on_wait = [this, lock = launcher_.on_wait] {
    lock();
    if (launcher_.now < 20 || interrupts_.now == Interrupt::stop) return;
    interrupts_.now = Interrupt::stop;
    sqlite3_busy_timeout(connection, 0);  // so that the test need not wait
  };
  const std::vector<Job> jobs = {fake_job("a", 0), fake_job("long", 0)};
  EXPECT_THAT([&] { run(jobs); },
              ::testing::ThrowsMessage<SweepStoreError>(HasSubstr((folder_ / "s" / "sweep.db").string())));
  sqlite3_reset_auto_extension();
  EXPECT_THAT(launcher_.aborts, ::testing::Each("ask"));  // nobody is killed
  other_.reset();
  interrupts_.now = Interrupt::none;
  launcher_.on_wait = [] {};
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "long/0@#1", "long/0@#2"));
}

// What sweep.db refuses at the start of a job is no failure of the job either.
TEST_F(SupervisorLocked, AJobThatCannotBeRegisteredHasNotFailed) {
  launcher_.on_wait = [&] {
    SQLite::Database(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE)
        .exec(
            "CREATE TRIGGER IF NOT EXISTS no BEFORE UPDATE ON runs WHEN new.state = 'running' AND old.state = 'queued' "
            "BEGIN SELECT raise(ABORT, 'not now'); END");
  };
  options_.devices[0].slots = 1;
  const std::vector<Job> jobs = {fake_job("a", 0), fake_job("b", 0)};
  EXPECT_THAT([&] { run(jobs); }, ::testing::ThrowsMessage<DatabaseError>(HasSubstr("not now")));
  SQLite::Database(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE).exec("DROP TRIGGER no");
  EXPECT_EQ(states(), "a done;b queued;");
}

}  // namespace test_supervisor_locked
}  // namespace equisweep
