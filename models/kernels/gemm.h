#pragma once
// Products of small matrices inside a parallel region: one thread each.

#include <cstdint>

#include "models/kernels/bf16_products.h"
#include "models/kernels/rows.h"
#include "models/kernels/tile_attention.h"
#include "models/kernels/tiles.h"

namespace equisweep {

/// C <- op(A) op(B), or C + op(A) op(B) with `add`, row-major; op transposes where the flag is set: A is stored [K, M], B
/// [N, K]. (T, C) is (float, float), (double, double), (Bf16, float) or (Bf16, Bf16); bf16 products are summed in fp32.
/// bf16 runs on tile registers (AMX) or else vectors (AVX512-BF16) where the machine has them, else as fp32.
template <class T, class C>
void multiply(bool transpose_a, bool transpose_b, std::int64_t M, std::int64_t N, std::int64_t K, const T* a,
              std::int64_t lda, const T* b, std::int64_t ldb, C* c, std::int64_t ldc, bool add = false);

/// The products of packed matrices and the attention for T = Bf16 (AMX, else AVX512-BF16) or float (on AMX in parts, but for
/// attention of heads narrower than 64; else AVX-512); null where the machine lacks the instructions, or ATEN_CPU_CAPABILITY
/// forbids them.
template <class T>
const TileKernels<T>* tile_kernels();
template <class T>
const TileAttentionKernels<T>* tile_attention();
// Said here, so that no file uses the general one, which there is not.
template <>
const TileKernels<Bf16>* tile_kernels();
template <>
const TileKernels<float>* tile_kernels();
template <>
const TileAttentionKernels<Bf16>* tile_attention();
template <>
const TileAttentionKernels<float>* tile_attention();

}  // namespace equisweep
