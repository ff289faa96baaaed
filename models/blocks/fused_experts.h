#pragma once
// The experts of a mixture, from tokens to the weighted sum of outputs, as one operation on the CPU.
//
// Shapes: N tokens, D width, E experts, K experts a token, R expert width.

#include <ATen/core/Tensor.h>

#include "models/kernels/rows.h"

namespace equisweep {

struct ExpertWeights {
  at::Tensor gate_up;       ///< [E, 2R, D], gate rows before up rows; or, in_out, [E, D, 2R], gate and up columns in turns
  at::Tensor gate_up_bias;  ///< [E, 2R] in the order of gate_up, or undefined
  at::Tensor down;          ///< [E, D, R]; or, in_out, [E, R, D]
  at::Tensor down_bias;     ///< [E, D], or undefined
  bool in_out = false;
};

/// y_n = sum_k shares_nk expert_(experts_nk)(x_n), expert(x) = down(gate(gate_up(x) + bias)) + bias. x [N, D], shares [N, K]
/// in at least fp32, experts int64 [N, K]. Weights are rounded to the dtype of x for the products; their gradients are
/// summed in at least fp32 and come in their own dtype. Tokens are sorted by expert; tiles of one expert's tokens go from
/// gather to output while they are in the cache.
at::Tensor fused_experts(const at::Tensor& x_ND, const at::Tensor& shares_NK, const at::Tensor& experts_NK,
                         const ExpertWeights& weights, const GateForm& form);

}  // namespace equisweep
