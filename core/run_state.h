#pragma once
// The states of a job (sweeps.md section 2).

#include <array>
#include <optional>
#include <string_view>

namespace equisweep {

enum class RunState { queued, running, done, diverged, failed, oom, timeout, preempted, lost, cancelled };

inline constexpr std::array kRunStates = {RunState::queued, RunState::running, RunState::done,      RunState::diverged, RunState::failed,
                                          RunState::oom,    RunState::timeout, RunState::preempted, RunState::lost,     RunState::cancelled};

std::string_view name_of(RunState state);
std::optional<RunState> run_state_from_name(std::string_view name);

/// done and diverged are results: they count in statistics and are never run again.
inline bool is_result(RunState s) { return s == RunState::done || s == RunState::diverged; }

}  // namespace equisweep
