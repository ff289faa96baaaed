#pragma once
// Products of bf16 matrices on one thread of an x86 processor, without compilation at run time: on its tile registers (AMX),
// or on its vectors (AVX512-BF16), which are slower.

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// C <- op(A) op(B), or C + op(A) op(B), row-major; op transposes where the flag is set: A is stored [K, M], B [N, K].
/// Exactly one of c and c16 is set; sums are fp32, rounded once; denormal numbers count as zero. Sizes are at least 1.
struct Bf16Product {
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

struct Bf16Products {
  /// Bytes of scratch memory, 64-byte aligned, that multiply() needs.
  std::int64_t (*scratch_bytes)(const Bf16Product& product);
  void (*multiply)(const Bf16Product& product, void* scratch);
};

/// Null where this program was built without the instructions; whether the machine has them is said by core/kernels.h.
const Bf16Products* amx_products();
const Bf16Products* avx512_bf16_products();

}  // namespace equisweep
