#pragma once
// When a run is saved, and what its database says about it.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/run_store.h"

namespace equisweep {

/// Both zero: no checkpoints at all, and an interrupted run begins anew.
struct CheckpointPolicy {
  std::int64_t every = 0;  ///< steps; 0: by time alone
  double minutes = 10;     ///< longest time between two; 0: by steps alone
  std::int64_t keep = 2;   ///< how many of the newest stay

  bool on() const { return every > 0 || minutes > 0; }
};

class Checkpointer {
 public:
  using Clock = std::chrono::steady_clock;

  Checkpointer(std::filesystem::path folder, const CheckpointPolicy& policy, RunStore& store,
               std::function<Clock::time_point()> now = Clock::now);

  bool on() const { return policy_.on(); }

  /// Whether a run that has made `step` updates is to be saved now.
  bool due(std::int64_t step) const;

  /// Makes the rows so far durable, then the checkpoint, and writes an event. A checkpoint that cannot be written (disk
  /// full) leaves the older ones, an event of kind `warning` and false: a run need not end for it. Throws DatabaseError if a
  /// newer attempt owns the run or the database cannot be written.
  bool write(const Checkpoint& checkpoint);

  /// The same, and it becomes the only one: the state in which a run has diverged.
  bool write_last(const Checkpoint& checkpoint);

 private:
  bool write(const Checkpoint& checkpoint, std::int64_t keep);

  std::filesystem::path folder_;
  CheckpointPolicy policy_;
  RunStore& store_;
  std::function<Clock::time_point()> now_;
  Clock::time_point last_;
};

/// What a job writes at most, in bytes.
struct SpaceNeeded {
  std::uintmax_t checkpoint = 0;  ///< one of them
  std::uintmax_t database = 0;
};

/// What earlier attempts have written of that, in bytes.
struct SpaceHeld {
  std::vector<std::uintmax_t> checkpoints = {};  ///< each of them, the newest first
  std::uintmax_t database = 0;
};

/// Why a job that needs `needed`, `held` of it on the disk already, is refused where `available` bytes are free, or "".
std::string space_problem(const SpaceNeeded& needed, const CheckpointPolicy& policy, std::uintmax_t available,
                          const SpaceHeld& held = {});

/// Writes a file in `run_dir` and removes it, and looks at the space that is left. Throws Error: what is wrong, what to do.
void probe_run_folder(const std::filesystem::path& run_dir, const SpaceNeeded& needed, const CheckpointPolicy& policy);

}  // namespace equisweep
