// The supervisor on a virtual clock, with workers that are only told about: what runs, in which order, and what is said.
#include <gmock/gmock.h>

#include "tests/support/fake_launcher.h"

namespace equisweep {
namespace test_supervisor {

using fake::fake_job;
using fake::SupervisorTest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(SupervisorTest, RunsEachJobOnceAndTheFirstSeedFirst) {
  const std::vector<Job> jobs = {fake_job("a", 1), fake_job("a", 0), fake_job("b", 1), fake_job("b", 0), fake_job("a", 1)};
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("a/1@#1", "b/1@#1", "a/0@#1", "b/0@#1"));
  EXPECT_EQ(launcher_.most[""], 2);
  EXPECT_EQ(db("SELECT stack || seed || state FROM cells JOIN runs USING (job) ORDER BY cell"),
            "a1done;a0done;b1done;b0done;a1done;");
  EXPECT_EQ(db("SELECT count(*) FROM steps"), "4;");
  EXPECT_EQ(db("SELECT DISTINCT exit_status FROM attempts"), "exit 0;");
  EXPECT_THAT(said_, HasSubstr("s: 4 jobs: 4 done"));
  EXPECT_THAT(said_, HasSubstr("next: equisweep report s"));
  launcher_.starts.clear();
  EXPECT_EQ(run(jobs), ExitCode::ok);  // nothing is left to do
  EXPECT_THAT(launcher_.starts, ElementsAre());
  EXPECT_EQ(run({fake_job("a", 1), fake_job("c", 1)}), ExitCode::ok);  // a changed plan runs what is new
  EXPECT_THAT(launcher_.starts, ElementsAre("c/1@#1"));
}

TEST_F(SupervisorTest, NoSlotIsGivenTwice) {
  four_gpus(2);
  std::vector<Job> jobs;
  for (int i = 0; i < 20; ++i) {
    jobs.push_back(fake_job(fmt::format("s{}", i), 0));
    launcher_.scripts[jobs.back().stack].seconds = 1 + i * 7 % 11;
  }
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_EQ(launcher_.starts.size(), 20u);
  EXPECT_EQ(launcher_.most, (std::map<std::string, int>{{"GPU-0", 2}, {"GPU-1", 2}, {"GPU-2", 2}, {"GPU-3", 2}}));
}

TEST_F(SupervisorTest, FailuresLeaveNeighboursAlone) {
  launcher_.scripts["quiet"] = {.final_row = std::nullopt};
  launcher_.scripts["exit"] = {.final_row = std::nullopt, .exit = {.code = 3}};
  launcher_.scripts["killed"] = {.final_row = std::nullopt, .exit = {.signalled = true, .code = 9}};
  launcher_.scripts["oom"] = {.final_row = RunState::oom, .exit = {.code = 1}};
  launcher_.scripts["unstartable"] = {.refuses_to_start = true};
  launcher_.scripts["stumbles"] = {.exit = {.signalled = true, .code = 6}};
  launcher_.scripts["diverges"] = {.final_row = RunState::diverged};
  std::vector<Job> jobs;
  for (const char* stack : {"quiet", "exit", "killed", "oom", "unstartable", "stumbles", "diverges", "fine"})
    jobs.push_back(fake_job(stack, 0));
  EXPECT_EQ(run(jobs), ExitCode::some_failed);
  EXPECT_EQ(db("SELECT stack || ' ' || state || ' ' || message FROM cells JOIN runs USING (job) ORDER BY cell"),
            "quiet failed ended without a final row;exit failed exit 3;killed lost killed by signal 9, which is often the "
            "system's answer to a lack of memory;oom oom ;"
            "unstartable failed cannot be started: no such program;stumbles done after its final row: signal 6;diverges "
            "diverged ;fine done ;");
  EXPECT_THAT(said_, HasSubstr("8 jobs: 2 done, 1 diverged, 3 failed, 1 oom, 1 lost"));
  EXPECT_THAT(said_, HasSubstr((folder_ / "s" / "runs" / jobs[1].id / "log.txt").string()));
  launcher_.scripts.clear();
  launcher_.starts.clear();
  EXPECT_EQ(run(jobs), ExitCode::ok);  // the same command runs what is missing
  EXPECT_THAT(launcher_.starts, ElementsAre("quiet/0@#2", "exit/0@#2", "killed/0@#2", "oom/0@#2", "unstartable/0@#2"));
}

TEST_F(SupervisorTest, FailFastStartsNothingMore) {
  options_.fail_fast = true;
  launcher_.scripts["bad"] = {.seconds = 1, .final_row = std::nullopt, .exit = {.code = 1}};
  EXPECT_EQ(run({fake_job("bad", 0), fake_job("slow", 0), fake_job("third", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("bad/0@#1", "slow/0@#1"));
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "failed;done;queued;");
}

TEST_F(SupervisorTest, ASelectionLeavesTheOtherJobsInThePlan) {
  const std::vector<Job> jobs = {fake_job("a", 0), fake_job("b", 0), fake_job("c", 0)};
  options_.only = {jobs[1].id};
  EXPECT_EQ(run(jobs), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("b/0@#1"));
  EXPECT_EQ(db("SELECT stack || ' ' || state || ' ' || retired FROM cells JOIN runs USING (job) ORDER BY cell"),
            "a queued 0;b done 0;c queued 0;");
  options_.only.reset();
  EXPECT_EQ(run(jobs), ExitCode::ok);  // the rest
  EXPECT_THAT(launcher_.starts, ElementsAre("b/0@#1", "a/0@#1", "c/0@#1"));
}

TEST_F(SupervisorTest, InterruptedInThreeStages) {
  const std::vector<Job> jobs = {fake_job("a", 0), fake_job("b", 0), fake_job("c", 0)};
  launcher_.on_wait = [&] {
    if (launcher_.now > 3) interrupts_.now = Interrupt::drain;
  };
  EXPECT_EQ(static_cast<int>(run(jobs)), 130);
  EXPECT_THAT(launcher_.aborts, ElementsAre());
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "done;done;queued;");
  EXPECT_THAT(said_, HasSubstr("the same command"));

  const std::vector<Job> more = {fake_job("c", 0), fake_job("d", 0)};
  interrupts_.now = Interrupt::none;
  const double begin = launcher_.now;
  launcher_.on_wait = [&] {
    if (launcher_.now > begin + 2) interrupts_.now = Interrupt::stop;
  };
  EXPECT_EQ(static_cast<int>(run(more)), 130);
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "ask"));
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) WHERE retired = 0 ORDER BY cell"), "preempted;preempted;");

  interrupts_.now = Interrupt::none;
  launcher_.aborts.clear();
  const double again = launcher_.now;
  launcher_.on_wait = [&] {
    if (launcher_.now > again + 1) interrupts_.now = Interrupt::stop;
    if (launcher_.now > again + 2) interrupts_.now = Interrupt::kill;
  };
  EXPECT_EQ(static_cast<int>(run(more)), 130);
  EXPECT_THAT(launcher_.aborts, ElementsAre("ask", "ask", "kill", "kill"));
  EXPECT_LT(launcher_.now, again + 4);

  interrupts_.now = Interrupt::none;
  launcher_.on_wait = [] {};
  launcher_.starts.clear();
  EXPECT_EQ(run(more), ExitCode::ok);
  EXPECT_THAT(launcher_.starts, ElementsAre("c/0@#3", "d/0@#3"));
}

TEST_F(SupervisorTest, TakesInWhatAKilledSupervisorLeft) {
  const Job finished = fake_job("finished", 0), half = fake_job("half", 0), damaged = fake_job("damaged", 0),
            unborn = fake_job("unborn", 0);
  {
    SweepStore store((std::filesystem::create_directories(folder_ / "s"), folder_ / "s" / "sweep.db"));
    std::vector<CellRow> cells;
    for (const Job& j : {finished, half, damaged, unborn}) {
      cells.push_back({.job = j.id, .model = j.model, .stack = j.stack, .seed = j.seed, .config = canonical(j.config)});
    }
    store.set_plan(cells);
    for (const Job& j : {finished, half, damaged, unborn}) store.set_state(j.id, RunState::running, "", 4);
  }
  const auto run_db = [&](const Job& j) {
    const auto path = run_folder(folder_.path(), "s", j.id);
    std::filesystem::create_directories(path);
    return path / "run.db";
  };
  {
    RunStore(run_db(finished), finished.id, canonical(finished.config), {.attempt = 4, .started_at = "S"})
        .finish({.state = RunState::done});
  }
  { RunStore store(run_db(half), half.id, canonical(half.config), {.attempt = 6, .started_at = "S"}); }
  std::ofstream(run_db(damaged)) << "garbage that is long enough to be no database at all, by far";
  {  // killed between its first two writes
    SQLite::Database db(run_db(unborn).string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    db.exec("PRAGMA journal_mode = WAL");
  }
  EXPECT_GT(std::filesystem::file_size(run_db(unborn)), 0u);
  EXPECT_EQ(run({finished, half, damaged, unborn}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("half/0@#7", "unborn/0@#5"));
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "done;done;failed;done;");
  EXPECT_THAT(said_, HasSubstr("is not a database"));
  EXPECT_EQ(db("SELECT state FROM attempts ORDER BY attempt"), "done;done;lost;done;");
}

TEST_F(SupervisorTest, NamesThatAreNoFolderAreRefused) {
  const std::string names[] = {
      "", ".", "..", "../x", "a/b", "-rf", "x\ny", "x\x1b[2J", std::string("a\0b", 3), std::string(201, 'x')};
  for (const std::string& name : names) {
    EXPECT_THROW(sweep_folder("results", name), UsageError) << name;
  }
  EXPECT_EQ(sweep_folder("results", "vocab-rules 2"), std::filesystem::path("results") / "vocab-rules 2");
}

}  // namespace test_supervisor
}  // namespace equisweep
