#pragma once
// Causal attention of one key/value head on the tile registers of an x86 processor (AMX), on one thread.
//
// Shapes: T time, C head width, a multiple of 32.

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// Element c of head h at time t: data[t time + h head + c].
template <class T>
struct HeadRows {
  T* data;
  std::int64_t time, head;
};

/// The query heads that read one key/value head. A query sees the last `window` keys, its own included (0: all before it).
/// Where there are sinks, [heads], each adds one logit to the softmax, whose probability is dropped.
struct AmxAttention {
  std::int64_t T, C, heads, window;
  float scale;
  HeadRows<const Bf16> q, k, v;  ///< k and v: head 0
  const float* sinks;
  /// [heads, T], written by forward(): p_j = 2^(scale log2(e) q . k_j - peak) share.
  float *peak, *share;
};

struct AmxAttentionKernels {
  using Int = std::int64_t;

  /// Bytes of scratch memory, 64-byte aligned, for either pass.
  Int (*scratch_bytes)(Int T, Int C);
  /// y = softmax(scale q k^T) v. Scores and sums are fp32; 2^(s - peak) is rounded to bf16 before it meets v.
  void (*forward)(const AmxAttention& a, const HeadRows<Bf16>& y, void* scratch);
  /// The gradients for dy; probabilities and those of the scores are rounded to bf16 for the products; sums are fp32.
  /// dsinks [heads], where there are sinks.
  void (*backward)(const AmxAttention& a, const HeadRows<const Bf16>& dy, const HeadRows<Bf16>& dq, const HeadRows<Bf16>& dk,
                   const HeadRows<Bf16>& dv, float* dsinks, void* scratch);
};

/// Null where this program was built without the instructions.
const AmxAttentionKernels* amx_attention_kernels();

}  // namespace equisweep
