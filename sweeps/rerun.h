#pragma once
// Trains a recorded job again, elsewhere, and says whether it comes out the same.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace equisweep {

struct RerunOptions {
  std::filesystem::path run_dir;  ///< of the recorded job: config.yaml and run.db
  std::filesystem::path corpora;  ///< prepared corpora
  std::string device = {};        ///< empty: as recorded
  int threads = 0;                ///< 0: as recorded
  std::int64_t steps = 0;         ///< train only so many; 0: all
  bool verbose = false;           ///< progress on stderr
};

/// The first place where two trainings differ.
struct Difference {
  std::int64_t step = 0;
  std::string what;                       ///< "training loss", "validation loss"
  std::optional<double> recorded, again;  ///< nothing: NaN
};

struct RerunResult {
  std::int64_t steps = 0, evaluations = 0;  ///< compared
  std::optional<Difference> difference;     ///< of their bits
  std::vector<std::string> environment;     ///< what is not as it was: "threads: 4 recorded, 2 now"
};

/// Trains the job in a folder of its own, which is removed, with the device and the number of threads of its newest
/// attempt; the recorded run is only read. Throws DatabaseError or DataError if the run has nothing to compare with, and
/// Error if the training fails or is interrupted.
RerunResult rerun_job(const RerunOptions& options);

/// The comparison alone: two run.db, up to the last step of `again`. Throws DatabaseError if either has no step.
RerunResult compare_runs(const std::filesystem::path& recorded, const std::filesystem::path& again);

}  // namespace equisweep
