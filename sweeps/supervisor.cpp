#include "sweeps/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <set>

#include "core/atomic_file.h"
#include "core/run_store.h"
#include "sweeps/progress_table.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// Held by the one supervisor of a sweep. The kernel lets go of it when the process dies, however it dies.
class SweepLock {
 public:
  explicit SweepLock(const fs::path& file) : fd_(::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644)) {
    if (fd_ < 0)
      throw DatabaseError(file.string(), fmt::format("cannot be opened ({}); check the permissions", std::strerror(errno)));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      const int cause = errno;
      std::array<char, 32> text{};
      const ssize_t n = ::pread(fd_, text.data(), text.size(), 0);
      ::close(fd_);
      if (cause != EWOULDBLOCK) {
        throw DatabaseError(file.string(),
                            fmt::format("cannot be locked ({}); put the results on a local disk", std::strerror(cause)));
      }
      std::string pid = printable({text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))});
      if (pid.empty()) pid = "unknown";
      throw DatabaseError(file.string(),
                          fmt::format("process {} is running this sweep; wait for it, or end it with `kill {}`", pid, pid));
    }
    const std::string pid = std::to_string(::getpid());
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0) {
      const int cause = errno;
      ::close(fd_);
      throw DatabaseError(file.string(), fmt::format("cannot be written ({})", std::strerror(cause)));
    }
  }
  ~SweepLock() { ::close(fd_); }
  SweepLock(const SweepLock&) = delete;
  SweepLock& operator=(const SweepLock&) = delete;

 private:
  int fd_;
};

/// The folder of a sweep, made and locked.
fs::path make_folder(const fs::path& results, const std::string& name) {
  const fs::path folder = sweep_folder(results, name);
  std::error_code error;
  fs::create_directories(folder / "runs", error);
  if (error)
    throw DatabaseError(folder.string(), fmt::format("cannot be made ({}); check the permissions", error.message()));
  return folder;
}

class Supervisor {
 public:
  Supervisor(const std::string& name, const std::vector<Job>& jobs, const RunOptions& options, const Surroundings& around)
      : name_(name),
        options_(options),
        around_(around),
        folder_(make_folder(options.results, name)),
        lock_(folder_ / "supervisor.lock"),
        store_(folder_ / "sweep.db"),
        jobs_(start_order(jobs)) {
    for (const auto& [key, value] : options.meta) store_.set_meta(key, value);
    std::vector<CellRow> cells;
    for (const Job& job : jobs) {
      cells.push_back({.job = job.id,
                       .model = job.model,
                       .stack = job.stack,
                       .baseline = job.baseline,
                       .lr_scale = job.lr_scale,
                       .seed = job.seed,
                       .axes = canonical(job.axes),
                       .config = canonical(job.config)});
    }
    store_.set_plan(cells);
    if (options.only) std::erase_if(jobs_, [&](const Job& job) { return !options.only->contains(job.id); });
    for (const Device& device : options.devices) {
      for (int i = 0; i < device.slots; ++i) free_.push_back(&device);
    }
  }

  ExitCode run() {
    std::vector<std::pair<const Job*, std::string>> refused;
    for (const Job& job : jobs_) take_up(job, refused);
    const std::size_t already = jobs_.size() - queue_.size() - refused.size();
    ProgressTable table(around_.terminal, around_.seconds(), jobs_.size(), already);
    table_ = &table;
    for (const auto& [job, message] : refused) fail_before_start(*job, message);
    while (true) {
      follow_interrupts();
      start_what_fits();
      if (running_.empty()) break;
      table.draw(around_.seconds());
      for (const WorkerNews& news : around_.launcher.wait(std::chrono::milliseconds(200))) hear(news);
    }
    return summary();
  }

 private:
  struct Running {
    const Job* job;
    const Device* device;
    std::int64_t attempt;
    bool asked = false;  // to stop
  };

  fs::path folder_of(const Job& job) const { return folder_ / "runs" / job.id; }

  /// What an earlier supervisor did not live to take in; then the job is a result or waits.
  void take_up(const Job& job, std::vector<std::pair<const Job*, std::string>>& refused) {
    if (is_result(store_.state(job.id))) return;
    std::error_code ignored;
    const fs::path run_db = folder_of(job) / "run.db";
    if (fs::exists(run_db, ignored) && fs::file_size(run_db, ignored) > 0) {
      try {
        store_.ingest(run_db);
      } catch (const DatabaseError& error) {
        refused.emplace_back(&job, error.what());
        return;
      }
    }
    const RunState state = store_.state(job.id);
    if (is_result(state)) return;
    if (state == RunState::running) {  // its supervisor was killed, and it with him
      const std::int64_t attempt = store_.attempt(job.id);
      store_.set_state(job.id, RunState::lost, "its supervisor ended before it did", attempt);
      store_.set_state(job.id, RunState::queued, "", attempt);
    }
    queue_.push_back(&job);
  }

  void fail_before_start(const Job& job, const std::string& message) {
    store_.set_state(job.id, RunState::failed, message, store_.attempt(job.id));
    failed_ = true;
    table_->skipped(job, RunState::failed, message);
  }

  void start_what_fits() {
    while (!queue_.empty() && !free_.empty() && stage_ == Interrupt::none && !(options_.fail_fast && failed_)) {
      const Job& job = *queue_.front();
      queue_.pop_front();
      start(job, *free_.front());
    }
  }

  void start(const Job& job, const Device& device) {
    const std::int64_t attempt = store_.attempt(job.id) + 1;
    store_.set_state(job.id, RunState::running, "", attempt);
    try {
      const fs::path folder = folder_of(job);
      fs::create_directories(folder);
      write_file_atomically(folder / "config.yaml", job.config.dump(2) + "\n");
      const WorkerId worker = around_.launcher.start({.folder = folder,
                                                      .attempt = attempt,
                                                      .device = device.visible.empty() ? "cpu" : "cuda:0",
                                                      .visible = device.visible,
                                                      .threads = device.threads});
      running_[worker] = {.job = &job, .device = &device, .attempt = attempt};
      free_.pop_front();
      table_->started(worker, job, device.name, attempt, around_.seconds());
    } catch (const std::exception& error) {
      fail_before_start(job, fmt::format("cannot be started: {}", error.what()));
    }
  }

  void hear(const WorkerNews& news) {
    const auto it = running_.find(news.worker);
    if (it == running_.end()) return;
    if (news.progress) table_->progressed(news.worker, *news.progress);
    if (!news.exit) return;
    const Running ended = it->second;
    running_.erase(it);
    free_.push_back(ended.device);
    const Verdict verdict = record(ended, *news.exit);
    failed_ = failed_ || !(is_result(verdict.state) || verdict.state == RunState::preempted);
    table_->ended(news.worker, verdict.state, verdict.message, around_.seconds());
  }

  Verdict record(const Running& r, const WorkerExit& exit) {
    Verdict verdict{RunState::failed, ""};
    try {
      std::error_code ignored;
      const fs::path run_db = folder_of(*r.job) / "run.db";
      if (fs::exists(run_db, ignored)) store_.ingest(run_db);
      // A larger number: somebody ran the job by hand meanwhile, and his attempt is the newest.
      const bool ours = store_.attempt(r.job->id) == r.attempt;
      verdict = judge(ours ? store_.state(r.job->id) : RunState::running, store_.message(r.job->id), exit, r.asked);
    } catch (const DatabaseError& error) {
      verdict.message = fmt::format("{}; {}", to_string(exit), error.what());
    }
    store_.set_state(r.job->id, verdict.state, verdict.message, r.attempt);
    store_.set_exit_status(r.job->id, r.attempt, to_string(exit));
    return verdict;
  }

  void follow_interrupts() {
    const Interrupt asked = around_.interrupts.stage();
    if (asked <= stage_) return;
    stage_ = asked;
    if (stage_ == Interrupt::drain) {
      table_->say(fmt::format("interrupted: {} jobs are left out, {} running will finish; Ctrl-C again stops them",
                              queue_.size(), running_.size()));
      return;
    }
    const bool kill = stage_ == Interrupt::kill;
    table_->say(kill ? fmt::format("killing {} jobs", running_.size())
                     : fmt::format("stopping {} jobs; Ctrl-C once more kills them", running_.size()));
    for (auto& [worker, r] : running_) {
      r.asked = true;
      around_.launcher.abort(worker, kill ? Abort::kill : Abort::ask);
    }
  }

  ExitCode summary() {
    table_->finish();
    std::map<RunState, std::size_t> counts;
    std::vector<const Job*> failures;
    for (const Job& job : jobs_) {
      const RunState state = store_.state(job.id);
      ++counts[state];
      const bool waits = state == RunState::queued || state == RunState::running || state == RunState::preempted;
      if (!is_result(state) && !waits) failures.push_back(&job);
    }
    std::vector<std::string> parts;
    for (const auto& [state, n] : counts) parts.push_back(fmt::format("{} {}", n, name_of(state)));
    const std::size_t results = counts[RunState::done] + counts[RunState::diverged];
    table_->say(fmt::format("{}: {} jobs: {}", name_, jobs_.size(), parts.empty() ? "nothing to do" : join(parts)));
    constexpr std::size_t kListed = 10;
    for (std::size_t i = 0; i < std::min(failures.size(), kListed); ++i) {
      const Job& job = *failures[i];
      table_->say(fmt::format("  {} {} {} seed {}: {}: {}\n    log: {}", job.id, printable(job.model), printable(job.stack),
                              job.seed, name_of(store_.state(job.id)), printable(store_.message(job.id), 400),
                              printable((folder_of(job) / "log.txt").string(), 4096)));
    }
    if (failures.size() > kListed) table_->say(fmt::format("  and {} more", failures.size() - kListed));
    if (results < jobs_.size()) table_->say("next: the same command runs what is missing");
    if (results > 0) table_->say(fmt::format("next: equisweep report {}", printable(name_)));
    if (results < jobs_.size() && stage_ != Interrupt::none) return static_cast<ExitCode>(128 + around_.interrupts.signal());
    return results == jobs_.size() ? ExitCode::ok : ExitCode::some_failed;
  }

  const std::string& name_;
  const RunOptions& options_;
  const Surroundings& around_;
  fs::path folder_;
  SweepLock lock_;  // before the store: a second supervisor does not even open the database
  SweepStore store_;
  std::vector<Job> jobs_;
  std::deque<const Job*> queue_;
  std::deque<const Device*> free_;  // a slot each; the one that has been free longest is used next
  std::map<WorkerId, Running> running_;
  ProgressTable* table_ = nullptr;
  Interrupt stage_ = Interrupt::none;
  bool failed_ = false;
};

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

fs::path sweep_folder(const fs::path& results, const std::string& name) {
  if (name.empty() || name[0] == '.' || name[0] == '-' || name.size() > 200 || name.find('/') != std::string::npos ||
      name != printable(name, name.size())) {
    throw UsageError(
        fmt::format("'{}' is no name for a sweep: it names a folder, so it has 1 to 200 characters without '/' and does not "
                    "begin with '.' or '-'",
                    printable(name)));
  }
  return results / name;
}

fs::path run_folder(const fs::path& results, const std::string& name, const std::string& job) {
  return sweep_folder(results, name) / "runs" / job;
}

std::vector<Job> start_order(const std::vector<Job>& jobs) {
  std::map<std::int64_t, std::size_t> rank;
  for (const Job& job : jobs) rank.emplace(job.seed, rank.size());
  std::vector<Job> order;
  std::set<std::string> seen;
  for (const Job& job : jobs) {
    if (seen.insert(job.id).second) order.push_back(job);
  }
  std::stable_sort(order.begin(), order.end(), [&](const Job& a, const Job& b) { return rank[a.seed] < rank[b.seed]; });
  return order;
}

Verdict judge(RunState recorded, const std::string& message, const WorkerExit& exit, bool asked) {
  if (recorded != RunState::running && recorded != RunState::queued) {
    // The final row is the last word; that the process then stumbled is worth knowing, but takes nothing back.
    const bool clean = !exit.signalled && (exit.code == 0 || !is_result(recorded));
    if (clean || (asked && exit.signalled)) return {recorded, message};
    return {recorded, fmt::format("{}{}after its final row: {}", message, message.empty() ? "" : "; ", to_string(exit))};
  }
  if (asked) return {RunState::preempted, "stopped on request"};
  if (exit.signalled) return {RunState::failed, fmt::format("killed by signal {}", exit.code)};
  if (exit.code == static_cast<int>(ExitCode::preempted)) return {RunState::preempted, "stopped before its end"};
  if (exit.code == 0) return {RunState::failed, "ended without a final row"};
  return {RunState::failed, to_string(exit)};
}

ExitCode run_sweep(const std::string& name, const std::vector<Job>& jobs, const RunOptions& options,
                   const Surroundings& surroundings) {
  return Supervisor(name, jobs, options, surroundings).run();
}

}  // namespace equisweep
