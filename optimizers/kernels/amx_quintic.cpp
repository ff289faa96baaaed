// Compiled for machines with AMX alone; see core/amx_tiles.inc.
#include "optimizers/kernels/amx_quintic.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_tiles.inc"

namespace equisweep {
namespace {

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
  for (Int n = 0; n < N; n += 16) pack_panel(b + n * stride, stride, true, K, K, 16, panels + n * K);
}

void turn(const Bf16* x, Int rows, Int columns, Int stride, Bf16* out, Int out_stride) {
  for (Int row = 0; row < rows; row += 32)
    for (Int column = 0; column < columns; column += 32) {
      __m512i low[16], high[16];
      for (Int i = 0; i < 16; ++i) {
        const Bf16* from = x + (row + 2 * i) * stride + column;
        pair_rows(from, from + stride, low[i], high[i]);
      }
      transpose(low);
      transpose(high);
      for (Int i = 0; i < 16; ++i) {
        _mm512_storeu_si512(out + (column + i) * out_stride + row, low[i]);
        _mm512_storeu_si512(out + (column + 16 + i) * out_stride + row, high[i]);
      }
    }
}

/// Numbers k at a time, of which two panels and 16 rows stay in the first cache; and rows at a time, whose sums stay there.
constexpr Int kDepth = 256, kRowsAtATime = 64;

/// C [rows, 32] at c <- rows of A times two panels [K 16] each; rows is a multiple of 16.
inline void multiply(const Bf16* a, Int stride, Int rows, const Bf16* panels, Int K, float* c, Int c_stride) {
  for (Int k = 0; k < K; k += kDepth) {
    const Int depth = K - k < kDepth ? K - k : kDepth;
    for (Int row = 0; row < rows; row += 16) {
      float* const sums = c + row * c_stride;
      if (k == 0)
        zero_pair();
      else
        load_pair(sums, c_stride);
      add_pair(a + row * stride + k, stride, 32, panels + 16 * k, 16 * K, depth);
      store_pair(sums, c_stride);
    }
  }
}

/// The same for rows begin .. end - 1, a few at a time: use(row, its sums).
template <class Use>
inline void multiply_rows(const Bf16* a, Int stride, Int begin, Int end, const Bf16* panels, Int K, const Use& use) {
  alignas(64) float sums[kRowsAtATime * 32];
  for (Int first = begin; first < end; first += kRowsAtATime) {
    const Int rows = end - first < kRowsAtATime ? end - first : kRowsAtATime;
    multiply(a + first * stride, stride, rows, panels, K, sums, 32);
    for (Int row = 0; row < rows; ++row) use(first + row, sums + 32 * row);
  }
}

void gram(const Bf16* y, Int stride, Int k, Int n, Bf16* panels, float* g) {
  pack_turned(y, stride, n, k, panels);
  const TileRegisters in_use;
  finish_writes();
  for (Int i = 0; i < k; i += kRowsAtATime)
    for (Int j = 0; j < k && j < i + kRowsAtATime; j += 32) {
      const Int first = i > j ? i : j, end = k - i < kRowsAtATime ? k : i + kRowsAtATime;
      multiply(y + first * stride, stride, end - first, panels + j * n, n, g + first * k + j, k);
    }
}

void polynomial(const float* g, Int k, float b, float c, Bf16* r, Bf16* panels, Bf16* p) {
  const auto mirror = [&](Bf16* x, Int j) {
    for (Int i = j + 32; i < k; i += 32) turn(x + i * k + j, 32, 32, k, x + j * k + i, k);
  };
  for (Int j = 0; j < k; j += 32) {
    for (Int row = j; row < k; ++row) {
      const float* from = g + row * k + j;
      _mm512_storeu_si512(r + row * k + j, round_both(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)));
    }
    mirror(r, j);
  }
  pack(r, k, k, k, panels);
  const TileRegisters in_use;
  finish_writes();
  const __m512 gain = _mm512_set1_ps(b), square_gain = _mm512_set1_ps(c);
  for (Int j = 0; j < k; j += 32) {
    multiply_rows(r, k, j, k, panels + j * k, k, [&](Int row, const float* square) {
      const Row32 first = widened(r + row * k + j);
      _mm512_storeu_si512(
          p + row * k + j,
          round_both(_mm512_fmadd_ps(square_gain, _mm512_load_ps(square), _mm512_mul_ps(gain, first.low)),
                     _mm512_fmadd_ps(square_gain, _mm512_load_ps(square + 16), _mm512_mul_ps(gain, first.high))));
    });
    mirror(p, j);
  }
}

void apply(const Bf16* p, Int k, float a, Bf16* y, Int stride, Int n, Bf16* panels) {
  pack(y, stride, k, n, panels);
  const TileRegisters in_use;
  finish_writes();
  const __m512 kept = _mm512_set1_ps(a);
  for (Int j = 0; j < n; j += 32)
    multiply_rows(p, k, 0, k, panels + j * k, k, [&](Int row, const float* product) {
      Bf16* const to = y + row * stride + j;
      const Row32 before = widened(to);
      _mm512_storeu_si512(to, round_both(_mm512_fmadd_ps(kept, before.low, _mm512_load_ps(product)),
                                         _mm512_fmadd_ps(kept, before.high, _mm512_load_ps(product + 16))));
    });
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
