#include "models/kernels/gemm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <type_traits>

#include "core/blas.inc"
#include "core/kernels.h"

namespace equisweep {
namespace {

using Int = std::int64_t;

/// Memory of this thread that keeps its size, 64-byte aligned; `slot` tells simultaneous uses apart.
template <class T>
T* thread_scratch(int slot, Int count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory[3];
  thread_local std::size_t size[3] = {};
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
  if (size[slot] < bytes) {
    memory[slot].reset(std::aligned_alloc(64, bytes));
    if (!memory[slot]) throw std::bad_alloc();
    size[slot] = bytes;
  }
  return static_cast<T*>(memory[slot].get());
}

const float* widened(int slot, Int rows, Int columns, const Bf16* x, Int stride) {
  float* y = thread_scratch<float>(slot, rows * columns);
  for (Int i = 0; i < rows; ++i) row_kernels<Bf16>().widen(x + i * stride, y + i * columns, columns);
  return y;
}

/// Heads of 64 and wider in parts on the tile registers. Narrower ones gain nothing there: splitting their operands takes
/// the time that their products save.
const TileAttentionKernels<float>& attention_by_width(Int C) {
  return *(C >= 64 ? amx_parts_attention_kernels() : avx512_attention_kernels());
}
constexpr TileAttentionKernels<float> kAttentionByWidth = {
    [](Int T, Int C) { return attention_by_width(C).scratch_bytes(T, C); },
    [](const TileAttention<float>& a, const HeadRows<float>& y, void* scratch) {
      attention_by_width(a.C).forward(a, y, scratch);
    },
    [](const TileAttention<float>& a, const HeadRows<const float>& dy, const HeadRows<float>& dq, const HeadRows<float>& dk,
       const HeadRows<float>& dv, float* dsinks,
       void* scratch) { attention_by_width(a.C).backward(a, dy, dq, dk, dv, dsinks, scratch); }};

}  // namespace

template <>
const TileKernels<Bf16>* tile_kernels() {
  return best_bf16(amx_tile_kernels(), avx512_bf16_tile_kernels());
}
template <>
const TileKernels<float>* tile_kernels() {
  if (has_tile_registers() && amx_parts_kernels()) return amx_parts_kernels();
  return instruction_set() == InstructionSet::avx512 ? avx512_tile_kernels() : nullptr;
}
template <>
const TileAttentionKernels<Bf16>* tile_attention() {
  return best_bf16(amx_attention_kernels(), avx512_bf16_attention_kernels());
}
template <>
const TileAttentionKernels<float>* tile_attention() {
  if (has_tile_registers() && amx_parts_attention_kernels()) return &kAttentionByWidth;
  return instruction_set() == InstructionSet::avx512 ? avx512_attention_kernels() : nullptr;
}

template <class T, class C>
void multiply(bool transpose_a, bool transpose_b, Int M, Int N, Int K, const T* a, Int lda, const T* b, Int ldb, C* c,
              Int ldc, bool add) {
  if (M == 0 || N == 0) return;
  if (K == 0) {
    if (!add) {
      for (Int i = 0; i < M; ++i) std::fill_n(c + i * ldc, N, C{});
    }
    return;
  }
  if constexpr (std::is_same_v<T, C>) {
    if constexpr (!std::is_same_v<T, Bf16>)
      return blas_multiply(transpose_a, transpose_b, M, N, K, a, lda, b, ldb, T(add), c, ldc);
  }
  if constexpr (std::is_same_v<T, Bf16>) {
    float* c32 = nullptr;
    Bf16* c16 = nullptr;
    if constexpr (std::is_same_v<C, Bf16>)
      c16 = c;
    else
      c32 = c;
    if (const Bf16Products* const products = best_bf16(amx_products(), avx512_bf16_products())) {
      const Bf16Product product{transpose_a, transpose_b, M, N, K, a, lda, b, ldb, c32, c16, ldc, add};
      return products->multiply(product, thread_scratch<char>(0, products->scratch_bytes(product)));
    }
    const Int rows_a = transpose_a ? K : M, columns_a = transpose_a ? M : K;
    const Int rows_b = transpose_b ? N : K, columns_b = transpose_b ? K : N;
    const float* wide_a = widened(0, rows_a, columns_a, a, lda);
    const float* wide_b = widened(1, rows_b, columns_b, b, ldb);
    if (c32)
      return blas_multiply(transpose_a, transpose_b, M, N, K, wide_a, columns_a, wide_b, columns_b, float(add), c32, ldc);
    float* wide_c = thread_scratch<float>(2, M * N);
    blas_multiply(transpose_a, transpose_b, M, N, K, wide_a, columns_a, wide_b, columns_b, 0.0F, wide_c, N);
    for (Int i = 0; i < M; ++i) row_kernels<Bf16>().round(wide_c + i * N, c16 + i * ldc, N);
  }
}

template void multiply(bool, bool, Int, Int, Int, const float*, Int, const float*, Int, float*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const double*, Int, const double*, Int, double*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const Bf16*, Int, const Bf16*, Int, float*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const Bf16*, Int, const Bf16*, Int, Bf16*, Int, bool);

}  // namespace equisweep
