#include "core/run_state.h"

#include <algorithm>

namespace equisweep {

std::string_view name_of(RunState state) {
  switch (state) {
    case RunState::queued:
      return "queued";
    case RunState::running:
      return "running";
    case RunState::done:
      return "done";
    case RunState::diverged:
      return "diverged";
    case RunState::failed:
      return "failed";
    case RunState::oom:
      return "oom";
    case RunState::timeout:
      return "timeout";
    case RunState::preempted:
      return "preempted";
    case RunState::lost:
      return "lost";
    case RunState::cancelled:
      return "cancelled";
  }
  return "";
}

std::optional<RunState> run_state_from_name(std::string_view name) {
  const auto* found = std::find_if(kRunStates.begin(), kRunStates.end(), [&](RunState s) { return name_of(s) == name; });
  if (found == kRunStates.end()) return std::nullopt;
  return *found;
}

}  // namespace equisweep
