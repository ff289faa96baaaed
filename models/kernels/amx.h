#pragma once
// Products of bf16 matrices on the tile registers of an x86 processor (AMX), on one thread, without compilation at run time.

#include <cstdint>

#include "models/kernels/rows.h"

namespace equisweep {

/// C <- op(A) op(B), or C + op(A) op(B), row-major; op transposes where the flag is set: A is stored [K, M], B [N, K].
/// Exactly one of c and c16 is set; sums are fp32, rounded once. Sizes are at least 1.
struct AmxProduct {
  bool transpose_a, transpose_b;
  std::int64_t M, N, K;
  const Bf16* a;
  std::int64_t lda;
  const Bf16* b;
  std::int64_t ldb;
  float* c;
  Bf16* c16;
  std::int64_t ldc;
  bool add;  ///< c only
};

/// One term A B of a sum of products: rows of A, `stride` elements apart, and B [K, N] in panels.
struct AmxTerm {
  const Bf16* a;
  std::int64_t stride;
  const Bf16* panels;
  std::int64_t K;
};

/// Where a sum of products goes, and what is added to it: bias [N] and rows `add`, or null.
struct AmxRows {
  Bf16* y;
  std::int64_t stride;
  const float* bias;
  const Bf16* add;
  std::int64_t add_stride;
};

/// Products whose operands were put in the order of the tile registers before, to be used more than once. Every width (K,
/// M, N) is a multiple of 32; numbers of rows are not.
struct AmxKernels {
  using Int = std::int64_t;

  /// Bytes of scratch memory, 64-byte aligned, that multiply() needs; here sizes are arbitrary.
  Int (*scratch_bytes)(const AmxProduct& product);
  void (*multiply)(const AmxProduct& product, void* scratch);

  /// panels [K N] <- op(B) [K, N], rounded; B is [K, ..], or [N, ..] where `transposed`, rows ldb apart.
  void (*pack)(const float* b, Int ldb, bool transposed, Int K, Int N, Bf16* panels);
  /// Y [rows, N] = sum of the terms + bias + add, rounded once. Rows of A are read up to the next multiple of 32.
  void (*rows)(Int rows, Int N, const AmxTerm* terms, Int count, const AmxRows& out);

  /// The operands of X^T Y, X [rows, M], Y [rows, N]. They hold `depth` rows, a multiple of 32, of which these functions
  /// write `rows`, zero up to the next multiple of 32; to begin at row r, a multiple of 32, add 16 r to the pointer.
  void (*left)(const Bf16* x, Int stride, Int rows, Int M, Int depth, Bf16* out);
  void (*right)(const Bf16* y, Int stride, Int rows, Int N, Int depth, Bf16* out);
  /// C [M N] <- X^T Y, or C + X^T Y, over `rows` rows, in blocks of 32 x 32 in row-major order, each in an order of its own.
  void (*add)(Int M, Int N, Int rows, const Bf16* left, Int left_depth, const Bf16* right, Int right_depth, float* c,
              bool add);
  /// w [32, 32] <- the sum of `count` blocks of such C, `distance` elements apart, or its transpose.
  void (*finish)(const float* c, Int count, Int distance, bool transposed, float* w, Int ldw);
};

/// Null where this program was built without the instructions; whether the machine has them is at::cpu::init_amx()'s
/// business: see tile_kernels().
const AmxKernels* amx_kernels();

}  // namespace equisweep
