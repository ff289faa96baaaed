// A worker that does what the key `stub` of its config says, and a supervisor of such workers:
//   stub_worker exec FOLDER --attempt N ...          as LocalLauncher calls it
//   stub_worker supervise RESULTS JOBS.json SLOTS    {"stubs": ["done", "hang", ...], "timeout": 1, "retry": {...}, ...}
// Descriptors named in STUB_READY and STUB_GATE are for the test: workers say on the first that they run, and keep it open
// while they live; `gated` ones wait for a byte from the second.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/run_store.h"
#include "sweeps/launcher/local.h"
#include "sweeps/supervisor.h"

using namespace equisweep;

namespace {

int descriptor(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? -1 : std::atoi(text);
}

void say_ready(const std::string& stub) {
  const std::string line = stub + "\n";
  if (::write(descriptor("STUB_READY"), line.data(), line.size()) < 0) std::exit(9);
}

void say_progress(const std::string& text) {
  if (::write(3, text.data(), text.size()) < 0 && errno != EAGAIN) std::exit(8);
}

[[noreturn]] void hang() {
  while (true) ::pause();
}

int work(const std::filesystem::path& folder, std::int64_t attempt, const std::string& device, int threads) {
  nlohmann::json config;
  std::ifstream(folder / "config.yaml") >> config;
  const std::string stub = config.at("stub");
  std::cout << "attempt " << attempt << " of " << stub << " on " << device << std::endl;
  if (stub == "nothing") return 0;
  if (stub == "exit7") return 7;
  if (stub == "stop_once" && attempt == 1) ::raise(SIGSTOP);
  RunStore store(folder / "run.db", folder.filename().string(), canonical(config),
                 {.attempt = attempt, .started_at = utc_now(), .device = device, .threads = threads});
  const auto finish = [&](RunState state) { store.finish({.state = state, .message = "", .ended_at = utc_now()}); };
  for (int step = 1; step <= 3; ++step) store.add(StepRow{.step = step, .tokens = step, .loss = 4.0 - step});
  store.flush();
  say_progress(R"({"step":3,"steps":3,"loss":1.0,"tokens_per_second":1000,"phase":"train"})"
               "\n");
  if (stub == "quiet") return 0;
  if (stub == "steady") {  // half a minute of a job that speaks four times a second, as real ones do
    for (int i = 0; i < 120; ++i) {
      say_progress(fmt::format(R"({{"step":{},"steps":120,"loss":1.0,"tokens_per_second":1000,"phase":"train"}})", i) +
                   "\n");
      ::usleep(250'000);
    }
  }
  if (stub == "killed" || (stub == "kill_once" && attempt == 1)) ::kill(::getpid(), SIGKILL);
  if (stub == "assert") std::abort();
  if (stub == "oom") {
    finish(RunState::oom);
    return 1;
  }
  if (stub == "preempt_once" && attempt == 1) {
    finish(RunState::preempted);
    return 75;
  }
  if (stub == "flood") {
    const std::string block(1 << 16, 'x');
    for (int i = 0; i < 200; ++i) std::cout << block << std::flush;
    say_progress(std::string(100'000, '[') + "\n{\"step\":\"x\"}\nnot json\n");
  }
  if (stub == "hang" || stub == "stubborn" || stub == "graceful") {
    sigset_t term;
    ::sigemptyset(&term);
    ::sigaddset(&term, SIGTERM);
    if (stub != "hang") ::sigprocmask(SIG_BLOCK, &term, nullptr);
    say_ready(stub);
    if (stub != "graceful") hang();
    int signal = 0;
    ::sigwait(&term, &signal);
    finish(RunState::preempted);
    return 75;
  }
  if (stub == "gated") {
    say_ready(stub);
    char byte = 0;
    if (::read(descriptor("STUB_GATE"), &byte, 1) != 1) return 6;
  }
  if (stub == "stopped") {
    say_ready(stub);
    while (true) ::raise(SIGSTOP);
  }
  if (stub == "child" && ::fork() == 0) {  // outlives its parent unless the whole group is ended
    say_ready(stub);
    hang();
  }
  finish(stub == "diverged" ? RunState::diverged : RunState::done);
  if (stub == "abort_after") std::abort();
  return 0;
}

/// Looks at the process, each time a worker is started: open files, and memory in pages.
class WatchedLauncher : public LocalLauncher {
 public:
  using LocalLauncher::LocalLauncher;
  WorkerId start(const WorkerSpec& spec) override {
    const WorkerId id = LocalLauncher::start(spec);
    files_.push_back(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
    std::int64_t size = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> size >> resident;
    pages_.push_back(resident);
    return id;
  }
  /// With the processor time of this process alone, its workers left out.
  nlohmann::json seen() const {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return {{"files", files_}, {"pages", pages_}, {"cpu_seconds", seconds(used.ru_utime) + seconds(used.ru_stime)}};
  }

 private:
  std::vector<std::int64_t> files_, pages_;
};

int supervise(const std::string& results, const std::string& jobs_file, int slots) {
  nlohmann::json task;
  std::ifstream(jobs_file) >> task;
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < task.at("stubs").size(); ++i) {
    Job job;
    job.config = {{"stub", task.at("stubs")[i]}, {"number", i}};
    job.id = job_id(job.config);
    job.model = "stub";
    job.stack = task.at("stubs")[i];
    jobs.push_back(job);
  }
  CaughtSignals signals;
  StandardError terminal;
  WatchedLauncher launcher;
  RunOptions options;
  options.results = results;
  options.devices = {{.name = "cpu", .visible = "", .slots = slots, .threads = 1}};
  options.timeout = task.value("timeout", 0.0);
  options.stall_seconds = task.value("stall", 0.0);
  options.grace_seconds = task.value("grace", 30.0);
  options.retry = {.max = task.value("retries", 0), .on = {RunState::lost, RunState::preempted}, .delay = 0};
  const ExitCode code = run_sweep("stubs", jobs, options, {launcher, terminal, signals, steady_seconds});
  std::ofstream(std::filesystem::path(results) / "seen.json") << launcher.seen();
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (words.at(0) == "supervise") return supervise(words.at(1), words.at(2), std::stoi(words.at(3)));
    // exec FOLDER --attempt N --device D --threads T --progress-fd 3
    return work(words.at(1), std::stoll(words.at(3)), words.at(5), std::stoi(words.at(7)));
  } catch (const Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 99;
  }
}
