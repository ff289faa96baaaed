// The supervisor with real processes: what happens to them, and what is left of them.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/run_store.h"
#include "sweeps/supervisor.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_supervisor_processes {

using ::testing::HasSubstr;
using ::testing::Not;

struct TestPipe {
  int read = -1, write = -1;
  TestPipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) std::abort();
    read = fds[0];
    write = fds[1];
  }
  ~TestPipe() {
    ::close(read);
    close_write();
  }
  void close_write() {
    if (write >= 0) ::close(write);
    write = -1;
  }
};

/// `stub_worker supervise` as a child. Descriptors 100 and 101 are the pipes that the workers inherit through it.
class Supervision {
 public:
  /// `task` is a list of stubs, or an object with them and options of the supervisor.
  Supervision(const TempFolder& folder, const nlohmann::json& task, int slots, rlim_t files = 0) : folder_(folder) {
    std::ofstream(folder / "jobs.json") << (task.is_array() ? nlohmann::json{{"stubs", task}} : task);
    const std::string jobs = folder / "jobs.json", results = folder.path(), n = std::to_string(slots);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(error_.write, 2);
      ::dup2(ready_.write, 100);
      ::dup2(gate_.read, 101);
      const rlimit limit{files, files};
      if (files > 0 && ::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::_exit(126);
      ::setenv("STUB_READY", "100", 1);
      ::setenv("STUB_GATE", "101", 1);
      ::execl(EQUISWEEP_STUB_WORKER, "stub_worker", "supervise", results.c_str(), jobs.c_str(), n.c_str(), nullptr);
      ::_exit(127);
    }
    error_.close_write();
    ready_.close_write();
  }
  ~Supervision() {
    if (pid_ > 0) wait();
  }

  /// Reads what the supervisor says until `text` is in it; false if it ends before.
  bool says(const std::string& text) {
    char c = 0;
    while (said_.find(text) == std::string::npos) {
      if (::read(error_.read, &c, 1) != 1) return false;
      said_ += c;
    }
    return true;
  }
  /// Waits for `count` workers that say that they run.
  void workers_ready(int count) {
    char c = 0;
    while (count > 0 && ::read(ready_.read, &c, 1) == 1) count -= c == '\n' ? 1 : 0;
    ASSERT_EQ(count, 0);
  }
  /// Returns when no process is left that could hold the pipe of the workers.
  void all_gone() {
    char c = 0;
    while (::read(ready_.read, &c, 1) > 0) {
    }
  }
  void signal(int number) { ::kill(pid_, number); }
  void open_gate(const std::string& bytes) {
    ASSERT_EQ(::write(gate_.write, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  int wait() {
    says("\x01");  // to the end
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& said() const { return said_; }

  std::string states() const {
    const auto db = open_read_only(folder_ / "stubs" / "sweep.db");
    SQLite::Statement query(*db,
                            "SELECT stack || ' ' || state || ' ' || message FROM cells JOIN runs USING (job) ORDER BY cell");
    std::string all;
    while (query.executeStep()) all += query.getColumn(0).getString() + ";";
    return all;
  }

 private:
  const TempFolder& folder_;
  TestPipe error_, ready_, gate_;
  pid_t pid_ = -1;
  std::string said_;
};

TEST(SupervisorProcesses, EveryKindOfEnd) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"done", "diverged", "quiet", "nothing", "exit7", "killed", "abort_after", "child", "oom", "assert"},
                3);
  EXPECT_EQ(s.wait(), 1);
  s.all_gone();  // also the process that the worker `child` left behind
  EXPECT_EQ(s.states(),
            "done done ;diverged diverged ;quiet failed ended without a final row;nothing failed ended without a final row;"
            "exit7 failed exit 7;killed lost killed by signal 9, which is often the system's answer to a lack of memory;"
            "abort_after done after its final row: signal 6;child done ;oom oom ;assert failed killed by signal 6;");
  const auto db = open_read_only(folder / "stubs" / "sweep.db");
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM steps").getInt(), 8 * 3);  // also of those that failed
  EXPECT_EQ(db->execAndGet("SELECT group_concat(exit_status) FROM (SELECT DISTINCT exit_status FROM attempts ORDER BY 1)")
                .getString(),
            "exit 0,exit 1,signal 6,signal 9");
}

TEST(SupervisorProcesses, FloodIsCutAndTheJobIsDone) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"flood"}, 1);
  EXPECT_EQ(s.wait(), 0);
  const auto db = open_read_only(folder / "stubs" / "sweep.db");
  const std::filesystem::path log =
      run_folder(folder.path(), "stubs", db->execAndGet("SELECT job FROM runs").getString()) / "log.txt";
  const std::uintmax_t written = 200 * 65536 + std::string("attempt 1 of flood on cpu\n").size(), limit = 10 << 20;
  const std::string note =
      "\n[equisweep: the log is full; " + std::to_string(written - limit - 16384) + " bytes are left out here]\n";
  EXPECT_EQ(std::filesystem::file_size(log), limit + note.size() + 16384);
}

TEST(SupervisorProcesses, WhatIsKilledPreemptedOrStoppedIsStartedAgain) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {{"stubs", {"kill_once", "preempt_once"}}, {"retries", 1}}, 2);
  EXPECT_EQ(s.wait(), 0);
  EXPECT_EQ(s.states(), "kill_once done ;preempt_once done ;");
  const auto db = open_read_only(folder / "stubs" / "sweep.db");
  EXPECT_EQ(db->execAndGet("SELECT group_concat(attempt || state) FROM attempts").getString(),
            "1lost,2done,1preempted,2done");
}

TEST(SupervisorProcesses, HungAndStoppedWorkersAreKilled) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {{"stubs", {"stubborn", "hang", "stopped"}}, {"stall", 0.3}, {"grace", 0.2}}, 3);
  EXPECT_EQ(s.wait(), 1);
  s.all_gone();
  const std::string why = " lost gave no sign of life for 0.3 s;";
  EXPECT_EQ(s.states(), "stubborn" + why + "hang" + why + "stopped" + why);
}

TEST(SupervisorProcesses, TheirTimeIsLimited) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {{"stubs", {"hang", "graceful", "stubborn"}}, {"timeout", 0.3}, {"grace", 0.2}}, 3);
  EXPECT_EQ(s.wait(), 1);
  s.all_gone();
  const std::string why = " timeout took longer than 0.3 s;";
  EXPECT_EQ(s.states(), "hang" + why + "graceful" + why + "stubborn" + why);
}

TEST(SupervisorProcesses, AKilledSupervisorTakesStoppedWorkersWithIt) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"hang", "stopped", "stubborn"}, 3);
  s.workers_ready(3);
  s.signal(SIGKILL);
  EXPECT_EQ(s.wait(), -SIGKILL);
  s.all_gone();  // hangs if one survives
}

TEST(SupervisorProcesses, TwoThousandJobsWithFewFiles) {
  const TempFolder folder(memory_root());
  Supervision s(folder, nlohmann::json(std::vector<std::string>(2000, "nothing")), 8, 256);
  EXPECT_EQ(s.wait(), 1);
  nlohmann::json seen;
  std::ifstream(folder / "seen.json") >> seen;
  const std::vector<std::int64_t> files = seen.at("files"), pages = seen.at("pages");
  ASSERT_EQ(files.size(), 2000u);
  const auto most = [](const std::vector<std::int64_t>& v, std::size_t from, std::size_t to) {
    return *std::max_element(v.begin() + static_cast<std::ptrdiff_t>(from), v.begin() + static_cast<std::ptrdiff_t>(to));
  };
  EXPECT_EQ(most(files, 1000, 2000), most(files, 0, 1000));
  EXPECT_LE(most(files, 0, 2000), 8 * 3 + 20);
  EXPECT_LE(most(pages, 1000, 2000), most(pages, 0, 1000) + 256) << "a megabyte";
  RecordProperty("cpu_ms_per_job", std::to_string(seen.at("cpu_seconds").get<double>() / 2));
}

TEST(SupervisorProcesses, KilledSupervisorLeavesNoOrphanAndTheSameCommandContinues) {
  const TempFolder folder(memory_root());
  {
    Supervision s(folder, {"done", "gated", "gated"}, 3);
    s.workers_ready(2);
    ASSERT_TRUE(s.says("  after "));  // the first job has ended
    s.signal(SIGKILL);
    EXPECT_EQ(s.wait(), -SIGKILL);
    s.all_gone();  // hangs if a worker survives
  }
  Supervision again(folder, {"done", "gated", "gated"}, 3);
  again.open_gate("12");
  EXPECT_EQ(again.wait(), 0);
  EXPECT_EQ(again.states(), "done done ;gated done ;gated done ;");
  const auto db = open_read_only(folder / "stubs" / "sweep.db");
  EXPECT_EQ(db->execAndGet("SELECT group_concat(attempt) FROM runs").getString(), "1,2,2");
}

TEST(SupervisorProcesses, CtrlCOnceFinishesTheRunning) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"gated", "done"}, 1);
  s.workers_ready(1);
  s.signal(SIGINT);
  ASSERT_TRUE(s.says("interrupted: 1 jobs are left out, 1 running will finish"));
  s.open_gate("1");
  EXPECT_EQ(s.wait(), 130);
  EXPECT_EQ(s.states(), "gated done ;done queued ;");
}

TEST(SupervisorProcesses, CtrlCTwiceStopsAndThreeTimesKills) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"hang", "graceful", "stubborn", "done"}, 3);
  s.workers_ready(3);
  s.signal(SIGINT);
  ASSERT_TRUE(s.says("interrupted"));
  s.signal(SIGINT);
  ASSERT_TRUE(s.says("stopping 3 jobs"));
  s.signal(SIGINT);
  ASSERT_TRUE(s.says("killing"));
  EXPECT_EQ(s.wait(), 130);
  s.all_gone();
  EXPECT_THAT(s.states(), HasSubstr("hang preempted stopped on request;"));
  EXPECT_THAT(s.states(), HasSubstr("stubborn preempted stopped on request;done queued ;"));
}

TEST(SupervisorProcesses, SigtermStopsAtOnce) {
  const TempFolder folder(memory_root());
  Supervision s(folder, {"hang", "graceful", "done"}, 2);
  s.workers_ready(2);
  for (int i = 0; i < 100; ++i) s.signal(SIGTERM);  // a storm is one wish
  EXPECT_EQ(s.wait(), 143);
  s.all_gone();
  EXPECT_EQ(s.states(), "hang preempted stopped on request;graceful preempted ;done queued ;");
  EXPECT_THAT(s.said(), Not(HasSubstr("killing")));
}

TEST(SupervisorProcesses, SecondSupervisorIsRefusedWithTheFirstOnesNumber) {
  const TempFolder folder(memory_root());
  Supervision first(folder, {"gated"}, 1);
  first.workers_ready(1);
  std::string pid;
  std::ifstream(folder / "stubs" / "supervisor.lock") >> pid;
  {
    Supervision second(folder, {"gated"}, 1);
    EXPECT_EQ(second.wait(), 5);
    EXPECT_THAT(second.said(), HasSubstr("process " + pid + " is running this sweep"));
  }
  first.open_gate("1");
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(first.states(), "gated done ;");
}

}  // namespace test_supervisor_processes
}  // namespace equisweep
