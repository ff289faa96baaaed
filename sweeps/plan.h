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

/// Number of jobs, the product of all axes, computed before anything is expanded. Throws UsageError with the length of each
/// axis if there are more than kMaxJobs.
std::int64_t count_jobs(const SweepSpec& spec);

/// Every job in a fixed order: seed, model, stack, the stack's own axes, lr_scale, the last fastest, so that one seed of
/// everything comes first. Two jobs with the same config have the same id. Throws UsageError as count_jobs does, and where a
/// combination of options is refused or a learning rate is out of range.
std::vector<Job> expand(const SweepSpec& spec);

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
