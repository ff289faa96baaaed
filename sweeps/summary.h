#pragma once
// What a person reads when a sweep has stopped: how the jobs ended, what is wrong with those that failed, and what to do.

#include <filesystem>
#include <string>
#include <vector>

#include "core/run_state.h"
#include "sweeps/job.h"

namespace equisweep {

struct JobEnd {
  const Job* job;
  RunState state;
  std::string message = {};
  std::filesystem::path folder = {};  ///< of the run
};

/// Whether a state is one that a person should look at: failed, oom, timeout, lost.
bool is_failure(RunState state);

/// Whether nothing is left to do: every job is a result or cancelled.
bool is_complete(const std::vector<JobEnd>& ends);

/// The summary of sweep `name`, a line each, made safe to print.
std::vector<std::string> summary_lines(const std::string& name, const std::vector<JobEnd>& ends);

}  // namespace equisweep
