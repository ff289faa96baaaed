#pragma once
// The gated feed-forward block on packed products; see tile_linear.h.

#include <ATen/core/Tensor.h>

#include "models/blocks/norm.h"
#include "models/kernels/rows.h"

namespace equisweep {

/// y = W_down (act(W_gate x) * (W_up x)), x [.., D]; gate and up [F, D], down [D, F]; with a norm before and a residual
/// [.., D] behind where they are given. Where tile_linear_serves(x, {gate, up, down}). Each block of rows goes from x to y
/// while it is in the cache; the products of gate and up are kept for the backward pass, nothing else is.
at::Tensor tile_mlp(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down, Gate kind,
                    const Around& around = {});

}  // namespace equisweep
