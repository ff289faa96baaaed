#include "sweeps/supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "sweeps/job_book.h"
#include "sweeps/lock_wait.h"
#include "sweeps/progress_table.h"
#include "sweeps/requests.h"
#include "sweeps/slots.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

constexpr double kRequestInterval = 1, kLockInterval = 1;  // seconds

class Supervisor {
 public:
  Supervisor(const std::string& name, const std::vector<Job>& jobs, const RunOptions& options, const Surroundings& around)
      : name_(name),
        options_(options),
        around_(around),
        folder_(make_sweep_folder(options.results, name)),
        lock_(lock_sweep(folder_)),
        book_(folder_),
        table_(around.terminal, around.seconds()),
        slots_(options.devices),
        retries_(options.retry),
        requests_(folder_) {
    for (const auto& [key, value] : options.meta) book_.set_meta(key, value);
    plan(jobs);
    replan();
  }

  ExitCode run() {
    try {
      supervise();
    } catch (const std::exception& error) {  // most often sweep.db, which cannot be written
      stop_workers(error.what());
      throw;
    }
    return summary();
  }

 private:
  void supervise() {
    while (true) {
      follow_interrupts();
      if (can_record()) {
        settle_ended();
        follow_requests();
        start_what_fits();
        if (live() == 0 && !more_to_start()) break;
      }
      table_.draw(now());
      for (const WorkerNews& news : around_.launcher.wait(std::chrono::milliseconds(200))) hear(news);
      enforce_limits();  // after the news: while this process was stopped, the workers were not
    }
  }

  struct Running {
    WorkerId worker;
    const Job* job;
    const Device* device;
    std::int64_t attempt;
    AttemptWatch watch;
    std::int64_t reached = 0;  // step
    bool given_up = false;     // declared lost, though its process is still there and holds the slot
    std::optional<WorkerExit> exit = {};
  };

  double now() const { return around_.seconds(); }
  std::size_t live() const {
    return std::ranges::count_if(running_, [](const auto& r) { return !r.second.given_up; });
  }
  bool starting() const { return stage_ == Interrupt::none && !(options_.fail_fast && failed_); }
  bool more_to_start() const { return starting() && !queue_.empty() && slots_.any(); }

  /// Another process may hold sweep.db: then nothing is recorded, and nothing started, until it lets go. Who asks for more
  /// than that the running finish does not wait: what cannot be recorded is taken in by the next supervisor.
  bool can_record() {
    const bool waits = stage_ < Interrupt::stop && book_.locked();
    if (const std::string line = lock_wait_.look(waits, folder_ / "sweep.db", now()); !line.empty()) table_.say(line);
    return !waits;
  }

  // ---- the plan ----

  void plan(const std::vector<Job>& jobs) {
    for (const Standing& standing : book_.plan(jobs, options_.only)) {
      table_.expect(1);
      if (is_result(standing.state)) {
        table_.already();
      } else if (standing.state == RunState::cancelled) {
        table_.left_out(standing.state);
      } else if (standing.state == RunState::failed) {
        failed(*standing.job, standing.message);
      } else {
        queue_.push(standing.job);
      }
    }
  }

  /// Asks what the results so far add to the plan, until they add nothing: what is added may be a result already.
  void replan() {
    while (options_.replan) {
      const std::size_t results = book_.results().size();
      try {
        const std::vector<Job> jobs = options_.replan(book_.results());
        const auto added = std::count_if(jobs.begin(), jobs.end(), [&](const Job& job) { return !book_.planned(job.id); });
        if (added > 0) table_.say(fmt::format("the results so far add {} jobs to the plan", added));
        if (added > 0 || jobs.size() != book_.plan_size()) plan(jobs);
      } catch (const std::exception& error) {  // the jobs that run are worth finishing
        table_.say(fmt::format("the plan cannot be continued: {}", error.what()));
        plan_failed_ = true;
        return;
      }
      if (book_.results().size() == results) return;
    }
  }

  void failed(const Job& job, const std::string& message) {
    failed_ = true;
    table_.skipped(job, RunState::failed, message);
  }

  // ---- starting ----

  void start_what_fits() {
    while (starting() && running_.size() < room_ && slots_.next() != nullptr) {
      const Job* job = next_job();
      if (job == nullptr) return;
      start(*job, *slots_.next());
    }
  }

  /// The next job that nobody else is working on.
  const Job* next_job() {
    while (const Job* job = queue_.pop(now())) {
      if (const auto holder = book_.holder_of(*job)) {
        if (held_.insert(job).second)
          table_.say(
              fmt::format("{} waits: process {} is still working on it (`kill {}` ends that)", job->id, *holder, *holder));
        queue_.push(job, now() + kLockInterval);
        continue;
      }
      if (held_.erase(job) == 0) return job;
      const Standing standing = book_.take_up(*job);
      if (standing.state == RunState::queued) return job;
      if (standing.state == RunState::failed) {
        failed(*job, standing.message);
      } else {
        table_.skipped(*job, standing.state, "by another process");
        replan();
      }
    }
    return nullptr;
  }

  void start(const Job& job, const Device& device) {
    try {
      const std::int64_t attempt = book_.begin(job);
      const WorkerId worker = around_.launcher.start({.folder = book_.folder_of(job),
                                                      .attempt = attempt,
                                                      .device = device.visible.empty() ? "cpu" : "cuda:0",
                                                      .visible = device.visible,
                                                      .threads = device.threads,
                                                      .checkpoint = options_.checkpoint});
      const AttemptLimits limits{
          .timeout = options_.timeout, .stall = options_.stall_seconds, .grace = options_.grace_seconds};
      running_.emplace(worker, Running{worker, &job, &device, attempt, AttemptWatch(now(), limits)});
      slots_.take();
      table_.started(worker, job, device.name, attempt, now());
    } catch (const NoRoom& error) {
      if (running_.empty()) return cannot_start(job, error);
      room_ = running_.size();
      table_.say(fmt::format("no more than {} workers at a time: {}", room_, error.what()));
      book_.set(job.id, RunState::queued, "");
      queue_.push_front(&job);
    } catch (const DatabaseError&) {  // sweep.db; says nothing about the job
      throw;
    } catch (const std::exception& error) {
      cannot_start(job, error);
    }
  }

  void cannot_start(const Job& job, const std::exception& error) {
    const std::string message = fmt::format("cannot be started: {}", error.what());
    book_.set(job.id, RunState::failed, message);
    failed(job, message);
  }

  // ---- while they run ----

  void hear(const WorkerNews& news) {
    const auto it = running_.find(news.worker);
    if (it == running_.end()) return;
    if (news.progress) {
      it->second.watch.heard(now());
      it->second.reached = std::max(it->second.reached, news.progress->step);
      if (news.progress->step > 0) slots_.worked(it->second.device);
      table_.progressed(news.worker, *news.progress);
    }
    if (!news.exit) return;
    it->second.exit = news.exit;
    slots_.give_back(it->second.device);
    // Of an attempt that was given up only the slot comes back: a newer one may have begun, and its word counts.
    if (!it->second.given_up) ended_.push_back(it->second);
    running_.erase(it);
  }

  /// Records the attempts that are over.
  void settle_ended() {
    for (const Running& r : std::exchange(ended_, {}))
      settle(r, r.exit ? book_.end(*r.job, r.attempt, *r.exit, r.watch) : book_.give_up(*r.job, r.attempt, r.watch.why()));
  }

  /// What follows from the end of an attempt: a result, another attempt, or nothing more.
  void settle(const Running& r, const AttemptVerdict& verdict) {
    if (!retry(r, verdict)) {
      failed_ = failed_ || is_failure(verdict.state);
      table_.ended(r.worker, verdict.state, verdict.message, now());
      if (is_result(verdict.state)) replan();
    }
    if (r.reached == 0 && r.watch.reason() == StopReason::none && is_failure(verdict.state)) blame(r, verdict);
  }

  bool retry(const Running& r, const AttemptVerdict& verdict) {
    if (stage_ != Interrupt::none || book_.attempt(r.job->id) != r.attempt) return false;
    const auto delay = retries_.next(r.job->id, verdict.state, r.reached);
    if (!delay) return false;
    book_.set(r.job->id, RunState::queued, fmt::format("{}: {}", name_of(verdict.state), verdict.message), r.attempt);
    table_.put_back(r.worker, verdict.state, fmt::format("{}; again in {}", verdict.message, duration_text(*delay)), now());
    queue_.push(r.job, now() + *delay);
    return true;
  }

  void blame(const Running& r, const AttemptVerdict& verdict) {
    const auto [taken_out, jobs] = slots_.failed_at_start(r.device, r.job->id);
    if (taken_out)
      table_.say(fmt::format(
          "{} is taken out: {} jobs in a row failed at their start on it, the last with: {}; they go back "
          "to the queue{}",
          r.device->name, jobs.size(), printable(verdict.message, 400), slots_.any() ? "" : ", and no device is left"));
    for (const std::string& id : jobs)
      if (const RunState state = book_.state(id); is_failure(state)) put_back(*book_.find(id), state);
  }

  /// A job that had ended in `state` waits again.
  void put_back(const Job& job, RunState state) {
    book_.set(job.id, RunState::queued, "");
    retries_.forget(job.id);
    table_.reopened(state);
    queue_.push(&job);
  }

  void enforce_limits() {
    for (auto& [worker, r] : running_) {
      const AttemptWatch::Due due = r.watch.due(now());
      const bool kill = due == AttemptWatch::Due::kill;
      if (kill || due == AttemptWatch::Due::ask) {
        table_.say(
            fmt::format("{} {}", r.job->id, kill ? "does not stop; it is killed" : r.watch.why() + "; it is asked to stop"));
        around_.launcher.abort(worker, kill ? Abort::kill : Abort::ask);
      } else if (due == AttemptWatch::Due::give_up) {
        // Killed, and still there: a process in the kernel's hands. Its slot is not given to anybody, its attempt is over.
        r.given_up = true;
        ended_.push_back(r);
      }
    }
  }

  void stop_all(bool kill) {
    for (auto& [worker, r] : running_) {
      r.watch.stop(StopReason::asked, kill, now());
      around_.launcher.abort(worker, kill ? Abort::kill : Abort::ask);
    }
  }

  /// Before this process ends for an error: what runs stops at the end of its step and saves its state, of which the next
  /// supervisor hears from its run.db. Nothing here touches sweep.db.
  void stop_workers(const std::string& why) {
    for (bool first = true; live() > 0; first = false) {
      if (first) table_.say(fmt::format("stopping {} jobs: {}", live(), why));
      const bool kill = around_.interrupts.stage() == Interrupt::kill;
      if (first || kill) stop_all(kill);
      for (auto& [worker, r] : running_) {
        const AttemptWatch::Due due = r.watch.due(now());
        if (due == AttemptWatch::Due::kill) around_.launcher.abort(worker, Abort::kill);
        r.given_up = r.given_up || due == AttemptWatch::Due::give_up;
      }
      table_.draw(now());
      for (const WorkerNews& news : around_.launcher.wait(std::chrono::milliseconds(200)))
        if (news.exit) running_.erase(news.worker);
    }
  }

  // ---- what people ask for ----

  void follow_interrupts() {
    const Interrupt asked = around_.interrupts.stage();
    if (asked <= stage_) return;
    stage_ = asked;
    if (stage_ == Interrupt::drain) {
      table_.say(fmt::format("interrupted: {} jobs are left out, {} running will finish; Ctrl-C again stops them",
                             queue_.size(), live()));
      return;
    }
    const bool kill = stage_ == Interrupt::kill;
    table_.say(kill ? fmt::format("killing {} jobs", live())
                    : fmt::format("stopping {} jobs; Ctrl-C once more kills them", live()));
    stop_all(kill);
  }

  void follow_requests() {
    if (now() < next_requests_) return;
    next_requests_ = now() + kRequestInterval;
    const RequestBox::Taken taken = requests_.take();
    for (const std::string& complaint : taken.complaints) table_.say(complaint);
    for (const Request& request : taken.requests) {
      std::size_t done = 0;
      const bool cancels = request.what == Request::What::cancel;
      for (const std::string& id : request.jobs)
        done += book_.planned(id) && (cancels ? cancel(id, book_.find(id)) : bring_back(id, book_.find(id))) ? 1 : 0;
      table_.say(fmt::format("{} of {} jobs: {}", done, request.jobs.size(),
                             cancels ? "cancelled on request" : "put back into the queue on request"));
    }
  }

  bool cancel(const std::string& id, const Job* job) {
    const RunState before = book_.state(id);
    if (!applies(Request::What::cancel, before)) return false;
    for (auto& [worker, r] : running_) {
      if (r.job != job || r.given_up) continue;
      r.watch.stop(StopReason::cancelled, false, now());
      around_.launcher.abort(worker, Abort::ask);
      return true;
    }
    book_.set(id, RunState::cancelled, kCancelled);
    if (job != nullptr) {
      if (!queue_.remove(job)) table_.reopened(before);
      table_.left_out(RunState::cancelled);
    }
    return true;
  }

  bool bring_back(const std::string& id, const Job* job) {
    const RunState state = book_.state(id);
    if (!applies(Request::What::retry, state)) return false;
    if (job == nullptr) return book_.set(id, RunState::queued, "");
    put_back(*job, state);
    return true;
  }

  // ---- the end ----

  ExitCode summary() {
    table_.finish();
    const std::vector<JobEnd> ends = book_.ends();
    const bool complete = is_complete(ends);
    for (const std::string& line : summary_lines(name_, ends)) table_.say(line);
    if (!complete && stage_ != Interrupt::none) return static_cast<ExitCode>(128 + around_.interrupts.signal());
    return complete && !plan_failed_ ? ExitCode::ok : ExitCode::some_failed;
  }

  const std::string& name_;
  const RunOptions& options_;
  const Surroundings& around_;
  std::filesystem::path folder_;
  ProcessLock lock_;  // before the book: a second supervisor does not even open the database
  JobBook book_;
  ProgressTable table_;
  Slots slots_;
  RetryCounter retries_;
  RequestBox requests_;
  LockWait lock_wait_;
  JobQueue queue_;
  std::set<const Job*> held_;  // by another process
  std::map<WorkerId, Running> running_;
  std::vector<Running> ended_;                                  // and not yet recorded as such
  std::size_t room_ = std::numeric_limits<std::size_t>::max();  // workers at a time, once the machine has said no
  double next_requests_ = 0;
  Interrupt stage_ = Interrupt::none;
  bool failed_ = false, plan_failed_ = false;
};

}  // namespace

ExitCode run_sweep(const std::string& name, const std::vector<Job>& jobs, const RunOptions& options,
                   const Surroundings& surroundings) {
  return Supervisor(name, jobs, options, surroundings).run();
}

}  // namespace equisweep
