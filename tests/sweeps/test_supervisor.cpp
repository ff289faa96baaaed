// The supervisor on a virtual clock, with workers that are only told about.
#include "sweeps/supervisor.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/run_store.h"
#include "tests/support/screen.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_supervisor {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Job make_job(const std::string& stack, std::int64_t seed) {
  Job job;
  job.config = {{"seed", seed}, {"stack", stack}};
  job.id = job_id(job.config);
  job.model = "m";
  job.stack = stack;
  job.seed = seed;
  return job;
}

/// What a worker does, by the stack of its job.
struct Script {
  double seconds = 10;
  std::optional<RunState> final_row = RunState::done;
  WorkerExit exit = {};
  bool refuses_to_start = false;
};

class FakeLauncher : public Launcher {
 public:
  std::map<std::string, Script> scripts;
  std::vector<std::string> starts;  // "stack/seed@device#attempt"
  std::vector<std::string> aborts;
  std::map<std::string, int> most;  // at a time on each device
  double now = 0;
  std::function<void()> on_wait = [] {};

  WorkerId start(const WorkerSpec& spec) override {
    nlohmann::json config;
    std::ifstream(spec.folder / "config.yaml") >> config;
    const std::string stack = config.at("stack");
    const Script script = scripts[stack];
    if (script.refuses_to_start) throw Error("no more processes");
    starts.push_back(fmt::format("{}/{}@{}#{}", stack, config.at("seed").dump(), spec.visible, spec.attempt));
    running_[++last_] = {spec, script, canonical(config), now + script.seconds};
    int here = 0;
    for (const auto& [id, r] : running_) here += r.spec.visible == spec.visible ? 1 : 0;
    most[spec.visible] = std::max(most[spec.visible], here);
    return last_;
  }

  std::vector<WorkerNews> wait(std::chrono::milliseconds patience) override {
    on_wait();
    now += std::chrono::duration<double>(patience).count();
    std::vector<WorkerNews> news;
    for (const auto& [id, r] : running_) {
      if (r.end > now) continue;
      if (r.script.final_row) {
        RunStore store(r.spec.folder / "run.db", r.spec.folder.filename().string(), r.config,
                       {.attempt = r.spec.attempt, .started_at = "S"});
        store.add(StepRow{.step = 1});
        store.finish({.state = *r.script.final_row});
      }
      news.push_back({.worker = id, .progress = Progress{.step = 1, .steps = 1}, .exit = r.script.exit});
    }
    for (const WorkerNews& n : news) running_.erase(n.worker);
    return news;
  }

  void abort(WorkerId id, Abort how) override {
    aborts.push_back(how == Abort::ask ? "ask" : "kill");
    auto& r = running_.at(id);
    r.script = {.final_row = std::nullopt, .exit = {.signalled = true, .code = how == Abort::ask ? 15 : 9}};
    r.end = how == Abort::kill ? now : r.end;
  }

 private:
  struct Running {
    WorkerSpec spec;
    Script script;
    std::string config;
    double end;
  };
  std::map<WorkerId, Running> running_;
  WorkerId last_ = 0;
};

struct FakeInterrupts : Interrupts {
  Interrupt now = Interrupt::none;
  Interrupt stage() const override { return now; }
  int signal() const override { return 2; }
};

class SupervisorTest : public ::testing::Test {
 protected:
  TempFolder folder_;
  FakeLauncher launcher_;
  FakeInterrupts interrupts_;
  RunOptions options_{.results = folder_.path(), .devices = {{.name = "cpu", .visible = "", .slots = 2, .threads = 1}}};
  std::string said_;

  ExitCode run(const std::vector<Job>& jobs) {
    Screen pipe(80, 24, false);
    const ExitCode code = run_sweep("s", jobs, options_, {launcher_, pipe, interrupts_, [this] { return launcher_.now; }});
    said_ = pipe.written();
    return code;
  }
  std::string db(const std::string& sql) {
    const auto db = open_read_only(folder_ / "s" / "sweep.db");
    SQLite::Statement query(*db, sql);
    std::string all;
    while (query.executeStep()) all += query.getColumn(0).getString() + ";";
    return all;
  }
};

TEST_F(SupervisorTest, RunsEachJobOnceAndTheFirstSeedFirst) {
  const std::vector<Job> jobs = {make_job("a", 1), make_job("a", 0), make_job("b", 1), make_job("b", 0), make_job("a", 1)};
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
  EXPECT_EQ(run({make_job("a", 1), make_job("c", 1)}), ExitCode::ok);  // a changed plan runs what is new
  EXPECT_THAT(launcher_.starts, ElementsAre("c/1@#1"));
}

TEST_F(SupervisorTest, NoSlotIsGivenTwice) {
  options_.devices.clear();
  for (int i = 0; i < 4; ++i) {
    options_.devices.push_back(
        {.name = fmt::format("cuda:{}", i), .visible = fmt::format("GPU-{}", i), .slots = 2, .threads = 1});
  }
  std::vector<Job> jobs;
  for (int i = 0; i < 20; ++i) {
    jobs.push_back(make_job(fmt::format("s{}", i), 0));
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
    jobs.push_back(make_job(stack, 0));
  EXPECT_EQ(run(jobs), ExitCode::some_failed);
  EXPECT_EQ(db("SELECT stack || ' ' || state || ' ' || message FROM cells JOIN runs USING (job) ORDER BY cell"),
            "quiet failed ended without a final row;exit failed exit 3;killed failed killed by signal 9;oom oom ;"
            "unstartable failed cannot be started: no more processes;stumbles done after its final row: signal 6;diverges "
            "diverged ;fine done ;");
  EXPECT_THAT(said_, HasSubstr("8 jobs: 2 done, 1 diverged, 4 failed, 1 oom"));
  EXPECT_THAT(said_, HasSubstr((folder_ / "s" / "runs" / jobs[1].id / "log.txt").string()));
  launcher_.scripts.clear();
  launcher_.starts.clear();
  EXPECT_EQ(run(jobs), ExitCode::ok);  // the same command runs what is missing
  EXPECT_THAT(launcher_.starts, ElementsAre("quiet/0@#2", "exit/0@#2", "killed/0@#2", "oom/0@#2", "unstartable/0@#2"));
}

TEST_F(SupervisorTest, FailFastStartsNothingMore) {
  options_.fail_fast = true;
  launcher_.scripts["bad"] = {.seconds = 1, .final_row = std::nullopt, .exit = {.code = 1}};
  EXPECT_EQ(run({make_job("bad", 0), make_job("slow", 0), make_job("third", 0)}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("bad/0@#1", "slow/0@#1"));
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "failed;done;queued;");
}

TEST_F(SupervisorTest, ASelectionLeavesTheOtherJobsInThePlan) {
  const std::vector<Job> jobs = {make_job("a", 0), make_job("b", 0), make_job("c", 0)};
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
  const std::vector<Job> jobs = {make_job("a", 0), make_job("b", 0), make_job("c", 0)};
  launcher_.on_wait = [&] {
    if (launcher_.now > 3) interrupts_.now = Interrupt::drain;
  };
  EXPECT_EQ(static_cast<int>(run(jobs)), 130);
  EXPECT_THAT(launcher_.aborts, ElementsAre());
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "done;done;queued;");
  EXPECT_THAT(said_, HasSubstr("the same command"));

  const std::vector<Job> more = {make_job("c", 0), make_job("d", 0)};
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
  const Job finished = make_job("finished", 0), half = make_job("half", 0), damaged = make_job("damaged", 0);
  {
    SweepStore store((std::filesystem::create_directories(folder_ / "s"), folder_ / "s" / "sweep.db"));
    std::vector<CellRow> cells;
    for (const Job& j : {finished, half, damaged}) {
      cells.push_back({.job = j.id, .model = j.model, .stack = j.stack, .seed = j.seed, .config = canonical(j.config)});
    }
    store.set_plan(cells);
    for (const Job& j : {finished, half, damaged}) store.set_state(j.id, RunState::running, "", 4);
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
  EXPECT_EQ(run({finished, half, damaged}), ExitCode::some_failed);
  EXPECT_THAT(launcher_.starts, ElementsAre("half/0@#7"));
  EXPECT_EQ(db("SELECT state FROM cells JOIN runs USING (job) ORDER BY cell"), "done;done;failed;");
  EXPECT_THAT(said_, HasSubstr("is not a database"));
  EXPECT_EQ(db("SELECT state FROM attempts ORDER BY attempt"), "done;lost;done;");
}

TEST_F(SupervisorTest, NamesThatAreNoFolderAreRefused) {
  const std::string names[] = {
      "", ".", "..", "../x", "a/b", "-rf", "x\ny", "x\x1b[2J", std::string("a\0b", 3), std::string(201, 'x')};
  for (const std::string& name : names) {
    EXPECT_THROW(sweep_folder("results", name), UsageError) << name;
  }
  EXPECT_EQ(sweep_folder("results", "vocab-rules 2"), std::filesystem::path("results") / "vocab-rules 2");
}

TEST(Judge, EveryEnd) {
  const auto text = [](const Verdict& v) { return std::string(name_of(v.state)) + ": " + v.message; };
  const WorkerExit ok{}, one{.code = 1}, preempted{.code = 75}, term{.signalled = true, .code = 15};
  EXPECT_EQ(text(judge(RunState::done, "", ok, false)), "done: ");
  EXPECT_EQ(text(judge(RunState::done, "m", one, false)), "done: m; after its final row: exit 1");
  EXPECT_EQ(text(judge(RunState::failed, "m", one, false)), "failed: m");
  EXPECT_EQ(text(judge(RunState::preempted, "", preempted, true)), "preempted: ");
  EXPECT_EQ(text(judge(RunState::done, "", term, true)), "done: ");
  EXPECT_EQ(text(judge(RunState::running, "", term, true)), "preempted: stopped on request");
  EXPECT_EQ(text(judge(RunState::running, "", preempted, false)), "preempted: stopped before its end");
  EXPECT_EQ(text(judge(RunState::running, "", ok, false)), "failed: ended without a final row");
}

}  // namespace test_supervisor
}  // namespace equisweep
