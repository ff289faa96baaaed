#pragma once
// From a sweep to its jobs.

#include <cstdint>
#include <string>
#include <vector>

#include "sweeps/file/spec.h"
#include "sweeps/job.h"

namespace equisweep {

/// More jobs than this are refused: each holds its whole config, about 25 kB in memory.
inline constexpr std::int64_t kMaxJobs = 100'000;

/// Number of jobs before `exclude`, computed before anything is expanded: an upper bound where rows of `include` name points
/// that the grid has. Throws UsageError with the length of each axis if there are more than kMaxJobs.
std::int64_t count_jobs(const SweepSpec& spec);

/// Every job in a fixed order: seed, model, stack, the stack's own axes, lr_scale, the last fastest, so that one seed of
/// everything comes first. A job's stack holds only the entries that its model has weights for. Two jobs with the same
/// config have the same id. Throws UsageError as count_jobs does, where a combination of options is refused or a learning
/// rate is out of range, and where `exclude` or `include` changes nothing.
std::vector<Job> expand(const SweepSpec& spec);

/// The jobs that any of `only` selects (the option --only), or all of them if there is none. Throws UsageError on a
/// selection that cannot be read, and Error (nothing matches) if no job is selected.
std::vector<Job> select(const SweepSpec& spec, const std::vector<Job>& jobs, const std::vector<std::string>& only);

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
  double tokens = 0;  ///< of all unique configs together
};

PlanSummary summarize(const SweepSpec& spec, const std::vector<Job>& jobs);

}  // namespace equisweep
