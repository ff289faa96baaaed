// Compiled for machines with AMX alone; see amx_parts.inc. Every operand is a row of strips.
#include "models/kernels/tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_parts.inc"

namespace equisweep {
namespace {

Bf16* parts(void* operand) { return static_cast<Bf16*>(operand); }
const Bf16* parts(const void* operand) { return static_cast<const Bf16*>(operand); }

void pack(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels) {
  for (Int n = 0; n < N; n += 16) {
    if (transposed)
      strip_of_turned_rows(b + n * ldb, ldb, 16, K, parts(panels) + 3 * n * K);
    else
      strip_of_columns<false>(b + n, ldb, K, parts(panels) + 3 * n * K);
  }
}

void arrange(const float* a, Int stride, Int rows, Int K, void* out) {
  for (Int m = 0; m < round_up(rows, 32); m += 16)
    strip_of_rows(a + m * stride, stride, rows - m, K, parts(out) + 3 * m * K);
}

/// Rows of C that are summed side by side, chunk after chunk of K, while 32 columns of B stay in the first cache.
constexpr Int kSumRows = 128;

void sum_of_products(Int rows, Int N, const TileTerm* terms, Int count, const TileRows<float>& out) {
  const TileRegisters in_use;
  finish_writes();
  alignas(64) float sums[kSumRows * 32];
  for (Int n = 0; n < N; n += 32) {
    __m512 bias_low = _mm512_setzero_ps(), bias_high = _mm512_setzero_ps();
    if (out.bias) bias_low = _mm512_loadu_ps(out.bias + n), bias_high = _mm512_loadu_ps(out.bias + n + 16);
    for (Int begin = 0; begin < rows; begin += kSumRows) {
      const Int some = rows - begin < kSumRows ? rows - begin : kSumRows;
      for (Int t = 0; t < count; ++t) {
        const Int K = terms[t].K;
        for (Int k = 0; k < K; k += kPartsDepth) {
          for (Int m = 0; m < some; m += 16) {
            if (t == 0 && k == 0)
              zero_pair();
            else
              load_pair(sums + 32 * m, 32);
            add_parts(parts(terms[t].a) + 3 * (begin + m) * K + 48 * k, parts(terms[t].panels) + 3 * n * K + 48 * k, 48 * K,
                      K - k < kPartsDepth ? K - k : kPartsDepth);
            store_pair(sums + 32 * m, 32);
          }
        }
      }
      for (Int i = 0; i < some; ++i) {
        __m512 low = _mm512_load_ps(sums + 32 * i), high = _mm512_load_ps(sums + 32 * i + 16);
        if (out.bias) low = _mm512_add_ps(low, bias_low), high = _mm512_add_ps(high, bias_high);
        if (out.add) {
          const float* const more = out.add + (begin + i) * out.add_stride + n;
          low = _mm512_add_ps(low, _mm512_loadu_ps(more)), high = _mm512_add_ps(high, _mm512_loadu_ps(more + 16));
        }
        float* const y = out.y + (begin + i) * out.stride + n;
        _mm512_storeu_ps(y, low);
        _mm512_storeu_ps(y + 16, high);
      }
    }
  }
}

template <bool turned>
void operand(const float* x, Int stride, Int rows, Int M, Int depth, void* out) {
  for (Int some = 0; some < rows; some += 32)  // rows at a time: the strips lie far apart
    for (Int m = 0; m < M; m += 16)
      strip_of_columns<turned>(x + some * stride + m, stride, rows - some < 32 ? rows - some : 32,
                               parts(out) + 3 * (m * depth + 16 * some));
}

void add_product(Int M, Int N, Int rows, const void* left, Int left_depth, const void* right, Int right_depth, float* c,
                 bool add) {
  const TileRegisters in_use;
  finish_writes();
  for (Int k = 0; k < rows; k += kPartsDepth, add = true) {
    const Int K = round_up(rows - k < kPartsDepth ? rows - k : kPartsDepth, 32);
    for (Int n = 0; n < N; n += 32) {
      for (Int m = 0; m < M; m += 16) {
        float* const sums = c + (m / 32 * (N / 32) + n / 32) * 1024 + m % 32 * 32;
        if (add)
          load_pair(sums, 32);
        else
          zero_pair();
        add_parts(parts(left) + 3 * m * left_depth + 48 * k, parts(right) + 3 * n * right_depth + 48 * k, 48 * right_depth,
                  K);
        store_pair(sums, 32);
      }
    }
  }
}

constexpr TileKernels<float> kPartsKernels = {
    6, pack, arrange, sum_of_products, operand<true>, operand<false>, add_product, sum_blocks};

}  // namespace

const TileKernels<float>* amx_parts_kernels() { return &kPartsKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileKernels<float>* amx_parts_kernels() { return nullptr; }

}  // namespace equisweep

#endif
