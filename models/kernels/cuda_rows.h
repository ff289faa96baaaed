#pragma once
// The loops of rows.h on a GPU: all rows of a call at once, on a stream. The arithmetic is that of rows.h, sums run in
// another order, which does not depend on the GPU.

#include "models/kernels/rows.h"

namespace equisweep {

/// A cudaStream_t (core/cuda.h).
using CudaStream = void*;

/// Pointers are the device's. Calls return when the work is queued; one that cannot be queued throws std::runtime_error with
/// CUDA's words.
template <class T>
struct CudaRowKernels {
  using W = Wide<T>;
  using Int = std::int64_t;

  /// The widest row of norm_backward.
  Int widest;
  /// Whether heads of width C in rows `stride` apart can be turned. Wider ones than 64 must begin at multiples of 16 bytes.
  bool (*turns)(Int C, Int stride);
  /// How many partial sums `dgain` below has room for, one a row of [pieces, width], given the rows and the width of the
  /// call; each function writes all of them.
  Int (*pieces)(Int rows, Int width);

  /// y = x r gain, r = (mean(x^2) + eps)^(-1/2). x rows `stride` apart; y [rows, width]; r [rows].
  void (*norm)(const T* x, Int stride, const W* gain, W eps, T* y, W* r, Int rows, Int width, CudaStream stream);
  /// dx [rows, width]; dgain [pieces(rows, width), width].
  void (*norm_backward)(const T* x, Int stride, const W* r, const W* gain, const T* dy, T* dx, W* dgain, Int rows, Int width,
                        CudaStream stream);

  /// y = rotation(norm(x)), x [rows, heads C] with rows `stride` apart; the norm runs over each head, gain [C], and not at
  /// all where gain is null. y [rows, heads C]; r [rows heads].
  void (*rotate)(const T* x, Int stride, const W* gain, W eps, const Rotation<W>& rotation, T* y, W* r, Int rows,
                 CudaStream stream);
  /// dx [rows, heads C]; dgain [pieces(rows heads, C), C], or null where gain is.
  void (*rotate_backward)(const T* x, Int stride, const W* gain, const W* r, const Rotation<W>& rotation, const T* dy, T* dx,
                          W* dgain, Int rows, CudaStream stream);

  /// h [rows, width] = act(gate) up, without biases; step 2: up lies one element behind gate.
  void (*gate)(const GateForm& form, const GateRows<const T>& in, T* h, Int rows, CudaStream stream);
  /// dgate, dup = gradient of h for the gradient dh [rows, width].
  void (*gate_backward)(const GateForm& form, const GateRows<const T>& in, const T* dh, const GateRows<T>& out, Int rows,
                        CudaStream stream);

  /// loss_row = logsumexp(z) - z[target]; with `gradient` z <- (softmax(z) - onehot(target)) factor. z [rows, width]. A
  /// target outside of the row ends this process' use of the device, as a failed assertion of ATen's operations does.
  void (*cross_entropy)(T* z, Int width, const Int* target, bool gradient, W factor, W* loss, Int rows, CudaStream stream);
};

/// Null where this program was built without CUDA.
template <class T>
const CudaRowKernels<T>* cuda_row_kernels();

}  // namespace equisweep
