// What goes wrong while a sweep runs, on a virtual clock: retries, limits, zombies, links, and a machine without room.
#include <gmock/gmock.h>
#include <sys/file.h>
#include <unistd.h>

#include "sweeps/sweep_folder.h"
#include "tests/support/fake_launcher.h"

namespace equisweep {
namespace test_supervisor_faults {

using fake::fake_job;
using fake::Script;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class SupervisorFaults : public fake::SupervisorTest {};

const Script kKilled{.final_row = std::nullopt, .exit = {.signalled = true, .code = 9}};
const Script kPreempted{.final_row = RunState::preempted, .exit = {.code = 75}};
const Script kOom{.final_row = RunState::oom, .exit = {.code = 1}};
const Script kDone{};

TEST_F(SupervisorFaults, RetriesWhatThePolicyNamesWithGrowingPauses) {
  options_.retry = {.max = 2, .on = {RunState::lost, RunState::oom, RunState::preempted}, .delay = 5};
  // The first attempt of each reaches step 1, so that it counts as no step forward when the next reaches it again.
  launcher_.attempts["comes back"] = {kKilled, kPreempted, kDone};
  launcher_.attempts["never"] = {kOom};
  launcher_.attempts["fails"] = {{.final_row = RunState::failed, .exit = {.code = 1}}, kDone};
  options_.devices[0].slots = 3;
  EXPECT_EQ(run({fake_job("comes back", 0), fake_job("never", 0), fake_job("fails", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("comes back/0@#1", "never/0@#1", "fails/0@#1", "comes back/0@#2", "never/0@#2",
                                            "comes back/0@#3", "never/0@#3"));
  // 10 s each, then 5 and 10 s of pause; the supervisor wakes up 5 times a second.
  EXPECT_THAT(launcher_.start_times,
              ElementsAre(0, 0, 0, DoubleNear(15, 0.5), DoubleNear(15, 0.5), DoubleNear(35, 0.7), DoubleNear(35, 0.7)));
  EXPECT_EQ(states(), "comes back done;never oom;fails failed;");
  EXPECT_EQ(db("SELECT a.attempt || a.state FROM attempts a JOIN runs r USING (run) WHERE r.job = '" +
               fake_job("comes back", 0).id + "' ORDER BY a.attempt"),
            "2preempted;3done;");  // the first was killed before it wrote anything
  EXPECT_THAT(said_, HasSubstr("; again in 10 s"));
}

TEST_F(SupervisorFaults, PreemptedOftenButMovingIsNoReasonToStop) {
  options_.retry = {.max = 1, .on = {RunState::preempted}, .delay = 1};
  for (int i = 1; i <= 6; ++i) {
    Script script = kPreempted;
    script.steps = i;
    launcher_.attempts["a"].push_back(script);
  }
  launcher_.attempts["a"].push_back(kDone);
  EXPECT_EQ(run({fake_job("a", 0)}), ExitCode::ok);
  EXPECT_EQ(launcher_.starts.size(), 7u);
}

TEST_F(SupervisorFaults, TheCountBeginsAnewWhenAPersonAsksAgain) {
  options_.retry = {.max = 1, .on = {RunState::lost}, .delay = 1};
  launcher_.scripts["a"] = kKilled;
  launcher_.scripts["a"].steps = 0;
  EXPECT_EQ(run({fake_job("a", 0)}), ExitCode::some_failed);
  EXPECT_EQ(launcher_.starts.size(), 2u);
  EXPECT_EQ(run({fake_job("a", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "a/0@#2", "a/0@#3", "a/0@#4"));
}

TEST_F(SupervisorFaults, NoRetryAfterAnInterrupt) {
  options_.retry = {.max = 9, .on = {RunState::lost, RunState::preempted}, .delay = 1};
  launcher_.scripts["a"] = kKilled;
  launcher_.on_wait = [&] { interrupts_.now = launcher_.now > 5 ? Interrupt::drain : Interrupt::none; };
  EXPECT_EQ(static_cast<int>(run({fake_job("a", 0)})), 130);
  EXPECT_EQ(launcher_.starts.size(), 1u);
  EXPECT_EQ(states(), "a lost;");
}

TEST_F(SupervisorFaults, TooLongIsTimeoutAndHungIsLost) {
  options_.timeout = 100;
  options_.stall_seconds = 30;
  options_.grace_seconds = 10;
  launcher_.scripts["slow"] = {.seconds = 1000};
  launcher_.scripts["hangs"] = {.seconds = 1000, .silent_after = 20, .obeys_term = false};
  EXPECT_EQ(run({fake_job("slow", 0), fake_job("hangs", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "kill", "ask", "kill"));
  // Its last sign of life came in the 20th second, 30 s later it is asked, 10 s after that killed.
  EXPECT_THAT(launcher_.abort_times,
              ElementsAre(DoubleNear(50, 1.5), DoubleNear(60, 1.5), DoubleNear(100, 0.5), DoubleNear(110, 0.7)));
  EXPECT_EQ(db("SELECT stack || ' ' || state || ' ' || message FROM cells JOIN runs USING (job) ORDER BY cell"),
            "slow timeout took longer than 100 s;hangs lost gave no sign of life for 30 s;");
  EXPECT_THAT(said_, HasSubstr("1 timeout"));
}

TEST_F(SupervisorFaults, AZombieThatWakesAfterItWasDeclaredLostChangesNothing) {
  options_.retry = {.max = 1, .on = {RunState::lost}, .delay = 5};
  options_.stall_seconds = 30;
  options_.grace_seconds = 10;
  // Stopped in its first second and deaf even to SIGKILL (a process in the kernel's hands) until, 200 s later, it ends as if
  // all were well. The supervisor still runs then, for the sake of another job.
  launcher_.attempts["a"] = {{.seconds = 200, .silent_after = 1, .obeys_term = false, .obeys_kill = false, .loss = 99},
                             {.loss = 2}};
  launcher_.scripts["long"] = {.seconds = 400};
  options_.devices[0].slots = 3;
  const Job a = fake_job("a", 0);
  EXPECT_EQ(run({a, fake_job("long", 0)}), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "long/0@#1", "a/0@#2"));
  EXPECT_THAT(said_, HasSubstr("killed, but its process is still there"));
  EXPECT_EQ(launcher_.refused_writes, 1);  // by the run.db itself
  EXPECT_EQ(states(), "a done;long done;");
  EXPECT_EQ(db("SELECT a.attempt || a.state FROM attempts a JOIN runs r USING (run) WHERE r.job = '" + a.id + "'"),
            "2done;");
  EXPECT_EQ(db("SELECT loss FROM evals JOIN runs USING (run) WHERE job = '" + a.id + "'"), "2.0;");
}

TEST_F(SupervisorFaults, AZombieKeepsItsSlotButDoesNotKeepTheSweepAlive) {
  options_.stall_seconds = 30;
  options_.grace_seconds = 10;
  launcher_.scripts["a"] = {.seconds = 1e6, .silent_after = 1, .obeys_term = false, .obeys_kill = false};
  options_.devices[0].slots = 2;
  EXPECT_EQ(run({fake_job("a", 0), fake_job("b", 0), fake_job("c", 0)}), ExitCode::some_failed);
  EXPECT_EQ(states(), "a lost;b done;c done;");
  EXPECT_EQ(launcher_.most[""], 2);
  EXPECT_LT(launcher_.now, 100);
}

TEST_F(SupervisorFaults, WhatAnotherProcessWorksOnIsWaitedForAndNotStartedTwice) {
  const Job a = fake_job("a", 0), b = fake_job("b", 0);
  std::filesystem::create_directories(run_path(a));
  const std::filesystem::path file = run_path(a) / kWorkerLock;
  std::ofstream(file) << "4711";
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  bool held = true;
  launcher_.on_wait = [&] {
    if (!held || launcher_.now < 20) return;
    {  // it finishes its work, and goes
      RunStore store(run_path(a) / "run.db", a.id, canonical(a.config), {.attempt = 1, .started_at = "S"});
      store.finish({.state = RunState::done});
    }
    ::close(fd);
    held = false;
  };
  EXPECT_EQ(run({a, b}), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("b/0@#1"));
  EXPECT_THAT(said_, HasSubstr(a.id + " waits: process 4711 is still working on it (`kill 4711` ends that)\n"));
  EXPECT_EQ(said_.find("waits:"), said_.rfind("waits:"));  // once
  EXPECT_EQ(states(), "a done;b done;");
  ASSERT_FALSE(held);
}

// A write to sweep.db fails when the first job ends: the other one is asked to stop, so that it saves its state, and waited
// for.
TEST_F(SupervisorFaults, ADatabaseThatRefusesAWriteCostsNobodyItsCheckpoint) {
  launcher_.scripts["long"] = {.seconds = 500};
  launcher_.on_wait = [&] {
    if (launcher_.now < 5 || launcher_.now > 6) return;
    SQLite::Database(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE)
        .exec("CREATE TRIGGER IF NOT EXISTS no BEFORE UPDATE ON runs BEGIN SELECT raise(ABORT, 'no room'); END");
  };
  const std::vector<Job> jobs = {fake_job("a", 0), fake_job("long", 0)};
  EXPECT_THAT([&] { run(jobs); }, ::testing::ThrowsMessage<DatabaseError>(HasSubstr("no room")));
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask"));
  EXPECT_GE(launcher_.now, 500);
  SQLite::Database(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE).exec("DROP TRIGGER no");
  launcher_.on_wait = [] {};
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_EQ(states(), "a done;long done;");
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "long/0@#1", "long/0@#2"));  // what `a` had left was taken in
}

TEST_F(SupervisorFaults, WorkersThatDoNotStopForARefusedWriteAreKilled) {
  launcher_.scripts["deaf"] = {.seconds = 1e6, .obeys_term = false};
  options_.stall_seconds = 60;
  options_.grace_seconds = 10;
  launcher_.on_wait = [&] {
    if (launcher_.now < 5 || launcher_.now > 6) return;
    SQLite::Database(folder_ / "s" / "sweep.db", SQLite::OPEN_READWRITE)
        .exec("CREATE TRIGGER IF NOT EXISTS no BEFORE UPDATE ON runs BEGIN SELECT raise(ABORT, 'no room'); END");
  };
  EXPECT_THROW(run({fake_job("a", 0), fake_job("deaf", 0)}), DatabaseError);
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "kill"));
  EXPECT_LT(launcher_.now, 100);
}

TEST_F(SupervisorFaults, LinksPlantedInARunsFolderAreNotFollowed) {
  const TempFolder elsewhere;
  const Job whole = fake_job("whole", 0), config = fake_job("config", 0), database = fake_job("database", 0);
  std::filesystem::create_directories(run_path(whole).parent_path());
  std::filesystem::create_directory_symlink(elsewhere.path(), run_path(whole));
  std::filesystem::create_directories(run_path(config));
  std::ofstream(elsewhere / "target") << "precious";
  std::filesystem::create_symlink(elsewhere / "target", run_path(config) / "config.yaml");
  std::filesystem::create_directories(run_path(database));
  std::filesystem::create_symlink(elsewhere / "target", run_path(database) / "run.db");
  EXPECT_EQ(run({whole, config, database}), ExitCode::some_failed);
  EXPECT_EQ(states(), "whole failed;config done;database failed;");
  EXPECT_THAT(said_, HasSubstr("is a link"));
  std::string text;
  std::ifstream(elsewhere / "target") >> text;
  EXPECT_EQ(text, "precious");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(elsewhere.path()), {}), 1);
}

TEST_F(SupervisorFaults, AMachineWithoutRoomGetsAsManyWorkersAsItHolds) {
  options_.devices[0].slots = 8;
  launcher_.most_processes = 3;
  std::vector<Job> jobs;
  for (int i = 0; i < 9; ++i) jobs.push_back(fake_job(fmt::format("s{}", i), 0));
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_EQ(launcher_.starts.size(), 9u);
  EXPECT_EQ(launcher_.most[""], 3);
  EXPECT_THAT(said_, HasSubstr("no more than 3 workers at a time: too many processes"));
  launcher_.most_processes = 0;
  EXPECT_EQ(run({fake_job("new", 0)}), ExitCode::some_failed);
  EXPECT_THAT(said_, HasSubstr("cannot be started: too many processes"));
}

TEST_F(SupervisorFaults, ThePlanGrowsWithItsResults) {
  // Tune a and b; confirm the better one on two further seeds; a diverged one is infinitely bad.
  const std::vector<Job> tune = {fake_job("a", 0), fake_job("b", 0), fake_job("c", 0)};
  launcher_.scripts["a"].loss = 3;
  launcher_.scripts["b"].loss = 2;
  launcher_.scripts["c"] = {.final_row = RunState::diverged, .loss = 1};
  std::vector<std::size_t> asked;
  options_.replan = [&](const std::map<std::string, JobResult>& results) {
    asked.push_back(results.size());
    std::vector<Job> jobs = tune;
    for (const Job& job : tune) {
      if (!results.contains(job.id)) return jobs;
    }
    const auto best = std::min_element(
        tune.begin(), tune.end(), [&](const Job& x, const Job& y) { return results.at(x.id).loss < results.at(y.id).loss; });
    EXPECT_EQ(results.at(tune[2].id).state, RunState::diverged);
    EXPECT_TRUE(std::isinf(results.at(tune[2].id).loss));
    for (const int seed : {10, 11}) jobs.push_back(fake_job(best->stack, seed));
    return jobs;
  };
  EXPECT_EQ(run(tune), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("a/0@#1", "b/0@#1", "c/0@#1", "b/10@#1", "b/11@#1"));
  EXPECT_THAT(asked, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(said_, HasSubstr("the results so far add 2 jobs to the plan"));
  EXPECT_EQ(db("SELECT count(*) FROM cells WHERE retired = 0"), "5;");
  launcher_.starts.clear();
  asked.clear();
  EXPECT_EQ(run(tune), ExitCode::ok);  // everything is known from the beginning
  EXPECT_THAT(launcher_.starts, ElementsAre());
  EXPECT_THAT(asked, ElementsAre(3, 5));
  EXPECT_EQ(db("SELECT count(*) FROM cells"), "5;");
  EXPECT_EQ(db("SELECT count(*) FROM cells WHERE retired = 0"), "5;");
}

TEST_F(SupervisorFaults, APlanThatCannotBeContinuedLetsTheRunningFinish) {
  options_.replan = [&](const std::map<std::string, JobResult>& results) -> std::vector<Job> {
    if (!results.empty()) throw UsageError("no rate is left");
    return {fake_job("a", 0), fake_job("b", 0)};
  };
  launcher_.scripts["b"].seconds = 20;
  EXPECT_EQ(run({fake_job("a", 0), fake_job("b", 0)}), ExitCode::some_failed);
  EXPECT_EQ(states(), "a done;b done;");
  EXPECT_THAT(said_, HasSubstr("the plan cannot be continued: no rate is left"));
}

}  // namespace test_supervisor_faults
}  // namespace equisweep
