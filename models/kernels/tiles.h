#pragma once
// Products of packed matrices for operations that take rows through several steps while they are in the cache, on one
// thread.

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// One term A B of a sum of products: rows of A, as they lie, `stride` elements apart, or as arrange() wrote them, and
/// B [K, N] in panels.
struct TileTerm {
  const void* a;
  std::int64_t stride;
  const void* panels;
  std::int64_t K;
};

/// Where a sum of products goes, and what is added to it: bias [N] and rows `add`, or null.
template <class T>
struct TileRows {
  T* y;
  std::int64_t stride;
  const float* bias;
  const T* add;
  std::int64_t add_stride;
};

/// Products whose operands were put in the order of the registers before, to be used more than once; sums are fp32. Every
/// width (K, M, N) is a multiple of 32; numbers of rows are not. T: Bf16 on the tile registers of an x86 processor (AMX) or
/// on its vectors (AVX512-BF16), where denormal numbers count as zero; float in parts on tile registers, see
/// core/amx_parts.inc, or on vectors (AVX-512).
template <class T>
struct TileKernels {
  using Int = std::int64_t;

  /// Bytes of an element of an operand; "elements" below are those.
  Int bytes;

  /// panels [K N] <- op(B) [K, N], rounded to T; B is [K, ..], or [N, ..] where `transposed`, rows ldb apart. Those of 32
  /// columns n .. n + 31 begin at K n.
  void (*pack)(const float* b, Int ldb, bool transposed, Int K, Int N, void* panels);
  /// out [rows up to the next multiple of 32, K] <- the rows of A [rows, K], then zeros. Null where rows are read as they
  /// lie, up to that multiple.
  void (*arrange)(const T* a, Int stride, Int rows, Int K, void* out);
  /// Y [rows, N] = sum of the terms + bias + add, rounded once.
  void (*rows)(Int rows, Int N, const TileTerm* terms, Int count, const TileRows<T>& out);

  /// The operands of X^T Y, X [rows, M], Y [rows, N]. They hold `depth` rows, a multiple of 32, of which these functions
  /// write `rows`, zero up to the next multiple of 32; to begin at row r, a multiple of 32, add 16 r to the place. Those
  /// of 32 columns n .. n + 31 begin at n depth.
  void (*left)(const T* x, Int stride, Int rows, Int M, Int depth, void* out);
  void (*right)(const T* y, Int stride, Int rows, Int N, Int depth, void* out);
  /// C [M N] <- X^T Y, or C + X^T Y, over `rows` rows, in blocks of 32 x 32 in row-major order, each in an order of its own.
  void (*add)(Int M, Int N, Int rows, const void* left, Int left_depth, const void* right, Int right_depth, float* c,
              bool add);
  /// w [32, 32] <- the sum of `count` blocks of such C, `distance` elements apart, or its transpose.
  void (*finish)(const float* c, Int count, Int distance, bool transposed, float* w, Int ldw);
};

/// Null where this program was built without the instructions; what the machine has: see tile_kernels().
const TileKernels<Bf16>* amx_tile_kernels();
const TileKernels<Bf16>* avx512_bf16_tile_kernels();
const TileKernels<float>* amx_parts_kernels();
const TileKernels<float>* avx512_tile_kernels();

}  // namespace equisweep
