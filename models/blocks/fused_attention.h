#pragma once
// Attention in tiles that stay in the cache; see attend() for the arguments.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace equisweep {

/// attend() on the CPU. Nothing of the size T x T outlives a tile: the backward pass computes the probabilities again from
/// the logsumexp of each row. Tiles beyond the causal or sliding window are left out. q [B, T, H, C], k and v [B, T, G, C];
/// any strides. Probabilities of bf16 inputs are rounded to bf16 before they are multiplied; scores stay in fp32.
at::Tensor fused_attention(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                           std::int64_t window, const at::Tensor& sinks_H);

}  // namespace equisweep
