#pragma once
// What a job will take, before it runs: memory from its config, time from jobs that have ended on this machine.

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/role.h"

namespace equisweep {

/// Memory of a job's process in bytes. Weights, gradients and the optimizer's state are counted exactly; the rest is a rule
/// of thumb, good to about a factor of two:
///   activations  tokens of a step * (layers * (5 d + 3 H h + 4 G h + 4 f) * b + 12 v), with h = head_dim, H and G heads of
///                queries and keys, f the width of the MLP (of all active experts), b bytes a number, v the vocabulary;
///                with recomputation one layer, and 2 d a layer
///   process      LibTorch, SQLite and the corpus: kProcessBytes, as measured on the CPU
struct MemoryEstimate {
  double weights = 0, gradients = 0, state = 0, activations = 0, process = 0;
  double total() const { return weights + gradients + state + activations + process; }
};

inline constexpr double kProcessBytes = 180e6;

/// Numbers in the weights of each role, by the canonical JSON of a model: one of thousands of layers takes a while to
/// describe, and each stack of a sweep asks for it.
using ModelSizes = std::map<std::string, std::map<Role, double>>;

/// Of the config of a job (sweeps/job.h); what is found out about its model is kept in `known`.
MemoryEstimate estimate_memory(const nlohmann::json& config, ModelSizes& known);

/// Tokens that a job passes forward in its evaluations.
std::int64_t evaluation_tokens(const nlohmann::json& config);

/// What attempts took that ended as done, in one go, on one machine.
class Measurements {
 public:
  /// Reads results/*/sweep.db; a database that cannot be read is left out. `host` and `cpu` as in sweeps/provenance.h.
  Measurements(const std::filesystem::path& results, const std::string& host, const std::string& cpu);

  struct Speed {
    double tokens_per_second = 0;  ///< while training
    int threads = 0;
    std::size_t jobs = 0;  ///< whose mean this is
  };
  /// Of jobs with the model, the precision and the recomputation of `config` on a device of the same kind; with `threads`
  /// threads, or where there are none with the nearest number.
  std::optional<Speed> speed(const nlohmann::json& config, const std::string& device, int threads) const;

  struct Memory {
    double peak_bytes = 0;
    std::size_t jobs = 0;
  };
  /// The mean peak of such jobs with the same tokens a step.
  std::optional<Memory> memory(const nlohmann::json& config, const std::string& device) const;

 private:
  struct Row {
    std::string kind;  ///< model, precision, recomputation, device
    std::int64_t threads = 0, batch_tokens = 0;
    double tokens_per_second = 0, peak_bytes = 0;
  };
  std::vector<Row> rows_;
};

/// Seconds of a job at that speed: its training, and its evaluations at three times the speed.
double estimate_seconds(const nlohmann::json& config, const Measurements::Speed& speed);

}  // namespace equisweep
