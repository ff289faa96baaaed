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
  std::string what;             ///< "training loss", "learning rate", "gradient norm", "validation loss"
  std::string recorded, again;  ///< "2.5", "nan"; "none" where one of them has not made that step or evaluation
};

struct RerunResult {
  std::int64_t steps = 0, evaluations = 0;  ///< compared: both have them
  std::optional<Difference> difference;     ///< of their bits
  std::string recorded_end = {}, end = {};  ///< "done", "diverged (loss is nan at step 5)"; empty where both ended alike
  std::vector<std::string> environment;     ///< what is not as it was: "threads: 4 recorded, 2 now"

  bool same() const { return !difference && end.empty(); }
};

/// Trains the job in a folder of its own, which is removed, with the device and the number of threads of its newest
/// attempt; the recorded run is only read. Throws DatabaseError or DataError if the run has nothing to compare with, and
/// Error if the training fails or is interrupted.
RerunResult rerun_job(const RerunOptions& options);

/// The comparison alone, of two run.db: losses, learning rates and gradient norms (the last two where both have them) of
/// every step, validation losses, and the state in which they ended. Where `steps` is not 0, `again` was told to stop after
/// so many: what the recorded run has beyond is left out, and that it ended earlier is no difference. Throws DatabaseError
/// if there is no step that both have.
RerunResult compare_runs(const std::filesystem::path& recorded, const std::filesystem::path& again, std::int64_t steps = 0);

}  // namespace equisweep
