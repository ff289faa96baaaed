#pragma once
// How workers are started and heard of: local processes, a dry run, and the fakes of the tests.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace equisweep {

/// This machine has no room for one more process now (descriptors, processes, memory): it can be tried again when one ends.
class NoRoom : public Error {
 public:
  using Error::Error;
};

/// How often a worker saves its state: options of `equisweep exec`, no part of the job.
struct CheckpointSettings {
  std::optional<std::int64_t> every = {};  ///< steps; none: by time alone
  double minutes = 10;
  std::int64_t keep = 2;  ///< how many of the last stay
};

/// Where and how a worker runs its job; the job itself is in `folder`/config.yaml.
struct WorkerSpec {
  std::filesystem::path folder;
  std::int64_t attempt = 1;
  std::string device = "cpu";  ///< as the worker sees it: cpu, or cuda:0 whichever GPU it was given
  std::string visible = {};    ///< CUDA_VISIBLE_DEVICES
  int threads = 1;
  std::optional<CheckpointSettings> checkpoint = {};  ///< without: as the worker does by itself
};

using WorkerId = std::int64_t;

/// One line of JSON from a worker: {"step":12,"steps":300,"loss":3.2,"tokens_per_second":51000,"phase":"train"}.
struct Progress {
  std::int64_t step = 0, steps = 0;
  std::optional<double> loss = {};  ///< absent before the first step and where it is not finite
  double tokens_per_second = 0;
  std::string phase = {};
};

/// The progress in `line`, or nothing if it is not a line as above (a number that does not fit counts as absent).
std::optional<Progress> parse_progress(std::string_view line);

struct WorkerExit {
  bool signalled = false;
  int code = 0;  ///< exit code or signal number
  bool operator==(const WorkerExit&) const = default;
};

/// "exit 1", "signal 9"
std::string to_string(const WorkerExit& exit);

/// What is new about one worker; after `exit` there is nothing more.
struct WorkerNews {
  WorkerId worker = 0;
  std::optional<Progress> progress = {};
  std::optional<WorkerExit> exit = {};
};

enum class Abort { ask, kill };  ///< SIGTERM: stop at the end of the step; SIGKILL

class Launcher {
 public:
  virtual ~Launcher() = default;
  /// Starts a worker; throws NoRoom, or Error if that is impossible. Numbers are never used again.
  virtual WorkerId start(const WorkerSpec& spec) = 0;
  /// Waits until there is news, a signal arrives, or `patience` is over; the newest progress of each worker that has some,
  /// and its end.
  virtual std::vector<WorkerNews> wait(std::chrono::milliseconds patience) = 0;
  virtual void abort(WorkerId worker, Abort how) = 0;
};

}  // namespace equisweep
