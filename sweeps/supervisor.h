#pragma once
// Runs the jobs of a sweep: one worker process a job, never more than the devices have slots.
//
//   results/<sweep>/sweep.db            written by this function alone
//   results/<sweep>/supervisor.lock     held while it runs, with its process number in it
//   results/<sweep>/runs/<id>/          config.yaml (the job's config as JSON, which is YAML), run.db, log.txt of one job
//
// Jobs that are results (done, diverged) are skipped, all others start as a new attempt, those of the first seed first so
// that a report is worth reading early. A job that fails leaves the others alone.

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/attempt.h"
#include "sweeps/device.h"
#include "sweeps/job.h"
#include "sweeps/job_queue.h"
#include "sweeps/launcher/launcher.h"
#include "sweeps/retry.h"
#include "sweeps/signals.h"
#include "sweeps/terminal.h"

namespace equisweep {

/// The whole plan again, now that these jobs have become results: jobs are only ever added. Empty: the plan is fixed.
using Replan = std::function<std::vector<Job>(const std::map<std::string, JobResult>& results)>;

struct RunOptions {
  std::filesystem::path results = "results";       ///< folder of all sweeps
  std::vector<Device> devices = {};                ///< find_devices(); at least one slot
  std::map<std::string, std::string> meta = {};    ///< kept in sweep.db: sweep file as written, notes, program version, ...
  bool fail_fast = false;                          ///< start nothing more once a job has failed
  std::optional<std::set<std::string>> only = {};  ///< ids of the jobs to run; the others stay in the plan
  Replan replan = {};                              ///< asked at the start and each time a job has become a result
  RetryPolicy retry = {};
  double timeout = 0;         ///< seconds that an attempt may take; 0: any
  double stall_seconds = 0;   ///< without a sign of life before a worker counts as hung; 0: half an hour, or 20 times its
                              ///< longest silence so far
  double grace_seconds = 30;  ///< between SIGTERM and SIGKILL of a worker that ran out of time, hung or was cancelled
  std::optional<CheckpointSettings> checkpoint = {};
};

/// What the supervisor takes from its surroundings; the tests bring their own.
struct Surroundings {
  Launcher& launcher;
  Terminal& terminal;
  const Interrupts& interrupts;
  std::function<double()> seconds;  ///< a clock that only goes forward
};

/// Runs the sweep `name` to its end, shows progress and a summary with what to do next on the terminal.
/// Returns ok if every job is a result, some_failed otherwise; 128 + the signal number if it was interrupted before the end.
/// Throws UsageError (a name that is no folder name), DatabaseError (another supervisor runs this sweep, says its process
/// number; sweep.db refused). Workers that run when an error is thrown have been asked to stop before, and waited for as on
/// SIGTERM.
///
///   CaughtSignals signals;
///   StandardError terminal;
///   LocalLauncher launcher;
///   return run_sweep(name, jobs, options, {launcher, terminal, signals, steady_seconds});
ExitCode run_sweep(const std::string& name, const std::vector<Job>& jobs, const RunOptions& options,
                   const Surroundings& surroundings);

/// Seconds of the steady clock.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Where a sweep and a job of it keep their files.
std::filesystem::path sweep_folder(const std::filesystem::path& results, const std::string& name);
std::filesystem::path run_folder(const std::filesystem::path& results, const std::string& name, const std::string& job);
/// The first of them, made with what is to hold the second.
std::filesystem::path make_sweep_folder(const std::filesystem::path& results, const std::string& name);

}  // namespace equisweep
