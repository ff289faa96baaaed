#pragma once
// One job in one process: what `equisweep exec` does.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "sweeps/checkpointer.h"

namespace equisweep {

struct WorkerOptions {
  std::filesystem::path run_dir;  ///< results/<sweep>/runs/<id>, with config.yaml
  std::filesystem::path corpora;  ///< prepared corpora; empty: corpora/ beside the sweep's folder, links not followed
  std::int64_t attempt = 0;       ///< 0: one more than the newest in run.db
  std::string device = "cpu";     ///< cpu or cuda:N (as this process sees it)
  int threads = 0;                ///< 0: all cores
  int progress_fd = -1;           ///< where to write one JSON line per update; -1: none
  bool verbose = false;           ///< progress on stderr
  CheckpointPolicy checkpoint = {};
  std::int64_t stop_after = 0;  ///< stop as if asked to after this step; 0: never
};

/// Trains the job and writes run.db; goes on where the newest checkpoint in run_dir/ckpt leaves off, if there is one of this
/// job whose rows are all there (what is wrong with a newer one is written into the events). Holds run_dir/worker.lock
/// while it works: throws DatabaseError if another process does. A run that is a result is left alone: throws Error with
/// exit code 3. Removes the checkpoints once the job is done.
/// Returns ok for done and diverged (both are results), some_failed for a failed run (its
/// state and message are in run.db), database if run.db could not be written, preempted after SIGTERM or SIGUSR2. Never
/// throws for what goes wrong inside the job.
ExitCode run_worker(const WorkerOptions& options);

}  // namespace equisweep
