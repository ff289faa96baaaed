// Compiled for machines with AMX alone. Nothing of the standard library is included, whose inline functions would serve the
// whole program, on machines that lack these instructions.
//
// A tile register holds 16 rows of 64 bytes. A tile of A is 16 rows of 32 bf16 as they lie in memory; one of B is 32 rows
// and 16 columns as 16 rows of 16 pairs (b[2k][n], b[2k+1][n]), so B is packed into panels [K 16] of 16 columns. Blocks of
// 32 x 32 are computed at a time, on four registers, each tile of A and B used twice.
#include "optimizers/kernels/amx_quintic.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include <immintrin.h>

namespace equisweep {
namespace {

using Int = std::int64_t;

/// While it lives, the tile registers of this thread can be used.
struct Tiles {
  Tiles() {
    struct alignas(64) Config {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static constexpr Config config = {};
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

/// gcc's intrinsic for loading a tile does not say that it reads memory: what was written before must be there.
inline void finish_packing() { __asm__ volatile("" ::: "memory"); }

/// Transposes 16 rows of 16 words.
inline void turn_words(__m512i r[16]) {
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

/// The pairs (x_i, y_i) for i in 0 .. 15 at `low`, in 16 .. 31 at `high`.
inline void pair_rows(const Bf16* x, const Bf16* y, __m512i& low, __m512i& high) {
  alignas(64) static constexpr std::uint16_t first[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                          8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i a = _mm512_loadu_si512(x), b = _mm512_loadu_si512(y), index = _mm512_load_si512(first);
  low = _mm512_permutex2var_epi16(a, index, b);
  high = _mm512_permutex2var_epi16(a, _mm512_add_epi16(index, _mm512_set1_epi16(16)), b);
}

/// Panels of B [K, N].
void pack(const Bf16* b, Int stride, Int K, Int N, Bf16* panels) {
  for (Int k = 0; k < K; k += 2)
    for (Int n = 0; n < N; n += 32) {
      __m512i low, high;
      pair_rows(b + k * stride + n, b + (k + 1) * stride + n, low, high);
      _mm512_store_si512(panels + n * K + k * 16, low);
      _mm512_store_si512(panels + (n + 16) * K + k * 16, high);
    }
}

/// Panels of B^T [K, N] for B [N, K].
void pack_turned(const Bf16* b, Int stride, Int K, Int N, Bf16* panels) {
  for (Int n = 0; n < N; n += 16)
    for (Int k = 0; k < K; k += 32) {
      __m512i r[16];
      for (Int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(b + (n + i) * stride + k);
      turn_words(r);
      for (Int i = 0; i < 16; ++i) _mm512_store_si512(panels + n * K + (k / 2 + i) * 32, r[i]);
    }
}

void turn(const Bf16* x, Int rows, Int columns, Int stride, Bf16* out, Int out_stride) {
  for (Int row = 0; row < rows; row += 32)
    for (Int column = 0; column < columns; column += 32) {
      __m512i low[16], high[16];
      for (Int i = 0; i < 16; ++i) {
        const Bf16* from = x + (row + 2 * i) * stride + column;
        pair_rows(from, from + stride, low[i], high[i]);
      }
      turn_words(low);
      turn_words(high);
      for (Int i = 0; i < 16; ++i) {
        _mm512_storeu_si512(out + (column + i) * out_stride + row, low[i]);
        _mm512_storeu_si512(out + (column + 16 + i) * out_stride + row, high[i]);
      }
    }
}

/// C [32, 32] at c <- rows of A times two panels [K 16] each.
inline void multiply_block(const Bf16* a, Int stride, const Bf16* panels, Int K, float* c, Int c_stride) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (Int k = 0; k < K; k += 32) {
    _tile_loadd(4, a + k, 2 * stride);
    _tile_loadd(6, panels + k * 16, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, panels + K * 16 + k * 16, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + 16 * stride + k, 2 * stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, 4 * c_stride);
  _tile_stored(1, c + 16, 4 * c_stride);
  _tile_stored(2, c + 16 * c_stride, 4 * c_stride);
  _tile_stored(3, c + 16 * c_stride + 16, 4 * c_stride);
}

inline __m512i rounded(__m512 first, __m512 second) { return __m512i(_mm512_cvtne2ps_pbh(second, first)); }

inline void widen(const Bf16* x, __m512& first, __m512& second) {
  const auto half = [](const Bf16* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  };
  first = half(x);
  second = half(x + 16);
}

void gram(const Bf16* y, Int stride, Int k, Int n, Bf16* panels, float* g) {
  pack_turned(y, stride, n, k, panels);
  const Tiles in_use;
  finish_packing();
  for (Int i = 0; i < k; i += 32)
    for (Int j = 0; j <= i; j += 32) multiply_block(y + i * stride, stride, panels + j * n, n, g + i * k + j, k);
}

void polynomial(const float* g, Int k, float b, float c, Bf16* r, Bf16* panels, Bf16* p) {
  const auto below_diagonal = [&](Bf16* x, Int i, Int j) {
    if (j < i) turn(x + i * k + j, 32, 32, k, x + j * k + i, k);
  };
  for (Int i = 0; i < k; i += 32)
    for (Int j = 0; j <= i; j += 32) {
      for (Int row = i; row < i + 32; ++row) {
        const float* from = g + row * k + j;
        _mm512_storeu_si512(r + row * k + j, rounded(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)));
      }
      below_diagonal(r, i, j);
    }
  pack(r, k, k, k, panels);
  const Tiles in_use;
  finish_packing();
  const __m512 gain = _mm512_set1_ps(b), square_gain = _mm512_set1_ps(c);
  alignas(64) float block[1024];
  for (Int i = 0; i < k; i += 32)
    for (Int j = 0; j <= i; j += 32) {
      multiply_block(r + i * k, k, panels + j * k, k, block, 32);
      for (Int row = 0; row < 32; ++row) {
        const float* square = block + 32 * row;
        __m512 first, second;
        widen(r + (i + row) * k + j, first, second);
        _mm512_storeu_si512(p + (i + row) * k + j,
                            rounded(_mm512_fmadd_ps(square_gain, _mm512_load_ps(square), _mm512_mul_ps(gain, first)),
                                    _mm512_fmadd_ps(square_gain, _mm512_load_ps(square + 16), _mm512_mul_ps(gain, second))));
      }
      below_diagonal(p, i, j);
    }
}

void apply(const Bf16* p, Int k, float a, Bf16* y, Int stride, Int n, Bf16* panels) {
  pack(y, stride, k, n, panels);
  const Tiles in_use;
  finish_packing();
  const __m512 kept = _mm512_set1_ps(a);
  alignas(64) float block[1024];
  for (Int j = 0; j < n; j += 32)
    for (Int i = 0; i < k; i += 32) {
      multiply_block(p + i * k, k, panels + j * k, k, block, 32);
      for (Int row = 0; row < 32; ++row) {
        Bf16* to = y + (i + row) * stride + j;
        __m512 first, second;
        widen(to, first, second);
        _mm512_storeu_si512(to, rounded(_mm512_fmadd_ps(kept, first, _mm512_load_ps(block + 32 * row)),
                                        _mm512_fmadd_ps(kept, second, _mm512_load_ps(block + 32 * row + 16))));
      }
    }
}

}  // namespace

const AmxQuintic* amx_quintic() {
  static constexpr AmxQuintic kernels = {turn, gram, polynomial, apply};
  return &kernels;
}

}  // namespace equisweep

#else

namespace equisweep {

const AmxQuintic* amx_quintic() { return nullptr; }

}  // namespace equisweep

#endif
