#pragma once
// The gated feed-forward block (Shazeer, arXiv:2002.05202).

#include "models/blocks/linear.h"
#include "models/kernels/rows.h"

namespace equisweep {

/// y = W_down (act(W_gate x) * (W_up x)), x [B, T, d], with a norm before and a residual behind where they are given. Names:
/// {gate,up,down}_proj.
class GatedMlp {
 public:
  GatedMlp(const Scope& scope, std::int64_t d, std::int64_t ff, Gate gate);
  at::Tensor operator()(const at::Tensor& x_BTD, const Around& around = {}) const;

 private:
  Linear gate_, up_, down_;
  Gate kind_;
};

/// act(gate) * up; silu or gelu_tanh.
at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, Gate kind);

/// The same, or the clamped form, for gate and up in one tensor [..., 2 ff]: as halves or, `interleaved`, in turns.
at::Tensor gated_joint(const at::Tensor& gate_up, const GateForm& form, bool interleaved);

}  // namespace equisweep
