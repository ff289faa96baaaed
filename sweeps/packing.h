#pragma once
// How to share the cores of a machine among small jobs: many at a time with a thread each, or few with many. Which is faster
// depends on the machine and on the size of the model, so it is measured (`equisweep doctor --tune`) and kept in
// results/packing.json, where `run` and `plan` find it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/launcher/launcher.h"
#include "sweeps/signals.h"

namespace equisweep {

/// `jobs` processes at a time with `threads` each.
struct Packing {
  int jobs = 1, threads = 1;
  double tokens_per_second = 0;  ///< of all jobs together, median over rounds
  double lowest = 0, highest = 0;
  bool operator==(const Packing&) const = default;
};

struct ModelPackings {
  std::string model;
  std::int64_t parameters = 0;
  std::vector<Packing> packings = {};  ///< most jobs first; at least one
  const Packing& best() const;         ///< highest median, of equal ones that with more jobs
  bool operator==(const ModelPackings&) const = default;
};

/// What was measured on a machine.
struct MachinePackings {
  std::string cpu;
  int cores = 1;
  std::vector<ModelPackings> models = {};
  bool operator==(const MachinePackings&) const = default;
};

/// As many jobs as cores, half of them, and so on down to one, with cores / jobs threads each.
std::vector<Packing> packings_to_try(int cores);

/// Trains `model` ("qwen3-nano") with AdamW in bf16, 4,096 tokens of the corpus `synthetic` a step, for `steps` steps in
/// each packing, which take turns in `rounds` rounds, forwards and backwards. A job's speed is the tokens of a step over the
/// median of its step times, the first three left out. `progress` hears of each turn. Throws UsageError (no such model),
/// Error where a job failed, or where it was interrupted before the end, with the exit code for that.
ModelPackings measure_packings(const std::string& model, int cores, int rounds, int steps, Launcher& launcher,
                               const Interrupts& interrupts, const std::function<void(const std::string&)>& progress);

/// Where they are kept, for all sweeps in `results`.
inline std::filesystem::path packing_file(const std::filesystem::path& results) { return results / "packing.json"; }

/// `found` added to what is known of this machine; what was measured on another is replaced.
MachinePackings with_packings(std::optional<MachinePackings> known, const MachinePackings& found);

/// Nothing where there is no such file. Throws Error, naming the file and what to do, if it does not say what it should.
std::optional<MachinePackings> read_packings(const std::filesystem::path& file);
void write_packings(const std::filesystem::path& file, const MachinePackings& packings);

/// How many jobs at a time are fastest for a model of `parameters` weights: as for the measured model that is nearest in
/// size (by ratio). Nothing where another machine was measured.
std::optional<int> jobs_at_a_time(const std::optional<MachinePackings>& known, const std::string& cpu, int cores,
                                  std::int64_t parameters);

}  // namespace equisweep
