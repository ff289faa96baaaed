// Compiled for machines with AMX alone; includes nothing of the standard library, whose inline functions would serve the
// whole program.
//
// A tile register holds 16 rows of 64 bytes. A tile of A is 16 rows of 32 bf16 as they lie in memory; one of B is 32 rows
// and 16 columns as 16 rows of 16 pairs (b[2k][n], b[2k+1][n]), so B is packed into panels of 16 columns first. Four tiles
// of C are computed at a time, each tile of A and B used twice.
#include "models/kernels/amx.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include <immintrin.h>

namespace equisweep {
namespace {

using Int = std::int64_t;

constexpr Int round_up(Int n, Int to) { return (n + to - 1) / to * to; }

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline __mmask32 first_of_32(Int n) { return n >= 32 ? 0xffffffffU : (1U << n) - 1U; }
inline __mmask16 first_of_16(Int n) { return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << n) - 1U); }

/// (x[i], y[i]) for 16 i, of which `mask` exist; y may be null.
inline __m512i pairs(const Bf16* x, const Bf16* y, __mmask16 mask) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x));
  if (!y) return low;
  return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, y)), 16));
}

/// Transposes 16 rows of 16 words.
inline void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

/// Panels of 16 columns of op(B), each [K/2 rounded up to 16] x 16 pairs, zero beyond the matrix.
void pack_b(const AmxProduct& p, Bf16* out) {
  const Int K = round_up(p.K, 32);
  for (Int n = 0; n < p.N; n += 16, out += K * 16) {
    if (p.transpose_b) {
      const Int columns = p.N - n < 16 ? p.N - n : 16;
      for (Int k = 0; k < K; k += 32) {
        __m512i r[16];
        for (Int i = 0; i < 16; ++i)
          r[i] = i < columns ? _mm512_maskz_loadu_epi16(first_of_32(p.K - k), p.b + (n + i) * p.ldb + k)
                             : _mm512_setzero_si512();
        transpose(r);
        for (Int i = 0; i < 16; ++i) _mm512_storeu_si512(out + (k / 2 + i) * 32, r[i]);
      }
    } else {
      const __mmask16 mask = first_of_16(p.N - n);
      for (Int k = 0; k < K; k += 2) {
        const Bf16* x = p.b + k * p.ldb + n;
        const __m512i both = k < p.K ? pairs(x, k + 1 < p.K ? x + p.ldb : nullptr, mask) : _mm512_setzero_si512();
        _mm512_storeu_si512(out + k * 16, both);
      }
    }
  }
}

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

}  // namespace

bool amx_built() { return true; }

std::int64_t amx_scratch_bytes(const AmxProduct& p) {
  const Int K = round_up(p.K, 32);
  return 2 * K * (round_up(p.N, 16) + 32);
}

void amx_multiply(const AmxProduct& p, void* scratch) {
  const Int K = round_up(p.K, 32);
  Bf16* const panels = static_cast<Bf16*>(scratch);
  Bf16* const rows = panels + K * round_up(p.N, 16);
  pack_b(p, panels);
  const TileConfig config;
  _tile_loadconfig(&config);
  alignas(64) float tile[256];
  for (Int m = 0; m < p.M; m += 32) {
    const Bf16* a = p.a + m * p.lda;
    Int lda = p.lda;
    if (p.transpose_a || p.M - m < 32 || p.K != K) {
      pack_a(p, m, rows);
      a = rows;
      lda = K;
    }
    const bool lower = p.M - m > 16;
    const int stride = static_cast<int>(2 * lda);
    for (Int n = 0; n < p.N; n += 32) {
      const bool right = p.N - n > 16;
      const Bf16* b = panels + n * K;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
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
  _tile_release();
}

}  // namespace equisweep

#else

namespace equisweep {

bool amx_built() { return false; }
std::int64_t amx_scratch_bytes(const AmxProduct&) { return 0; }
void amx_multiply(const AmxProduct&, void*) {}

}  // namespace equisweep

#endif
