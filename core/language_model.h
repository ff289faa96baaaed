#pragma once
// The contract of a model.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "core/param.h"

namespace equisweep {

/// What a forward pass leaves behind. B sequences of T tokens, width D, E experts.
struct Forward {
  at::Tensor hidden_BTD;                      ///< after the final norm
  std::vector<at::Tensor> router_logits_NE;   ///< one [B*T, E] per MoE layer, before the softmax; empty for dense models
  /// Runs the first n sequences once more, without gradients, and returns for each layer the largest scaled attention score
  /// of each query head [H] over all visible pairs, sinks left out. While the model lives, with the weights of that moment.
  std::function<std::vector<at::Tensor>(std::int64_t n)> attention_peaks = {};
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  /// Every weight exactly once, in a fixed order. The handles stay valid for the life of the model.
  virtual std::span<Param> params() = 0;

  /// Runs the blocks on int64 tokens [B, T].
  virtual Forward forward(const at::Tensor& tokens_BT) const = 0;

  /// [B, T, V], after the softcap if the architecture has one. For evaluation and parity; training uses loss().
  virtual at::Tensor logits(const at::Tensor& hidden_BTD) const = 0;

  /// Mean cross entropy in nats per token against int64 targets [B, T], aligned with the positions of `hidden`; in chunks,
  /// so that the logits of a large vocabulary never exist at once. Scalar in at least fp32.
  virtual at::Tensor loss(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT) const = 0;

  /// The dtype of matrix products and activations; weights keep theirs. Norm statistics, softmax and the loss are computed
  /// in at least fp32.
  virtual void set_compute_dtype(at::ScalarType dtype) = 0;

  /// Keep only the input of each block for the backward pass and run the block again there: less memory, the same
  /// gradients bit for bit.
  virtual void set_recompute(bool on) = 0;

  /// Whether forward(), loss() and their gradients queue their work on `device` without waiting for it, so that it can be
  /// recorded (core/repeated_work.h).
  virtual bool recordable(at::Device device) const = 0;

  virtual std::int64_t vocabulary() const = 0;

  /// The complete configuration: architecture, and every dimension by its name in the sweep file.
  virtual const nlohmann::json& config() const = 0;

  std::int64_t parameter_count() { std::int64_t n = 0; for (auto& p : params()) n += p.tensor.numel(); return n; }
};

}  // namespace equisweep
