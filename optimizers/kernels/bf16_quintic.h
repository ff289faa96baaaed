#pragma once
// The parts of a quintic step on one matrix in bf16, on one thread of an x86 processor: on its tile registers (AMX), or on
// its vectors (AVX512-BF16).

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// Y [k, n] are columns of a longer matrix, whose rows lie `stride` apart; k and n are multiples of 32. Every pointer is at
/// the start of a cache line or a multiple of 32 elements further. Sums are fp32. `panels`: scratch memory, [k n].
struct Bf16Quintic {
  using Int = std::int64_t;

  /// out [columns, rows] <- X^T for X [rows, columns], multiples of 32.
  void (*turn)(const Bf16* x, Int rows, Int columns, Int stride, Bf16* out, Int out_stride);
  /// G [k, k] <- Y Y^T in the blocks of 32 x 32 up to the diagonal; the others are left alone.
  void (*gram)(const Bf16* y, Int stride, Int k, Int n, Bf16* panels, float* g);
  /// P [k, k] <- b R + c R^2, R = G rounded, in either term: with b G the result is less accurate. Of G, the blocks that
  /// gram() writes. `panels` and `r`: scratch memory, [k k].
  void (*polynomial)(const float* g, Int k, float b, float c, Bf16* r, Bf16* panels, Bf16* p);
  /// Y <- a Y + P Y, rounded once.
  void (*apply)(const Bf16* p, Int k, float a, Bf16* y, Int stride, Int n, Bf16* panels);
};

/// Null where this program was built without the instructions; whether the machine has them is said by core/kernels.h.
const Bf16Quintic* amx_quintic();
const Bf16Quintic* avx512_bf16_quintic();

}  // namespace equisweep
