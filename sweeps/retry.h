#pragma once
// Which jobs are started again by themselves, how often and how soon.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "core/run_state.h"

namespace equisweep {

/// `retry: {max, on}` of a sweep file. The count is of one `equisweep run`: the same command begins it anew, because a
/// person has asked. An attempt that got further than any before it begins it anew as well, so that a job may be preempted
/// often as long as it moves.
struct RetryPolicy {
  int max = 2;
  std::set<RunState> on = {RunState::lost, RunState::preempted};
  double delay = 1;  ///< seconds before the first retry; doubled for each further one, at most kLongestRetryDelay
};

inline constexpr double kLongestRetryDelay = 300;

/// Seconds before retry number `n` (from 1): delay 2^(n-1).
inline double retry_delay(const RetryPolicy& policy, int n) {
  return std::min(kLongestRetryDelay, policy.delay * std::exp2(std::min(n, 64) - 1));
}

/// Counts the retries of each job.
class RetryCounter {
 public:
  explicit RetryCounter(RetryPolicy policy) : policy_(std::move(policy)) {}

  /// Seconds until a job may start again whose attempt has ended in `state` after step `reached`; nothing: it may not.
  std::optional<double> next(const std::string& job, RunState state, std::int64_t reached) {
    Used& used = used_[job];
    if (reached > used.reached) used = {.retries = 0, .reached = reached};
    if (!policy_.on.contains(state) || used.retries >= policy_.max) return std::nullopt;
    return retry_delay(policy_, ++used.retries);
  }
  void forget(const std::string& job) { used_.erase(job); }

 private:
  struct Used {
    int retries = 0;
    std::int64_t reached = 0;
  };
  RetryPolicy policy_;
  std::map<std::string, Used> used_;
};

}  // namespace equisweep
