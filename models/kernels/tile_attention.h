#pragma once
// Causal attention of one key/value head, on one thread of an x86 processor: in bf16 on its tile registers (AMX) or its
// vectors (AVX512-BF16), in fp32 in parts on tile registers (core/amx_parts.inc) or on vectors (AVX-512).
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

/// The query heads that read one key/value head, T: Bf16 or float. A query sees the last `window` keys, its own included (0:
/// all before it). Where there are sinks, [heads], each adds one logit to the softmax, whose probability is dropped.
template <class T>
struct TileAttention {
  std::int64_t length, C, heads, window;  ///< length: T
  float scale;
  HeadRows<const T> q, k, v;  ///< k and v: head 0
  const float* sinks;
  /// [heads, T], written by forward(): p_j = 2^(scale log2(e) q . k_j - peak) share.
  float *peak, *share;
};

template <class T>
struct TileAttentionKernels {
  using Int = std::int64_t;

  /// Bytes of scratch memory, 64-byte aligned, for either pass.
  Int (*scratch_bytes)(Int length, Int C);
  /// y = softmax(scale q k^T) v. Scores and sums are fp32; 2^(s - peak) is rounded to T before it meets v.
  void (*forward)(const TileAttention<T>& a, const HeadRows<T>& y, void* scratch);
  /// The gradients for dy; probabilities and those of the scores are rounded to T for the products; sums are fp32.
  /// dsinks [heads], where there are sinks.
  void (*backward)(const TileAttention<T>& a, const HeadRows<const T>& dy, const HeadRows<T>& dq, const HeadRows<T>& dk,
                   const HeadRows<T>& dv, float* dsinks, void* scratch);
};

/// Null where this program was built without the instructions.
const TileAttentionKernels<Bf16>* amx_attention_kernels();
const TileAttentionKernels<Bf16>* avx512_bf16_attention_kernels();
const TileAttentionKernels<float>* amx_parts_attention_kernels();
const TileAttentionKernels<float>* avx512_attention_kernels();

}  // namespace equisweep
