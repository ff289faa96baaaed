#pragma once
// The product with the head, the cross entropy and its gradients on packed products; see tile_linear.h.
//
// Shapes: N tokens, D width, V vocabulary.

#include <ATen/core/Tensor.h>

namespace equisweep {

struct LossWithGradients {
  at::Tensor sum;         ///< of the losses of all tokens, fp32
  at::Tensor dhidden_ND;  ///< of the mean, in the dtype of hidden; undefined unless asked for
  at::Tensor dhead_VD;    ///< of the mean, fp32
};

/// cross_entropy() without softcap for hidden [N, D] and an fp32 head [V, D], where tile_linear_serves(hidden, head).
/// Logits are rounded to the dtype of hidden and leave the cache only as the operand of dhead's product, `chunk` tokens at a
/// time.
LossWithGradients tile_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& targets_N,
                                     bool with_gradient, std::int64_t chunk);

}  // namespace equisweep
