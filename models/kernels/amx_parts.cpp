// Compiled for machines with AMX alone; see amx_parts.inc. Every operand is a row of strips.
#include "models/kernels/tiles.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__AVX512BF16__)

#include "core/amx_parts.inc"
#include "models/kernels/tile_sums.inc"

namespace equisweep {
namespace {

Bf16* parts(void* operand) { return static_cast<Bf16*>(operand); }
const Bf16* parts(const void* operand) { return static_cast<const Bf16*>(operand); }

void pack(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels) {
  if (transposed) {
    for (Int n = 0; n < N; n += 16) strip_of_rows<true>(b + n * ldb, ldb, 16, K, parts(panels) + 3 * n * K);
  } else {
    for (Int n = 0; n < N; n += 32) strip_of_columns<false, 2>(b + n, ldb, K, parts(panels) + 3 * n * K, 48 * K);
  }
}

void arrange(const float* a, Int stride, Int rows, Int K, void* out) {
  for (Int m = 0; m < round_up(rows, 32); m += 16)
    strip_of_rows(a + m * stride, stride, rows - m, K, parts(out) + 3 * m * K);
}

struct InParts {
  static constexpr Int kDepth = kPartsDepth;
  static void multiply(const TileTerm& term, Int m, Int n, Int k, Int K, float* c, bool add) {
    multiply_parts(parts(term.a) + 3 * m * term.K + 48 * k, parts(term.panels) + 3 * n * term.K + 48 * k, 48 * term.K, K, c,
                   32, add);
  }
  static void multiply_sums(const void* left, Int left_depth, Int m, const void* right, Int right_depth, Int n, Int k, Int K,
                            float* c, bool add) {
    multiply_parts(parts(left) + 3 * m * left_depth + 48 * k, parts(right) + 3 * n * right_depth + 48 * k, 48 * right_depth,
                   K, c, 32, add);
  }
};

template <bool turned>
void operand(const float* x, Int stride, Int rows, Int M, Int depth, void* out) {
  for (Int some = 0; some < rows; some += 32)  // rows at a time: the strips lie far apart
    for (Int m = 0; m < M; m += 32)
      strip_of_columns<turned, 2>(x + some * stride + m, stride, rows - some < 32 ? rows - some : 32,
                                  parts(out) + 3 * (m * depth + 16 * some), 48 * depth);
}

constexpr TileKernels<float> kPartsKernels = {
    6, pack, arrange, sum_in_pairs<InParts, float>, operand<true>, operand<false>, add_in_pairs<InParts>, sum_blocks};

}  // namespace

const TileKernels<float>* amx_parts_kernels() { return &kPartsKernels; }

}  // namespace equisweep

#else

namespace equisweep {

const TileKernels<float>* amx_parts_kernels() { return nullptr; }

}  // namespace equisweep

#endif
