#pragma once
// From a sweep to its jobs.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sweeps/file/spec.h"
#include "sweeps/job.h"
#include "sweeps/tune.h"

namespace equisweep {

/// More jobs than this are refused: each holds its whole config, about 25 kB in memory.
inline constexpr std::int64_t kMaxJobs = 100'000;

/// Number of jobs before `exclude`, computed before anything is expanded: an upper bound where rows of `include` name points
/// that the grid has. With `tune` also the jobs that confirm, and those by which the grids may grow. Throws UsageError with
/// the length of each axis if there are more than kMaxJobs.
std::int64_t count_jobs(const SweepSpec& spec);

/// What is known of the jobs of a sweep, by id. Entries that are no results (is_result()) count as unknown.
using TuneResults = std::map<std::string, JobResult>;

struct SweepPlan {
  std::vector<Job> jobs;
  std::vector<Tuning> tunings;  ///< of each model and stack; empty without `tune`
};

/// Every job that `results` call for. Without `tune` that is the grid, in a fixed order: seed, model, stack, the stack's own
/// axes, lr_scale, the last fastest, so that one seed of everything comes first. A job's stack holds only the entries that
/// its model has weights for. Two jobs with the same config have the same id.
/// With `tune` these jobs have the phase "tune"; then come the trials by which grids grow, then those of the phase
/// "confirm". More results never take a job away. Throws UsageError as count_jobs does, where a combination of options is
/// refused or a learning rate is out of range, and where `exclude` or `include` changes nothing.
SweepPlan make_plan(const SweepSpec& spec, const TuneResults& results = {});

/// The jobs of make_plan().
std::vector<Job> expand(const SweepSpec& spec, const TuneResults& results = {});

/// The jobs that any of `only` selects (the option --only), or all of them if there is none. Throws UsageError on a
/// selection that cannot be read, and Error (nothing matches) if no job is selected.
std::vector<Job> select(const SweepSpec& spec, const std::vector<Job>& jobs, const std::vector<std::string>& only);

/// Whether any of `only` selects `job`; true where there is none. Throws UsageError as select does.
bool is_selected(const SweepSpec& spec, const Job& job, const std::vector<std::string>& only);

/// What a changed sweep file does to the jobs that were there before: how many are retired, replaced and new, and why, one
/// line each; empty where nothing is different. A job is replaced by the one with the same labels, and the reason is the
/// difference() of their configs. Jobs of the phase "confirm" are left out of what is new: results bring them too.
std::vector<std::string> plan_changes(const std::vector<Job>& before, const std::vector<Job>& after);

/// What `equisweep plan` prints above its table.
struct PlanSummary {
  std::int64_t jobs = 0;
  std::int64_t unique = 0;  ///< different configs: what is run
  struct Model {
    std::string name;
    std::int64_t parameters = 0;
    std::int64_t jobs = 0;
  };
  std::vector<Model> models;
  std::int64_t tokens_per_run = 0;
  double tokens = 0;            ///< of all unique configs together
  std::int64_t to_confirm = 0;  ///< jobs that are not known yet: those that confirm what is still being tuned
};

PlanSummary summarize(const SweepSpec& spec, const SweepPlan& plan);

}  // namespace equisweep
