#include "sweeps/job_book.h"

#include <fmt/format.h>

#include <limits>

#include "core/atomic_file.h"
#include "core/error.h"
#include "sweeps/supervisor.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

std::vector<CellRow> cells_of(const std::vector<Job>& jobs) {
  std::vector<CellRow> cells;
  for (const Job& job : jobs) {
    cells.push_back({.job = job.id,
                     .model = job.model,
                     .stack = job.stack,
                     .baseline = job.baseline,
                     .lr_scale = job.lr_scale,
                     .seed = job.seed,
                     .axes = canonical(job.axes),
                     .phase = job.phase,
                     .config = canonical(job.config)});
  }
  return cells;
}

}  // namespace

std::vector<Standing> JobBook::plan(const std::vector<Job>& jobs, const std::optional<std::set<std::string>>& only) {
  store_.set_plan(cells_of(jobs));
  planned_ = jobs.size();
  std::vector<Standing> taken;
  for (const Job& job : start_order(jobs)) {
    if (!known_.insert(job.id).second) continue;
    if (only && !only->contains(job.id)) {
      keep_result(job.id);
      continue;
    }
    jobs_.push_back(job);
    by_id_[job.id] = &jobs_.back();
    taken.push_back(take_up(jobs_.back()));
  }
  return taken;
}

Standing JobBook::take_up(const Job& job) {
  if (!is_result(state(job.id))) {
    try {
      check_folder(job);
      ingest(job);
    } catch (const SweepStoreError&) {  // says nothing about the job
      throw;
    } catch (const Error& error) {
      set(job.id, RunState::failed, error.what());
      return {&job, RunState::failed, error.what()};
    }
  }
  const RunState now = state(job.id);
  if (is_result(now)) keep_result(job.id);
  if (is_result(now) || now == RunState::cancelled) return {&job, now};
  if (now == RunState::running && !holder_of(job)) {  // its supervisor was killed, and it with him
    set(job.id, RunState::lost, "its supervisor ended before it did");
    set(job.id, RunState::queued, "");
  }
  return {&job, RunState::queued};
}

std::int64_t JobBook::begin(const Job& job) {
  const std::int64_t attempt = store_.attempt(job.id) + 1;
  store_.set_state(job.id, RunState::running, "", attempt);
  check_folder(job);
  fs::create_directories(folder_of(job));
  write_file_atomically(folder_of(job) / "config.yaml", job.config.dump(2) + "\n");
  return attempt;
}

AttemptVerdict JobBook::end(const Job& job, std::int64_t attempt, const WorkerExit& exit, const AttemptWatch& watch) {
  AttemptVerdict verdict{RunState::failed, ""};
  try {
    ingest(job);
    // A larger number: somebody ran the job by hand meanwhile, and his attempt is the newest.
    const bool ours = store_.attempt(job.id) == attempt;
    verdict =
        judge(ours ? store_.state(job.id) : RunState::running, store_.message(job.id), exit, watch.reason(), watch.why());
  } catch (const SweepStoreError&) {  // what the attempt has left is taken in when the job is taken up again
    throw;
  } catch (const DatabaseError& error) {
    verdict.message = fmt::format("{}; {}", to_string(exit), error.what());
  }
  store_.set_state(job.id, verdict.state, verdict.message, attempt);
  store_.set_exit_status(job.id, attempt, to_string(exit));
  if (is_result(verdict.state)) keep_result(job.id);
  return verdict;
}

AttemptVerdict JobBook::give_up(const Job& job, std::int64_t attempt, const std::string& why) {
  AttemptVerdict verdict{RunState::lost, why + "; killed, but its process is still there"};
  set(job.id, verdict.state, verdict.message, attempt);
  return verdict;
}

bool JobBook::set(const std::string& id, RunState state, const std::string& message) {
  return store_.set_state(id, state, message, store_.attempt(id));
}

bool JobBook::set(const std::string& id, RunState state, const std::string& message, std::int64_t attempt) {
  return store_.set_state(id, state, message, attempt);
}

const Job* JobBook::find(const std::string& id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

std::optional<std::string> JobBook::holder_of(const Job& job) const { return lock_holder(folder_of(job) / kWorkerLock); }

std::vector<JobEnd> JobBook::ends() const {
  std::vector<JobEnd> ends;
  for (const Job& job : jobs_) {
    const RunState now = state(job.id);
    ends.push_back({&job, now, is_failure(now) ? store_.message(job.id) : "", folder_of(job)});
  }
  return ends;
}

/// A link in the place of a run's folder would have its files written wherever it points.
void JobBook::check_folder(const Job& job) const {
  std::error_code ignored;
  if (fs::is_symlink(fs::symlink_status(folder_of(job), ignored)))
    throw Error(fmt::format("{} is a link, and a run is written into no other folder: remove it",
                            printable(folder_of(job).string(), 4096)));
}

void JobBook::ingest(const Job& job) {
  std::error_code ignored;
  const fs::path run_db = folder_of(job) / "run.db";
  if (fs::exists(run_db, ignored) && fs::file_size(run_db, ignored) > 0) store_.ingest(run_db);
}

void JobBook::keep_result(const std::string& id) {
  const RunState now = state(id);
  if (!is_result(now)) return;
  const double infinity = std::numeric_limits<double>::infinity();
  results_[id] = {.state = now, .loss = now == RunState::done ? store_.validation_loss(id).value_or(infinity) : infinity};
}

}  // namespace equisweep
