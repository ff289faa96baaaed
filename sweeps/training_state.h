#pragma once
// What a step changes: the weights, and the state of the rules that update them.

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "core/checkpoint.h"
#include "core/language_model.h"
#include "optimizers/optimizer.h"

namespace equisweep {

/// Precision of a run: dtype of the stored weights, and of products and activations.
struct Precision {
  at::ScalarType weights, compute;
};

/// `train.precision` of a job's config: fp32, fp64, or bf16 (products in bf16, weights in fp32).
Precision precision_of(const nlohmann::json& config);

/// Weights "weight/NAME" and optimizer state "state/NAME/SLOT"; they alias what they name where they can.
std::vector<NamedTensor> training_state(LanguageModel& model, const Optimizer& optimizer);

/// The same names, dtypes and shapes, for a job of which nothing has been built: tensors on the meta device.
std::vector<NamedTensor> training_state_layout(const nlohmann::json& config);

/// Puts the state of `checkpoint` back, which read_checkpoint() has found to be of this layout.
void restore_training_state(const Checkpoint& checkpoint, LanguageModel& model, Optimizer& optimizer);

}  // namespace equisweep
