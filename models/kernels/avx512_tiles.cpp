// Compiled for machines with AVX-512 alone; see avx512.inc.
//
// Panels of B hold its rows in pieces of 32.
#include "models/kernels/tiles.h"

#if defined(__AVX512F__)

#include "core/avx512.inc"

namespace equisweep {
namespace {

void sum_of_products(Int rows, Int N, const TileTerm* terms, Int count, const TileRows<float>& out) {
  for (Int n = 0; n < N; n += 32) {
    __m512 bias_low = _mm512_setzero_ps(), bias_high = _mm512_setzero_ps();
    if (out.bias) bias_low = _mm512_loadu_ps(out.bias + n), bias_high = _mm512_loadu_ps(out.bias + n + 16);
    for (Int m = 0; m < rows; m += kRows) {
      Sums c;
#pragma GCC unroll 8
      for (Int i = 0; i < kRows; ++i) c.low[i] = bias_low, c.high[i] = bias_high;
      for (Int t = 0; t < count; ++t) {
        const TileTerm& term = terms[t];
        const float* const b = static_cast<const float*>(term.panels) + n * term.K;
        add_terms(c, static_cast<const float*>(term.a) + m * term.stride, term.stride, 1, b, b + 16, 32, term.K);
      }
      const Int some = rows - m;
#pragma GCC unroll 8
      for (Int i = 0; i < kRows; ++i) {
        if (i >= some) break;
        if (out.add) {
          const float* const more = out.add + (m + i) * out.add_stride + n;
          c.low[i] = _mm512_add_ps(c.low[i], _mm512_loadu_ps(more));
          c.high[i] = _mm512_add_ps(c.high[i], _mm512_loadu_ps(more + 16));
        }
        float* const y = out.y + (m + i) * out.stride + n;
        _mm512_storeu_ps(y, c.low[i]);
        _mm512_storeu_ps(y + 16, c.high[i]);
      }
    }
  }
}

/// Pieces of 16 columns: the rows of a piece lie one behind the other.
void operand(const float* x, Int stride, Int rows, Int M, Int depth, void* out_any) {
  float* const out = static_cast<float*>(out_any);
  for (Int some = 0; some < rows; some += 32)  // rows at a time: the pieces lie far apart
    for (Int m = 0; m < M; m += 16)
      for (Int k = some; k < some + 32; ++k)
        _mm512_storeu_ps(out + m * depth + 16 * k, k < rows ? _mm512_loadu_ps(x + k * stride + m) : _mm512_setzero_ps());
}

void add_product(Int M, Int N, Int rows, const void* left_any, Int left_depth, const void* right_any, Int right_depth,
                 float* c, bool add) {
  const auto *const left = static_cast<const float*>(left_any), *const right = static_cast<const float*>(right_any);
  for (Int m = 0; m < M; m += 32) {
    for (Int n = 0; n < N; n += 32, c += 1024) {
      const float* const b = right + n * right_depth;
      for (Int part = 0; part < 32; part += kRows) {
        float* const first = c + 32 * part;
        Sums sums = add ? load_sums(first, 32) : zero_sums();
        add_terms(sums, left + (m + part / 16 * 16) * left_depth + part % 16, 1, 16, b, b + 16 * right_depth, 16, rows);
        store_sums(sums, first, 32);
      }
    }
  }
}

void pack(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels) {
  pack_panels(b, ldb, transposed, K, N, static_cast<float*>(panels));
}

constexpr TileKernels<float> kTileKernels = {4, pack, nullptr, sum_of_products, operand, operand, add_product, sum_blocks};

}  // namespace

const TileKernels<float>* avx512_tile_kernels() { return &kTileKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileKernels<float>* avx512_tile_kernels() { return nullptr; }

}  // namespace equisweep

#endif
