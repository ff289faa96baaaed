#include "sweeps/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"

namespace equisweep {

bool is_failure(RunState state) {
  return state == RunState::failed || state == RunState::oom || state == RunState::timeout || state == RunState::lost;
}

bool is_complete(const std::vector<JobEnd>& ends) {
  return std::all_of(ends.begin(), ends.end(),
                     [](const JobEnd& end) { return is_result(end.state) || end.state == RunState::cancelled; });
}

std::vector<std::string> summary_lines(const std::string& name, const std::vector<JobEnd>& ends) {
  constexpr std::size_t kListed = 10;
  std::map<RunState, std::size_t> counts;
  std::vector<const JobEnd*> failures;
  for (const JobEnd& end : ends) {
    ++counts[end.state];
    if (is_failure(end.state)) failures.push_back(&end);
  }
  std::vector<std::string> parts, lines;
  for (const auto& [state, n] : counts) parts.push_back(fmt::format("{} {}", n, name_of(state)));
  const std::string sweep = printable(name);
  lines.push_back(fmt::format("{}: {} jobs: {}", sweep, ends.size(), parts.empty() ? "nothing to do" : join(parts)));
  for (std::size_t i = 0; i < std::min(failures.size(), kListed); ++i) {
    const auto& [job, state, message, folder] = *failures[i];
    lines.push_back(fmt::format("  {} {} {} seed {}: {}: {}", job->id, printable(job->model), printable(job->stack),
                                job->seed, name_of(state), printable(message, 400)));
    lines.push_back(fmt::format("    log: {}", printable((folder / "log.txt").string(), 4096)));
  }
  if (failures.size() > kListed) lines.push_back(fmt::format("  and {} more", failures.size() - kListed));
  const std::size_t results = counts[RunState::done] + counts[RunState::diverged], cancelled = counts[RunState::cancelled];
  if (results + cancelled < ends.size()) lines.push_back("next: the same command runs what is missing");
  if (cancelled > 0)
    lines.push_back(fmt::format("next: equisweep retry {} --state cancelled puts back what is cancelled", sweep));
  if (results > 0) lines.push_back(fmt::format("next: equisweep report {}", sweep));
  return lines;
}

}  // namespace equisweep
