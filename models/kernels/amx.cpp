// Compiled for machines with AMX alone; see amx_tiles.inc.
#include "models/kernels/amx.h"
#include "models/kernels/tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"

namespace equisweep {
namespace {

/// op(A) from row `begin` on, at most 32 rows of it, as [32, K rounded up to 32], zero beyond the matrix.
void pack_a(const AmxProduct& p, Int begin, Bf16* out) {
  const Int K = round_up(p.K, 32);
  for (Int m = begin; m < begin + 32; m += 16, out += 16 * K) {
    for (Int k = 0; k < K; k += 32) {
      __m512i r[16];
      if (p.transpose_a) {
        const __mmask16 mask = m < p.M ? first_of_16(p.M - m) : __mmask16{0};
        for (Int i = 0; i < 16; ++i) {
          const Int row = k + 2 * i;
          const Bf16* x = p.a + row * p.lda + m;
          r[i] = row < p.K && mask ? pairs(x, row + 1 < p.K ? x + p.lda : nullptr, mask) : _mm512_setzero_si512();
        }
        transpose(r);
      } else {
        for (Int i = 0; i < 16; ++i)
          r[i] = m + i < p.M ? _mm512_maskz_loadu_epi16(first_of_32(p.K - k), p.a + (m + i) * p.lda + k)
                             : _mm512_setzero_si512();
      }
      for (Int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * K + k, r[i]);
    }
  }
}

void write_tile(const AmxProduct& p, const float* tile, Int m, Int n) {
  const Int rows = p.M - m < 16 ? p.M - m : 16;
  const __mmask16 mask = first_of_16(p.N - n);
  for (Int i = 0; i < rows; ++i) {
    __m512 row = _mm512_load_ps(tile + 16 * i);
    const Int at = (m + i) * p.ldc + n;
    if (p.c16) {
      _mm256_mask_storeu_epi16(p.c16 + at, mask, __m256i(_mm512_cvtneps_pbh(row)));
    } else {
      if (p.add) row = _mm512_add_ps(row, _mm512_maskz_loadu_ps(mask, p.c + at));
      _mm512_mask_storeu_ps(p.c + at, mask, row);
    }
  }
}

Int scratch_bytes(const AmxProduct& p) {
  const Int K = round_up(p.K, 32);
  return 2 * K * (round_up(p.N, 16) + 32);
}

void multiply_any(const AmxProduct& p, void* scratch) {
  const Int K = round_up(p.K, 32);
  Bf16* const panels = static_cast<Bf16*>(scratch);
  Bf16* const rows = panels + K * round_up(p.N, 16);
  for (Int n = 0; n < p.N; n += 16)
    pack_panel(p.b + n * (p.transpose_b ? p.ldb : 1), p.ldb, p.transpose_b, K, p.K, p.N - n < 16 ? p.N - n : 16,
               panels + n * K);
  const TileRegisters in_use;
  alignas(64) float tile[256];
  for (Int m = 0; m < p.M; m += 32) {
    const Bf16* a = p.a + m * p.lda;
    Int lda = p.lda;
    if (p.transpose_a || p.M - m < 32 || p.K != K) {
      pack_a(p, m, rows);
      a = rows;
      lda = K;
    }
    finish_writes();
    const bool lower = p.M - m > 16;
    const Int stride = 2 * lda;
    for (Int n = 0; n < p.N; n += 32) {
      const bool right = p.N - n > 16;
      const Bf16* b = panels + n * K;
      zero_tiles();
      for (Int k = 0; k < K; k += 32) {
        _tile_loadd(4, a + k, stride);
        _tile_loadd(6, b + k * 16, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (right) {
          _tile_loadd(7, b + K * 16 + k * 16, 64);
          _tile_dpbf16ps(1, 4, 7);
        }
        if (lower) {
          _tile_loadd(5, a + 16 * lda + k, stride);
          _tile_dpbf16ps(2, 5, 6);
          if (right) _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, tile, 64);
      write_tile(p, tile, m, n);
      if (right) {
        _tile_stored(1, tile, 64);
        write_tile(p, tile, m, n + 16);
      }
      if (lower) {
        _tile_stored(2, tile, 64);
        write_tile(p, tile, m + 16, n);
        if (right) {
          _tile_stored(3, tile, 64);
          write_tile(p, tile, m + 16, n + 16);
        }
      }
    }
  }
}

void pack(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels_any) {
  Bf16* panels = static_cast<Bf16*>(panels_any);
  for (Int n = 0; n < N; n += 16, panels += 16 * K) {
    if (transposed) {
      for (Int k = 0; k < K; k += 32) {
        __m512i r[16];
        for (Int i = 0; i < 16; ++i) {
          const float* x = b + (n + i) * ldb + k;
          r[i] = round_both(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
        }
        transpose(r);
        for (Int i = 0; i < 16; ++i) _mm512_storeu_si512(panels + (k / 2 + i) * 32, r[i]);
      }
    } else {
      for (Int k = 0; k < K; k += 2) {
        const float* x = b + k * ldb + n;
        _mm512_storeu_si512(panels + k * 16, round_pairs(_mm512_loadu_ps(x), _mm512_loadu_ps(x + ldb)));
      }
    }
  }
}

void sum_of_products(Int rows, Int N, const TileTerm* terms, Int count, const TileRows<Bf16>& out) {
  const TileRegisters in_use;
  finish_writes();
  alignas(64) float c[32 * 32];
  for (Int n = 0; n < N; n += 32) {
    __m512 bias_low = _mm512_setzero_ps(), bias_high = _mm512_setzero_ps();
    if (out.bias) bias_low = _mm512_loadu_ps(out.bias + n), bias_high = _mm512_loadu_ps(out.bias + n + 16);
    for (Int m = 0; m < rows; m += 32) {
      zero_tiles();
      for (Int t = 0; t < count; ++t) {
        const TileTerm& term = terms[t];
        add_tiles(static_cast<const Bf16*>(term.a) + m * term.stride, term.stride, 16 * term.stride, 32,
                  static_cast<const Bf16*>(term.panels) + n * term.K, 16 * term.K, term.K);
      }
      store_tiles(c, 32, 16, 512);
      const Int some = rows - m < 32 ? rows - m : 32;
      for (Int i = 0; i < some; ++i) {
        __m512 low = _mm512_load_ps(c + 32 * i), high = _mm512_load_ps(c + 32 * i + 16);
        if (out.bias) low = _mm512_add_ps(low, bias_low), high = _mm512_add_ps(high, bias_high);
        if (out.add) {
          const Row32 more = widened(out.add + (m + i) * out.add_stride + n);
          low = _mm512_add_ps(low, more.low), high = _mm512_add_ps(high, more.high);
        }
        _mm512_storeu_si512(out.y + (m + i) * out.stride + n, round_both(low, high));
      }
    }
  }
}

void left_operand(const Bf16* x, Int stride, Int rows, Int M, Int depth, void* out_any) {
  Bf16* const out = static_cast<Bf16*>(out_any);
  for (Int m = 0; m < M; m += 32) transpose_32_columns(x + m, stride, rows, out + m * depth, out + (m + 16) * depth);
}

void right_operand(const Bf16* y, Int stride, Int rows, Int N, Int depth, void* out_any) {
  Bf16* const out = static_cast<Bf16*>(out_any);
  for (Int some = 0; some < rows; some += 32)  // rows at a time: the columns lie far apart
    for (Int n = 0; n < N; n += 32)
      for (Int k = some; k < some + 32; k += 2) {
        const __m512i first = load_row(y + n, stride, k, rows), second = load_row(y + n, stride, k + 1, rows);
        _mm512_storeu_si512(out + n * depth + k * 16, even_pairs(first, second));
        _mm512_storeu_si512(out + (n + 16) * depth + k * 16, odd_pairs(first, second));
      }
}

void add_product(Int M, Int N, Int rows, const void* left_any, Int left_depth, const void* right_any, Int right_depth,
                 float* c, bool add) {
  const auto *const left = static_cast<const Bf16*>(left_any), *const right = static_cast<const Bf16*>(right_any);
  const TileRegisters in_use;
  finish_writes();
  for (Int m = 0; m < M; m += 32) {
    for (Int n = 0; n < N; n += 32, c += 1024) {
      if (add)
        load_tiles(c, 16, 256, 512);
      else
        zero_tiles();
      add_tiles(left + m * left_depth, 32, 16 * left_depth, 512, right + n * right_depth, 16 * right_depth,
                round_up(rows, 32));
      store_tiles(c, 16, 256, 512);
    }
  }
}

/// 32 elements, the even ones from x, the odd ones from y.
inline void store_in_turns(__m512 x, __m512 y, float* w) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_ps(w, _mm512_permutex2var_ps(x, low, y));
  _mm512_storeu_ps(w + 16, _mm512_permutex2var_ps(x, high, y));
}

/// The tiles of a block: even rows and even columns, even rows and odd columns, odd and even, odd and odd.
void finish(const float* c, Int count, Int distance, bool transposed, float* w, Int ldw) {
  for (Int half = 0; half < 2; ++half) {
    // Two tiles whose rows, or columns, are taken in turns.
    const float* const first = c + half * (transposed ? 256 : 512);
    const float* const second = first + (transposed ? 512 : 256);
    __m512i x[16], y[16];
    for (Int i = 0; i < 16; ++i) {
      __m512 a = _mm512_loadu_ps(first + 16 * i), b = _mm512_loadu_ps(second + 16 * i);
      for (Int p = 1; p < count; ++p) {
        a = _mm512_add_ps(a, _mm512_loadu_ps(first + p * distance + 16 * i));
        b = _mm512_add_ps(b, _mm512_loadu_ps(second + p * distance + 16 * i));
      }
      x[i] = _mm512_castps_si512(a), y[i] = _mm512_castps_si512(b);
    }
    if (transposed) transpose(x), transpose(y);
    for (Int i = 0; i < 16; ++i)
      store_in_turns(_mm512_castsi512_ps(x[i]), _mm512_castsi512_ps(y[i]), w + (2 * i + half) * ldw);
  }
}

constexpr AmxKernels kAmxKernels = {scratch_bytes, multiply_any};
constexpr TileKernels<Bf16> kAmxTileKernels = {2,           pack,  nullptr, sum_of_products, left_operand, right_operand,
                                               add_product, finish};

}  // namespace

const AmxKernels* amx_kernels() { return &kAmxKernels; }
const TileKernels<Bf16>* amx_tile_kernels() { return &kAmxTileKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const AmxKernels* amx_kernels() { return nullptr; }
const TileKernels<Bf16>* amx_tile_kernels() { return nullptr; }

}  // namespace equisweep

#endif
