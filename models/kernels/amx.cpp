// Compiled for machines with AMX alone; see amx_tiles.inc.
#include "models/kernels/amx.h"
#include "models/kernels/tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "models/kernels/tile_sums.inc"

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
    __m512 row = _mm512_load_ps(tile + 32 * i);
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
  alignas(64) float tile[16 * 32];
  for (Int m = 0; m < p.M; m += 32) {
    const Bf16* a = p.a + m * p.lda;
    Int lda = p.lda;
    if (p.transpose_a || p.M - m < 32 || p.K != K) {
      pack_a(p, m, rows);
      a = rows;
      lda = K;
    }
    finish_writes();
    for (Int low = 0; low < 32 && low < p.M - m; low += 16) {
      for (Int n = 0; n < p.N; n += 32) {
        const bool right = p.N - n > 16;
        const Bf16* const b = panels + n * K;
        zero_pair();
        add_pair(a + low * lda, lda, 32, b, right ? 16 * K : 0, K);
        store_pair(tile, 32);
        write_tile(p, tile, m + low, n);
        if (right) write_tile(p, tile + 16, m + low, n + 16);
      }
    }
  }
}

Bf16* elements(void* operand) { return static_cast<Bf16*>(operand); }
const Bf16* elements(const void* operand) { return static_cast<const Bf16*>(operand); }

void pack(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels_any) {
  Bf16* panels = elements(panels_any);
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

struct InBf16 {
  static constexpr Int kDepth = 256;
  static void add(const TileTerm& term, Int m, Int n, Int k, Int K) {
    add_pair(elements(term.a) + m * term.stride + k, term.stride, 32, elements(term.panels) + n * term.K + 16 * k,
             16 * term.K, K);
  }
  static void add_sums(const void* left, Int left_depth, Int m, const void* right, Int right_depth, Int n, Int k, Int K) {
    add_pair(elements(left) + m * left_depth + 16 * k, 32, 512, elements(right) + n * right_depth + 16 * k, 16 * right_depth,
             K);
  }
};

void left_operand(const Bf16* x, Int stride, Int rows, Int M, Int depth, void* out_any) {
  Bf16* const out = elements(out_any);
  for (Int m = 0; m < M; m += 32) transpose_32_columns(x + m, stride, rows, out + m * depth, out + (m + 16) * depth);
}

void right_operand(const Bf16* y, Int stride, Int rows, Int N, Int depth, void* out_any) {
  Bf16* const out = elements(out_any);
  for (Int some = 0; some < rows; some += 32)  // rows at a time: the columns lie far apart
    for (Int n = 0; n < N; n += 32)
      for (Int k = some; k < some + 32; k += 2) {
        const __m512i first = load_row(y + n, stride, k, rows), second = load_row(y + n, stride, k + 1, rows);
        _mm512_storeu_si512(out + n * depth + k * 16, even_pairs(first, second));
        _mm512_storeu_si512(out + (n + 16) * depth + k * 16, odd_pairs(first, second));
      }
}

/// 32 elements, the even ones from x, the odd ones from y.
inline void store_in_turns(__m512 x, __m512 y, float* w) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  _mm512_storeu_ps(w, _mm512_permutex2var_ps(x, low, y));
  _mm512_storeu_ps(w + 16, _mm512_permutex2var_ps(x, high, y));
}

/// A block's rows: the even ones, then the odd ones; a row's columns likewise.
void finish(const float* c, Int count, Int distance, bool transposed, float* w, Int ldw) {
  for (Int half = 0; half < 2; ++half) {
    // Two tiles whose rows, or columns, are taken in turns.
    const float* const first = c + half * (transposed ? 16 : 512);
    const float* const second = first + (transposed ? 512 : 16);
    __m512i x[16], y[16];
    for (Int i = 0; i < 16; ++i) {
      __m512 a = _mm512_loadu_ps(first + 32 * i), b = _mm512_loadu_ps(second + 32 * i);
      for (Int p = 1; p < count; ++p) {
        a = _mm512_add_ps(a, _mm512_loadu_ps(first + p * distance + 32 * i));
        b = _mm512_add_ps(b, _mm512_loadu_ps(second + p * distance + 32 * i));
      }
      x[i] = _mm512_castps_si512(a), y[i] = _mm512_castps_si512(b);
    }
    if (transposed) transpose(x), transpose(y);
    for (Int i = 0; i < 16; ++i)
      store_in_turns(_mm512_castsi512_ps(x[i]), _mm512_castsi512_ps(y[i]), w + (2 * i + half) * ldw);
  }
}

constexpr AmxKernels kAmxKernels = {scratch_bytes, multiply_any};
constexpr TileKernels<Bf16> kAmxTileKernels = {
    2, pack, nullptr, sum_in_pairs<InBf16, Bf16>, left_operand, right_operand, add_in_pairs<InBf16>, finish};

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
