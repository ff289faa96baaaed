#pragma once
// One job in one process: what `equisweep exec` does.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/error.h"

namespace equisweep {

struct WorkerOptions {
  std::filesystem::path run_dir;  ///< results/<sweep>/runs/<id>, with config.yaml
  std::filesystem::path corpora;  ///< prepared corpora; empty: corpora/ beside the sweep's folder
  std::int64_t attempt = 0;       ///< 0: one more than the newest in run.db
  std::string device = "cpu";     ///< cpu or cuda:N (as this process sees it)
  int threads = 0;                ///< 0: all cores
  int progress_fd = -1;           ///< where to write one JSON line per update; -1: none
  bool verbose = false;           ///< progress on stderr
};

/// Trains the job and writes run.db. Returns ok for done and diverged (both are results), some_failed for a failed run (its
/// state and message are in run.db where that could be written), preempted after SIGTERM or SIGUSR2. Never throws for what
/// goes wrong inside the job.
ExitCode run_worker(const WorkerOptions& options);

}  // namespace equisweep
