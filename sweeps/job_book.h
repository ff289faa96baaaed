#pragma once
// The books of a supervisor: the plan, where each job stands, and what is on disk for it. Nothing here starts or waits.

#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/run_store.h"
#include "sweeps/attempt.h"
#include "sweeps/job.h"
#include "sweeps/summary.h"

namespace equisweep {

/// Where a job stands when it is taken up: a result, cancelled, failed (it cannot be taken up), or queued.
struct Standing {
  const Job* job;
  RunState state;
  std::string message = {};
};

class JobBook {
 public:
  /// `folder` is that of the sweep, of which this process is the one writer.
  explicit JobBook(const std::filesystem::path& folder) : folder_(folder), store_(folder / "sweep.db") {}

  void set_meta(const std::string& key, const std::string& value) { store_.set_meta(key, value); }

  /// Makes `jobs` the plan and takes up those that are new to this book, in the order of start_order(): what an earlier
  /// supervisor did not live to take in is taken in. Where `only` is given, jobs that are not in it are planned and left
  /// alone.
  std::vector<Standing> plan(const std::vector<Job>& jobs, const std::optional<std::set<std::string>>& only);

  /// Looks at one job again, after another process has worked on it.
  Standing take_up(const Job& job);

  /// Registers the next attempt of a job and makes its folder ready. Returns its number. Throws Error.
  std::int64_t begin(const Job& job);

  /// Whether another process holds sweep.db, so that whatever is recorded here would have to wait.
  bool locked() const { return store_.locked(); }

  /// Takes in what the attempt has left, and records what has become of it. Throws SweepStoreError.
  AttemptVerdict end(const Job& job, std::int64_t attempt, const WorkerExit& exit, const AttemptWatch& watch);

  /// Records that the process of the attempt is still there although it was killed.
  AttemptVerdict give_up(const Job& job, std::int64_t attempt, const std::string& why);

  /// Records a state; false where a newer attempt owns the job.
  bool set(const std::string& id, RunState state, const std::string& message);
  bool set(const std::string& id, RunState state, const std::string& message, std::int64_t attempt);

  bool planned(const std::string& id) const { return known_.contains(id); }
  std::size_t plan_size() const { return planned_; }
  RunState state(const std::string& id) const { return store_.state(id); }
  std::int64_t attempt(const std::string& id) const { return store_.attempt(id); }
  /// A job that this book has taken up; nullptr for others.
  const Job* find(const std::string& id) const;
  std::filesystem::path folder_of(const Job& job) const { return folder_ / "runs" / job.id; }
  /// The process that works on the job, if there is one.
  std::optional<std::string> holder_of(const Job& job) const;

  /// Every job of the plan that is a result.
  const std::map<std::string, JobResult>& results() const { return results_; }
  std::vector<JobEnd> ends() const;  ///< of the jobs taken up

 private:
  void check_folder(const Job& job) const;
  void ingest(const Job& job);
  void keep_result(const std::string& id);

  std::filesystem::path folder_;
  SweepStore store_;
  std::deque<Job> jobs_;  // taken up; they stay where they are
  std::unordered_map<std::string, const Job*> by_id_;
  std::set<std::string> known_;
  std::size_t planned_ = 0;
  std::map<std::string, JobResult> results_;
};

}  // namespace equisweep
