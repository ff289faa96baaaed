#pragma once
// Workers that are only told about, on a virtual clock, and a supervisor's surroundings made of them.

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/run_store.h"
#include "sweeps/supervisor.h"
#include "tests/support/screen.h"
#include "tests/support/temp_folder.h"

namespace equisweep::fake {

inline Job fake_job(const std::string& stack, std::int64_t seed) {
  Job job;
  job.config = {{"seed", seed}, {"stack", stack}};
  job.id = job_id(job.config);
  job.model = "m";
  job.stack = stack;
  job.seed = seed;
  return job;
}

/// What a worker does.
struct Script {
  double seconds = 10;
  std::optional<RunState> final_row = RunState::done;
  WorkerExit exit = {};
  bool refuses_to_start = false;
  std::int64_t steps = 1;          ///< that it reaches; 0: it fails at its start
  double silent_after = INFINITY;  ///< seconds; until then a sign of life every second
  bool obeys_term = true, obeys_kill = true;
  double loss = 1;  ///< of its evaluation
};

class FakeLauncher : public Launcher {
 public:
  std::map<std::string, Script> scripts;                ///< by the stack of the job
  std::map<std::string, std::vector<Script>> attempts;  ///< one script an attempt, the last for all that follow
  std::set<std::string> broken;                         ///< devices on which every job fails at its start
  std::size_t most_processes = 1000;
  std::vector<std::string> starts;  ///< "stack/seed@device#attempt"
  std::vector<double> start_times;
  std::vector<WorkerSpec> specs;
  std::vector<std::string> aborts;
  std::vector<double> abort_times;
  std::map<std::string, int> most;  ///< at a time on each device
  int refused_writes = 0;           ///< of attempts that had been replaced
  double now = 0;
  std::function<void()> on_wait = [] {};

  WorkerId start(const WorkerSpec& spec) override {
    nlohmann::json config;
    std::ifstream(spec.folder / "config.yaml") >> config;
    const std::string stack = config.at("stack");
    Script script = scripts[stack];
    if (const auto it = attempts.find(stack); it != attempts.end()) {
      script = it->second.at(std::min(it->second.size(), static_cast<std::size_t>(spec.attempt)) - 1);
    }
    if (broken.contains(spec.visible)) script = {.seconds = 1, .final_row = std::nullopt, .exit = {.code = 7}, .steps = 0};
    if (script.refuses_to_start) throw Error("no such program");
    if (running_.size() >= most_processes) throw NoRoom("too many processes");
    starts.push_back(fmt::format("{}/{}@{}#{}", stack, config.at("seed").dump(), spec.visible, spec.attempt));
    start_times.push_back(now);
    specs.push_back(spec);
    running_[++last_] = {spec, script, canonical(config), now, now + script.seconds, now};
    int here = 0;
    for (const auto& [id, r] : running_) here += r.spec.visible == spec.visible ? 1 : 0;
    most[spec.visible] = std::max(most[spec.visible], here);
    return last_;
  }

  std::vector<WorkerNews> wait(std::chrono::milliseconds patience) override {
    on_wait();
    now += std::chrono::duration<double>(patience).count();
    std::vector<WorkerNews> news;
    for (auto& [id, r] : running_) {
      if (r.end <= now) {
        news.push_back(end_of(id, r));
      } else if (now - r.begin < r.script.silent_after && now - r.said >= 1 && r.script.steps > 0) {
        r.said = now;
        news.push_back({.worker = id, .progress = Progress{.step = 1, .steps = r.script.steps}});
      }
    }
    for (const WorkerNews& n : news) {
      if (n.exit) running_.erase(n.worker);
    }
    return news;
  }

  void abort(WorkerId id, Abort how) override {
    aborts.push_back(how == Abort::ask ? "ask" : "kill");
    abort_times.push_back(now);
    const auto it = running_.find(id);
    ASSERT_NE(it, running_.end());
    Running& r = it->second;
    if (!(how == Abort::ask ? r.script.obeys_term : r.script.obeys_kill)) return;
    r.script.final_row = std::nullopt;
    r.script.exit = {.signalled = true, .code = how == Abort::ask ? 15 : 9};
    if (how == Abort::kill) r.end = now;
  }

 private:
  struct Running {
    WorkerSpec spec;
    Script script;
    std::string config;
    double begin, end, said;
  };

  WorkerNews end_of(WorkerId id, const Running& r) {
    if (r.script.final_row) {
      try {
        RunStore store(r.spec.folder / "run.db", r.spec.folder.filename().string(), r.config,
                       {.attempt = r.spec.attempt, .started_at = "S"});
        store.add(StepRow{.step = 1});
        store.add(EvalRow{.step = 1, .loss = r.script.loss});
        store.finish({.state = *r.script.final_row});
      } catch (const DatabaseError&) {
        ++refused_writes;
      }
    }
    WorkerNews news{.worker = id, .exit = r.script.exit};
    if (r.script.steps > 0) news.progress = Progress{.step = r.script.steps, .steps = r.script.steps};
    return news;
  }

  std::map<WorkerId, Running> running_;
  WorkerId last_ = 0;
};

struct FakeInterrupts : Interrupts {
  Interrupt now = Interrupt::none;
  Interrupt stage() const override { return now; }
  int signal() const override { return 2; }
};

/// A sweep `s` in a folder of its own. Without retries and with two slots of the CPU, unless the test says otherwise.
class SupervisorTest : public ::testing::Test {
 protected:
  TempFolder folder_{memory_root()};
  FakeLauncher launcher_;
  FakeInterrupts interrupts_;
  RunOptions options_{
      .results = folder_.path(), .devices = {{.name = "cpu", .visible = "", .slots = 2, .threads = 1}}, .retry = {.max = 0}};
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
  std::string states() { return db("SELECT stack || ' ' || state FROM cells JOIN runs USING (job) ORDER BY cell"); }
  std::filesystem::path run_path(const Job& job) { return run_folder(folder_.path(), "s", job.id); }
  void four_gpus(int slots) {
    options_.devices.clear();
    for (int i = 0; i < 4; ++i) {
      options_.devices.push_back(
          {.name = fmt::format("cuda:{}", i), .visible = fmt::format("GPU-{}", i), .slots = slots, .threads = 1});
    }
  }
};

}  // namespace equisweep::fake
