#pragma once
// The training loop of one job: batch, forward, backward, clip, step, observe, evaluate, log, checkpoint.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/data/corpus.h"
#include "core/run_state.h"
#include "core/run_store.h"
#include "sweeps/checkpointer.h"

namespace equisweep {

/// What a running job tells its supervisor, about four times a second.
struct TrainingProgress {
  std::int64_t step = 0, steps = 0;
  double loss = 0;  ///< NaN before the first step of this attempt
  double tokens_per_second = 0;
  const char* phase = "train";  ///< train | eval
};

struct TrainerHooks {
  std::function<void(const TrainingProgress&)> progress = [](const TrainingProgress&) {};
  /// Asked before the first step, at the end of every step and within an evaluation, which is then given up.
  std::function<bool()> stop_requested = [] { return false; };
};

struct TrainerOptions {
  Checkpointer* checkpointer = nullptr;  ///< null: nothing is saved
  const Checkpoint* resume = nullptr;    ///< where to go on; looked at by the constructor alone
  std::string environment = {};          ///< of this process, in words, for its checkpoints
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
///   after every eval.every steps and after the last one (and before the first); save the state if that is due.
/// Nothing of a step depends on the steps before it but weights, optimizer state and step number, so a run that resumes from
/// a checkpoint of step s does in steps s + 1.. bit for bit what it would have done uninterrupted. Diagnostics alone start
/// anew: an estimate that is refined from step to step (power iteration) may differ in its last digits; none of them changes
/// training.
/// Asked to stop: preempted, with a checkpoint of the last step, and of whether its evaluation is still to be made.
/// Diverged: the state before the step becomes the only checkpoint.
class Trainer {
 public:
  /// Throws DataError if `options.resume` was made from another corpus.
  Trainer(const nlohmann::json& config, Corpus corpus, at::Device device, RunStore& store,
          const TrainerOptions& options = {});
  ~Trainer();

  Outcome run(const TrainerHooks& hooks);

  /// The weights as they are, in HuggingFace's names, whole or not at all.
  void save_weights(const std::filesystem::path& file) const;

  /// Weights and optimizer state by name (sweeps/training_state.h); they alias what they name.
  std::vector<NamedTensor> state() const;

  std::int64_t parameters() const;
  std::int64_t weight_bytes() const;
  std::int64_t state_bytes() const;  ///< of the optimizer

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace equisweep
