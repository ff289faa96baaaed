#pragma once
// Where a sweep lives: results/<name>/{sweep.db, runs/<id>/, report/}.

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/process_lock.h"
#include "core/run_state.h"
#include "sweeps/job.h"

namespace equisweep {

/// The folder of `sweep`, which is a name under `results`, a folder with a sweep.db, or that file itself. Throws Error with
/// exit code 3 (nothing matches) naming the sweeps that there are and the nearest.
std::filesystem::path find_sweep(const std::filesystem::path& results, const std::string& sweep);

/// What the database of a sweep says of each job; empty if there is no database yet. Throws DatabaseError if it cannot be
/// read.
std::map<std::string, RunState> recorded_states(const std::filesystem::path& folder);

/// The results in the database of a sweep: its jobs that are done or diverged, with their final validation loss. Throws as
/// recorded_states does.
std::map<std::string, JobResult> recorded_results(const std::filesystem::path& folder);

/// The jobs that the database of a sweep has in its plan, those that are retired left out; their phase is not read. Throws
/// as recorded_states does.
std::vector<Job> recorded_jobs(const std::filesystem::path& folder);

/// In the folder of a sweep: held by the one process that writes sweep.db. In that of a run: held by its one worker.
inline constexpr const char* kSupervisorLock = "supervisor.lock";
inline constexpr const char* kWorkerLock = "worker.lock";

/// The right to write the database of the sweep in `folder`. Throws as ProcessLock does.
inline ProcessLock lock_sweep(const std::filesystem::path& folder) {
  return {folder / kSupervisorLock, "is running this sweep"};
}

/// Where the prepared corpora of all sweeps live.
inline std::filesystem::path corpora_folder(const std::filesystem::path& results) { return results / "corpora"; }

/// The config of the job whose run lives in `run_folder`, as the supervisor wrote it to config.yaml. Throws DataError.
nlohmann::json read_job_config(const std::filesystem::path& run_folder);

/// In the folder of a run: the weights after its last step, where log.weights asks for them.
inline constexpr const char* kFinalWeights = "final.safetensors";

/// In the folder of a run: its checkpoints, until it is done.
inline constexpr const char* kCheckpoints = "ckpt";

/// The folder of `run`, which is that folder itself or the id of a job in any sweep under `results`, or the first digits of
/// one. Throws Error with exit code 3 if there is none, or several that begin so.
std::filesystem::path find_run(const std::filesystem::path& results, const std::string& run);

}  // namespace equisweep
