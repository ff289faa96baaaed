#include "sweeps/attempt.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace equisweep {

double derived_stall(double longest_silence) { return std::max(1800.0, 20 * longest_silence); }

void AttemptWatch::heard(double now) {
  longest_silence_ = std::max(longest_silence_, now - heard_);
  heard_ = now;
}

void AttemptWatch::stop(StopReason reason, bool kill, double now) {
  if (reason_ == StopReason::none) reason_ = reason;
  if (!asked_) asked_ = now;
  if (kill && !killed_) killed_ = now;
}

AttemptWatch::Due AttemptWatch::due(double now) {
  if (killed_) {
    if (given_up_ || now - *killed_ < limits_.grace) return Due::nothing;
    given_up_ = true;
    return Due::give_up;
  }
  if (asked_) {
    // A person who asks it to stop may give it all the time that it needs for its checkpoint, and can kill it.
    const double patience = reason_ == StopReason::asked ? std::max(limits_.grace, stall_limit()) : limits_.grace;
    if (now - *asked_ < patience) return Due::nothing;
    killed_ = now;
    return Due::kill;
  }
  if (limits_.timeout > 0 && now - begin_ >= limits_.timeout) {
    stop(StopReason::timeout, false, now);
    return Due::ask;
  }
  if (now - heard_ >= stall_limit()) {
    stop(StopReason::stalled, false, now);
    return Due::ask;
  }
  return Due::nothing;
}

std::string AttemptWatch::why() const {
  switch (reason_) {
    case StopReason::none:
      return "";
    case StopReason::asked:
      return "stopped on request";
    case StopReason::cancelled:
      return "cancelled on request";
    case StopReason::timeout:
      return fmt::format("took longer than {} s", limits_.timeout);
    case StopReason::stalled:
      return fmt::format("gave no sign of life for {} s", std::round(10 * stall_limit()) / 10);
  }
  return "";
}

AttemptVerdict judge(RunState recorded, const std::string& message, const WorkerExit& exit, StopReason reason,
                     const std::string& why) {
  const bool stopped = reason != StopReason::none;
  if (is_result(recorded)) {
    // The final row is the last word; that the process then stumbled is worth knowing, but takes nothing back.
    if ((!exit.signalled && exit.code == 0) || (stopped && exit.signalled)) return {recorded, message};
    return {recorded, fmt::format("{}{}after its final row: {}", message, message.empty() ? "" : "; ", to_string(exit))};
  }
  switch (reason) {
    case StopReason::cancelled:
      return {RunState::cancelled, why};
    case StopReason::timeout:
      return {RunState::timeout, why};
    case StopReason::stalled:
      return {RunState::lost, why};
    case StopReason::none:
    case StopReason::asked:
      break;
  }
  if (recorded != RunState::running && recorded != RunState::queued) {
    if (!exit.signalled || stopped) return {recorded, message};
    return {recorded, fmt::format("{}{}after its final row: {}", message, message.empty() ? "" : "; ", to_string(exit))};
  }
  if (reason == StopReason::asked) return {RunState::preempted, why};
  if (exit.signalled) {
    switch (exit.code) {
      case SIGKILL:
        return {RunState::lost, "killed by signal 9, which is often the system's answer to a lack of memory"};
      case SIGTERM:
      case SIGINT:
      case SIGHUP:
      case SIGUSR2:
        return {RunState::preempted, fmt::format("ended by signal {} before it could save anything", exit.code)};
      default:
        return {RunState::failed, fmt::format("killed by signal {}", exit.code)};
    }
  }
  if (exit.code == static_cast<int>(ExitCode::preempted)) return {RunState::preempted, "stopped before its end"};
  if (exit.code == 0) return {RunState::failed, "ended without a final row"};
  return {RunState::failed, to_string(exit)};
}

}  // namespace equisweep
