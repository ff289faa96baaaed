#pragma once
// The arithmetic of loops.h on a GPU, a whole bank at once. No product is contracted with a sum: the elementwise steps have
// the bits of the loops on the CPU; sums run in fp64, in an order that depends on the shape alone.

#include <cstdint>

#include "core/element.h"
#include "optimizers/kernels/loops.h"

namespace equisweep {

/// A cudaStream_t (core/cuda.h).
using CudaStream = void*;

/// Pointers of the device, to tensors of one layout without gaps.
template <class T>
struct CudaStep {
  T* gradient;
  T* weight;  ///< W <- retained W - lr U; null: U goes to `direction`
  T* direction;
  const T* clip;  ///< one number that the gradient is multiplied by; null: 1
  bool zero_gradient;
  T retained, lr;
  T* momentum;  ///< M <- keep M + take G; null: S = G
  T keep, take;
  bool nesterov;  ///< S = take G + keep M; else M
};

/// Calls return when the work is queued; one that cannot be queued throws std::runtime_error with CUDA's words.
template <class T>
struct CudaStepKernels {
  using Int = std::int64_t;

  /// `form.clip` is not looked at.
  void (*adam)(const CudaStep<T>& step, const AdamLoop<T>& form, T* m, T* v, Int count, CudaStream stream);
  /// U = S, or, with size > 0, size sign(S).
  void (*momentum)(const CudaStep<T>& step, T size, Int count, CudaStream stream);
  /// U = S / (factor ||S_row|| + eps) gain for rows of adjacent elements, one behind the other.
  void (*rows)(const CudaStep<T>& step, Int rows, Int width, T factor, T eps, T gain, CudaStream stream);

  /// How many partial sums a matrix of `count` elements has in fold_matrices.
  Int (*pieces)(Int count);
  /// M is updated; squares [matrices, pieces(count)]: of S, in parts.
  void (*fold_matrices)(const CudaStep<T>& step, Int matrices, Int count, double* squares, CudaStream stream);
  /// y = S / max(safety ||S||_F, smallest) for each matrix, as bf16 or T, with the M and the squares of fold_matrices.
  void (*divide_matrices)(const CudaStep<T>& step, Int matrices, Int count, const double* squares, double safety,
                          double smallest, Bf16* narrow, T* y, CudaStream stream);
  /// U = gain Y, from bf16 or T.
  void (*apply)(const CudaStep<T>& step, const Bf16* narrow, const T* y, T gain, Int count, CudaStream stream);
};

/// Null where this program was built without CUDA.
template <class T>
const CudaStepKernels<T>* cuda_step_kernels();

}  // namespace equisweep
