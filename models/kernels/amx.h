#pragma once
// Products of bf16 matrices on the tile registers of an x86 processor (AMX), on one thread, without compilation at run time.

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// C <- op(A) op(B), or C + op(A) op(B), row-major; op transposes where the flag is set: A is stored [K, M], B [N, K].
/// Exactly one of c and c16 is set; sums are fp32, rounded once. Sizes are at least 1.
struct AmxProduct {
  bool transpose_a, transpose_b;
  std::int64_t M, N, K;
  const Bf16* a;
  std::int64_t lda;
  const Bf16* b;
  std::int64_t ldb;
  float* c;
  Bf16* c16;
  std::int64_t ldc;
  bool add;  ///< c only
};

struct AmxKernels {
  /// Bytes of scratch memory, 64-byte aligned, that multiply() needs.
  std::int64_t (*scratch_bytes)(const AmxProduct& product);
  void (*multiply)(const AmxProduct& product, void* scratch);
};

/// Null where this program was built without the instructions; whether the machine has them is at::cpu::init_amx()'s
/// business: see gemm.h.
const AmxKernels* amx_kernels();

}  // namespace equisweep
