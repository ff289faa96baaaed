#pragma once
// Why a job will run or will not: what a sweep file asks for against what the database has.

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "sweeps/job.h"
#include "sweeps/overview.h"

namespace equisweep {

/// Configs of recorded jobs by id, as `runs.config` of a sweep.db has them.
using RecordedConfigs = std::map<std::string, nlohmann::json>;

RecordedConfigs read_configs(const std::filesystem::path& folder);

/// What becomes of one job at the next `equisweep run`.
struct Explanation {
  std::string job, model, stack, phase, axes;
  double lr_scale = 1;
  std::int64_t seed = 0;
  bool will_run = false;
  bool in_file = true;  ///< false: recorded, but the file does not ask for it any more
  std::string reason;
  std::string other;  ///< the job of the other side to which it was compared: same point, or same model and stack
  std::vector<std::string> changed;  ///< "train.steps: 100 -> 200", recorded first
};

/// One explanation for each different job of `jobs`, in their order, then for each recorded one that is not among them. A
/// new job is compared with the recorded job at the same point of the sweep, or else with one of the same model and stack.
std::vector<Explanation> explain(std::span<const Job> jobs, const SweepOverview& recorded, const RecordedConfigs& configs);

/// The paths at which two configs differ with their values, "train.steps: 100 -> 200"; "-" where there is none.
std::vector<std::string> changes(const nlohmann::json& before, const nlohmann::json& after);

}  // namespace equisweep
