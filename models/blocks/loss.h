#pragma once
// Logits and cross entropy of a language-model head.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace equisweep {

/// z = h W^T, then softcap tanh(z / softcap) if softcap > 0. hidden [..., D], head [V, D] -> [..., V] in at least fp32; the
/// product is taken in the dtype of hidden.
at::Tensor head_logits(const at::Tensor& hidden, const at::Tensor& head_VD, double softcap);

/// Mean over tokens of logsumexp(z_n) - z_n[target_n] in nats, z as in head_logits; a scalar in at least fp32.
/// hidden [N, D], head [V, D], int64 targets [N]. `chunk` tokens at a time; 0 chooses. Where a gradient is wanted it is
/// computed along with the loss, chunk by chunk, so that at most chunk x V logits ever exist.
at::Tensor cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& targets_N, double softcap,
                         std::int64_t chunk = 0);

/// The chunk that cross_entropy() chooses: few large products, but no more than some 2^24 logits (2^29 on a GPU).
std::int64_t loss_chunk(std::int64_t tokens, std::int64_t vocabulary, bool on_gpu);

}  // namespace equisweep
