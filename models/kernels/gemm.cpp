#include "models/kernels/gemm.h"

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <type_traits>

// The BLAS inside LibTorch, whose C++ wrappers are not exported; matrices by columns.
extern "C" {
void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n, const int* k, const float* alpha,
            const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c, const int* ldc);
void dgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c, const int* ldc);
}

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

bool machine_has_tiles() {
  static const bool yes = at::get_cpu_capability() == "AVX512" && at::cpu::init_amx();
  return yes;
}

/// By columns this is the transposed product of the transposed matrices.
template <class T>
void blas(bool transpose_a, bool transpose_b, Int M, Int N, Int K, const T* a, Int lda, const T* b, Int ldb, T* c, Int ldc,
          bool add) {
  const auto narrow = [](Int n) {
    TORCH_CHECK(n <= std::numeric_limits<int>::max(), "a matrix of ", n, " rows or columns is too large for BLAS");
    return static_cast<int>(n);
  };
  const char first = transpose_b ? 'T' : 'N', second = transpose_a ? 'T' : 'N';
  const int m = narrow(N), n = narrow(M), k = narrow(K), ld1 = narrow(ldb), ld2 = narrow(lda), ld3 = narrow(ldc);
  const T one = 1, keep = add ? T(1) : T(0);
  if constexpr (std::is_same_v<T, float>)
    sgemm_(&first, &second, &m, &n, &k, &one, b, &ld1, a, &ld2, &keep, c, &ld3);
  else
    dgemm_(&first, &second, &m, &n, &k, &one, b, &ld1, a, &ld2, &keep, c, &ld3);
}

const float* widened(int slot, Int rows, Int columns, const Bf16* x, Int stride) {
  float* y = thread_scratch<float>(slot, rows * columns);
  for (Int i = 0; i < rows; ++i) row_kernels<Bf16>().widen(x + i * stride, y + i * columns, columns);
  return y;
}

}  // namespace

const AmxKernels* tile_kernels() { return machine_has_tiles() ? amx_kernels() : nullptr; }
const AmxAttentionKernels* tile_attention() { return machine_has_tiles() ? amx_attention_kernels() : nullptr; }

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
    if constexpr (!std::is_same_v<T, Bf16>) return blas(transpose_a, transpose_b, M, N, K, a, lda, b, ldb, c, ldc, add);
  }
  if constexpr (std::is_same_v<T, Bf16>) {
    float* c32 = nullptr;
    Bf16* c16 = nullptr;
    if constexpr (std::is_same_v<C, Bf16>)
      c16 = c;
    else
      c32 = c;
    if (const AmxKernels* const amx = tile_kernels()) {
      const AmxProduct product{transpose_a, transpose_b, M, N, K, a, lda, b, ldb, c32, c16, ldc, add};
      return amx->multiply(product, thread_scratch<char>(0, amx->scratch_bytes(product)));
    }
    const Int rows_a = transpose_a ? K : M, columns_a = transpose_a ? M : K;
    const Int rows_b = transpose_b ? N : K, columns_b = transpose_b ? K : N;
    const float* wide_a = widened(0, rows_a, columns_a, a, lda);
    const float* wide_b = widened(1, rows_b, columns_b, b, ldb);
    if (c32) return blas(transpose_a, transpose_b, M, N, K, wide_a, columns_a, wide_b, columns_b, c32, ldc, add);
    float* wide_c = thread_scratch<float>(2, M * N);
    blas(transpose_a, transpose_b, M, N, K, wide_a, columns_a, wide_b, columns_b, wide_c, N, false);
    for (Int i = 0; i < M; ++i) row_kernels<Bf16>().round(wide_c + i * N, c16 + i * ldc, N);
  }
}

template void multiply(bool, bool, Int, Int, Int, const float*, Int, const float*, Int, float*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const double*, Int, const double*, Int, double*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const Bf16*, Int, const Bf16*, Int, float*, Int, bool);
template void multiply(bool, bool, Int, Int, Int, const Bf16*, Int, const Bf16*, Int, Bf16*, Int, bool);

}  // namespace equisweep
