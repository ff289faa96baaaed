#pragma once
// The life of one attempt as its supervisor sees it: how long it may take, what is done when it takes longer, and what its
// end means.

#include <optional>
#include <string>

#include "core/run_state.h"
#include "sweeps/launcher/launcher.h"

namespace equisweep {

/// Why a worker has been told to stop.
enum class StopReason {
  none,
  asked,      ///< by the person at the terminal, or a signal to the supervisor
  cancelled,  ///< by `equisweep cancel`
  timeout,    ///< it took longer than it may
  stalled,    ///< it gave no sign of life
};

struct AttemptLimits {
  double timeout = 0;  ///< seconds; 0: none
  double stall = 0;    ///< seconds; 0: derived from the longest silence
  double grace = 30;   ///< seconds from SIGTERM to SIGKILL, and from SIGKILL to giving the process up
};

/// Half an hour, or 20 times the longest silence so far: what counts as hung where no limit is given.
double derived_stall(double longest_silence);

/// Watches one worker. Times are of any clock that only goes forward.
class AttemptWatch {
 public:
  AttemptWatch(double now, const AttemptLimits& limits) : limits_(limits), begin_(now), heard_(now) {}

  void heard(double now);  ///< a sign of life
  /// It has been told to stop, or with `kill` has been killed. The first reason stays.
  void stop(StopReason reason, bool kill, double now);

  enum class Due {
    nothing,
    ask,      ///< SIGTERM: its time is over or it hangs
    kill,     ///< SIGKILL: it did not stop within the grace
    give_up,  ///< it is not gone although it was killed: lost
  };
  /// What is to be done now; each is said once, and taken as done.
  Due due(double now);

  StopReason reason() const { return reason_; }
  /// "took longer than 60 s", for the reason it was stopped.
  std::string why() const;

 private:
  double stall_limit() const { return limits_.stall > 0 ? limits_.stall : derived_stall(longest_silence_); }

  AttemptLimits limits_;
  double begin_, heard_, longest_silence_ = 0;
  StopReason reason_ = StopReason::none;
  std::optional<double> asked_, killed_;
  bool given_up_ = false;
};

/// What has become of an attempt.
struct AttemptVerdict {
  RunState state;
  std::string message;
};

/// The verdict on an attempt whose worker has ended. `recorded` and `message` are what the newest attempt of its run.db
/// says, `running` meaning that it left no final row. A result is a result, whatever happened to the process afterwards;
/// otherwise the reason for which it was stopped counts, then its final row, then how the process ended: SIGKILL that nobody
/// here sent is lost (the system took it, most often for want of memory), SIGTERM and its like preempted, any other end
/// failed.
AttemptVerdict judge(RunState recorded, const std::string& message, const WorkerExit& exit, StopReason reason,
                     const std::string& why);

}  // namespace equisweep
