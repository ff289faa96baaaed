#pragma once
// Products with fp32 weights on the CPU, of rows in bf16 on its tile registers (AMX) or its vectors
// (AVX512-BF16), or in fp32 on either (AMX, AVX-512).

#include <ATen/core/Tensor.h>

#include <vector>

#include "models/blocks/norm.h"

namespace equisweep {

/// Whether tile_linear() can compute this: bf16 rows on a CPU with AMX or AVX512-BF16, or fp32 rows on one with AVX-512,
/// fp32 weights whose sizes are multiples of 32 and which fit into a cache together; see tiles.inc.
bool tile_linear_serves(const at::Tensor& x, at::TensorList weights);

/// What becomes of the first two of three products, whose rows are heads of width C at positions 0 .. T - 1 again and again:
/// a norm over each head or over all of them, if there are gains, and the rotation; see RowKernels::rotate.
struct TurnedHeads {
  at::Tensor cos, sin;  ///< [T, C/2], fp32; undefined: nothing
  std::int64_t C = 0;
  std::vector<at::Tensor> gains = {};  ///< two or none
  double eps = 0, offset = 0;
};

/// y_i = x W_i^T + b_i, x [.., K], W_i [N_i, K], b_i [N_i] (as many as weights, or none), with a norm before, and a residual
/// [.., N_0] behind the only y, where they are given. Weights, the norm's output and what `heads` begins with are rounded to
/// the dtype of x; sums are fp32 and rounded once, those of dx over all weights too. The gradients of all parameters are
/// sums in fp32 that do not depend on the number of threads. With `heads` x is [B, T, K], and the first two y are [B, T, N_i
/// / C, C].
std::vector<at::Tensor> tile_linear(const at::Tensor& x, at::TensorList weights, at::TensorList biases,
                                    const Around& around = {}, const TurnedHeads& heads = {});

}  // namespace equisweep
