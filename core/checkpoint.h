#pragma once
// Checkpoints: everything that a run needs to go on after a step as if it had never stopped.
//
//   FOLDER/step-000000120.ckpt    a safetensors file that ends in a checksum of all its bytes (core/safetensors.h)
//
// Its tensors are the weights ("weight/NAME") and the optimizer's state ("state/NAME/SLOT"); its metadata the rest. The
// order of the data and every random number are pure functions of a seed and the step (core/rng.h, core/data/batches.h), so
// the step says where they stand.

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/safetensors.h"

namespace equisweep {

struct Checkpoint {
  std::string job;          ///< id; a checkpoint serves no other job
  std::int64_t step = 0;    ///< updates made, at least 1; the next batch is that of step + 1
  std::int64_t tokens = 0;  ///< trained on so far
  double seconds = 0;       ///< of training so far
  bool evaluated = true;    ///< false: the evaluation that is due after `step` has still to be made
  std::string corpus;       ///< CorpusInfo::digest
  std::string environment;  ///< of the process that wrote it, in words: "cpu, 2 threads, LibTorch 2.13.0"
  std::vector<NamedTensor> tensors;
};

/// FOLDER/step-000000120.ckpt
std::filesystem::path checkpoint_file(const std::filesystem::path& folder, std::int64_t step);

/// Makes `checkpoint` durable in `folder` (made where it is missing, beside files that exist), then removes all but the
/// newest `keep`, those of later steps (nothing leads to them any more), and what killed writers have left. Until it
/// returns, the older ones stay. Returns the size of the file. Throws Error if it cannot be written, or the folder is a
/// link.
std::uintmax_t write_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint, std::int64_t keep);

/// Reads a checkpoint of `job` whose tensors are exactly those of `layout` in name, dtype and shape (their values are not
/// looked at; tensors of the meta device will do). Throws DataError on any other file, before anything of it is used.
Checkpoint read_checkpoint(const std::filesystem::path& file, const std::string& job, std::span<const NamedTensor> layout);

struct FoundCheckpoint {
  std::optional<Checkpoint> checkpoint;
  std::vector<std::string> refused;  ///< newer files that were not used: "step-000000120.ckpt: why"
};

/// The newest checkpoint in `folder` that read_checkpoint takes and whose step is at most `last_step`.
FoundCheckpoint find_checkpoint(const std::filesystem::path& folder, const std::string& job,
                                std::span<const NamedTensor> layout,
                                std::int64_t last_step = std::numeric_limits<std::int64_t>::max());

/// The checkpoints in `folder` by their names, the newest first; none if there is no such folder.
std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& folder);

/// Removes every checkpoint, what killed writers have left, and the folder if nothing else is in it.
void remove_checkpoints(const std::filesystem::path& folder);

}  // namespace equisweep
