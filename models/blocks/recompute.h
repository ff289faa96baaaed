#pragma once
// Activation recomputation (Chen et al., arXiv:1604.06174): memory for time.

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace equisweep {

/// A transformer block: x [B, T, d] -> [B, T, d]; a mixture of experts appends its router logits [B*T, E].
using BlockFunction = std::function<at::Tensor(const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits)>;

/// block(x, router_logits), keeping nothing for the backward pass but x: the block runs once more there. Outputs and
/// gradients, those of the weights that the block reads included, are bitwise those of the plain call, as long as the block
/// is a pure function of x and its weights. It must outlive the graph. Where no gradient is asked for it is the plain call.
at::Tensor recomputed(const BlockFunction& block, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits);

}  // namespace equisweep
