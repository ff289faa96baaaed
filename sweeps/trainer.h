#pragma once
// The training loop of one job: batch, forward, backward, clip, step, observe, evaluate, log.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/data/corpus.h"
#include "core/run_state.h"
#include "core/run_store.h"

namespace equisweep {

/// What a running job tells its supervisor, about four times a second.
struct TrainingProgress {
  std::int64_t step = 0, steps = 0;
  double loss = 0, tokens_per_second = 0;
  const char* phase = "train";  ///< train | eval
};

struct TrainerHooks {
  std::function<void(const TrainingProgress&)> progress = [](const TrainingProgress&) {};
  std::function<bool()> stop_requested = [] { return false; };  ///< asked at the end of every step
};

struct Outcome {
  RunState state = RunState::done;  ///< done, diverged or preempted
  std::string message;
};

/// Trains one job. `config` is that of a Job (sweeps/job.h). The weights are drawn from its seed, or read from the folder of
/// init_from; DataError if that is not what it was when the sweep was planned. What it does in step t = 1..steps:
///   forward and backward on batch t, with the terms of train.router added to the loss (the loss that is written down is the
///   cross entropy alone); loss or gradient norm not finite, or loss above stop.loss_above: diverged, before the
///   update; clip the gradient to grad_clip; update with learning rates times schedule(t); write the step's row; evaluate
///   after every eval.every steps and after the last one (and before the first).
class Trainer {
 public:
  Trainer(const nlohmann::json& config, Corpus corpus, at::Device device, RunStore& store);
  ~Trainer();

  Outcome run(const TrainerHooks& hooks);

  /// The weights as they are, in HuggingFace's names, whole or not at all.
  void save_weights(const std::filesystem::path& file) const;

  std::int64_t parameters() const;
  std::int64_t state_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace equisweep
