#pragma once
// The contract of an update rule.
//
// Every rule ends in W <- retained * W - lr * U (Lau & Su, arXiv:2605.18106; optimizers.md section 2), and only the
// Optimizer performs that line. A rule computes the direction U from the gradient G and its own state.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/symmetry.h"

namespace equisweep {

/// The state of one bank: slots in the order of UpdateRule::slots(), each shaped like the gradient blocks and in
/// at least fp32, zero before the first step.
struct RuleState {
  std::vector<at::Tensor> slots;
  std::int64_t step = 0;  ///< number of gradients folded in so far; direction() increments it
};

/// What a rule may know about the block it acts on, beyond its gradient.
struct BlockInfo {
  std::int64_t fan_out = 1;
  std::int64_t fan_in = 1;
};

/// A whole step of a bank: W <- retained W - lr U(gradient_factor G), in blocks of one shape and of the same strides.
struct BankUpdate {
  at::Tensor weight, gradient;
  double gradient_factor = 1;  ///< what clipping leaves of the gradient, where the host knows it,
  at::Tensor clip = {};        ///< or that factor on a GPU; undefined: 1
  bool zero_gradient = false;  ///< G <- 0 once it has been read
  double retained = 1, lr = 0;
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;

  /// Names of the state tensors, e.g. {"momentum"} or {"m", "v"}; also the keys in checkpoints.
  virtual std::vector<std::string> slots() const = 0;

  /// Folds `gradient` [..., m, n] into `state` and returns U of the same shape and dtype. Leading axes are a batch: each
  /// matrix is treated alone. `gradient` is const in content too; the result may share memory with neither it nor the
  /// state. U = 0 wherever the momentum is 0. No host synchronisation.
  virtual at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const = 0;

  /// Makes the step of `bank` in fewer passes over memory than direction() and the line that follows it, with the same bits,
  /// where the rule has a form for that and for these tensors; else returns false and has touched nothing.
  virtual bool update(const BankUpdate& /*bank*/, RuleState& /*state*/, const BlockInfo& /*block*/) const { return false; }

  /// The group under which direction() is equivariant (state transformed too).
  virtual Symmetry symmetry() const = 0;

  /// The factor that the old weight keeps: 1 - lr * weight_decay, except for constrained rules (Scion: 1 - lr).
  virtual double retained(double lr, double weight_decay) const { return 1.0 - lr * weight_decay; }

  /// True for coordinate-wise rules, which act on vectors too; a matrix rule is refused for role `vector`.
  virtual bool coordinatewise() const { return false; }
};

/// Zero state for gradient blocks of `shape`, in `dtype` or fp32 where that is narrower.
RuleState make_state(const UpdateRule& rule, at::IntArrayRef shape, const at::TensorOptions& options);

}  // namespace equisweep
