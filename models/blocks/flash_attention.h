#pragma once
// Attention on a GPU in bf16, by the flash kernels of LibTorch (Dao, arXiv:2307.08691), with sliding windows and sinks.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace equisweep {

/// Whether flash_attention() serves: kernels() is fused, q [B, T, H, C] is bf16 on a GPU of compute capability 8.0 or later,
/// C a multiple of 8 up to 256.
bool flash_attention_serves(const at::Tensor& q_BTHC);

/// As attend() of attention.h, H a multiple of G. With a sink a_h the softmax gets one more logit: with lse the logsumexp of
/// the scores and lse' = log(e^lse + e^a),
///
///   y' = e^(lse - lse') y,   da = -sum over rows of e^(a - lse') <dy', y'>,
///
/// and the gradients of q, k and v are those of attention without a sink, given y' and lse' for y and lse.
/// The values of a row are summed in an order of the kernels' own; gradients repeat bit by bit only with
/// train.deterministic.
at::Tensor flash_attention(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                           std::int64_t window, const at::Tensor& sinks_H);

}  // namespace equisweep
