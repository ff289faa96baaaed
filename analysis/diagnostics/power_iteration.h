#pragma once
// The largest singular value of many matrices at once, without a decomposition and without waiting for the device.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace equisweep {

/// Block power iteration with four vectors, started from those of the last call.
///
/// For X [..., m, n] it forms the Gram matrix A of the shorter side (k = min(m, n), scaled so that ||X||_F = 1) and keeps
/// V [..., k, p], p = min(4, k), with V^T V = I. After three plain iterations V <- A V, one sweep replaces V by the
/// orthonormal basis of T_d(2 A / b - I) V, where T_d is the Chebyshev polynomial of degree d = 10 and b the smallest
/// Rayleigh quotient of the columns of V: like d power iterations, but what lies above b grows as cosh(2 d sqrt(gap))
/// instead of (1 + gap)^d, so that close singular values are separated too (Zhou & Saad 2007, "A Chebyshev-Davidson
/// algorithm for large symmetric eigenproblems", section 2). The first call makes 12 sweeps, a later one 2.
///
/// Pure arithmetic on the device: no synchronisation, no shared generator, inputs untouched.
class PowerIteration {
 public:
  /// `seed` decides the first V.
  explicit PowerIteration(std::uint64_t seed) : seed_(seed) {}

  /// V^T A V [..., p, p] in double, with X^T X or X X^T unscaled in place of A: the square root of its largest eigenvalue is
  /// ||X||_2 from below. All NaN for a matrix that is not finite.
  at::Tensor measure(const at::Tensor& x);
  /// The same for several batches of one shape at once: [n, ..., p, p].
  at::Tensor measure(at::TensorList matrices);

 private:
  std::uint64_t seed_;
  at::Tensor vectors_;  // V of the last call
};

/// sqrt of the largest eigenvalue of each projection [..., p, p] that measure() returned; [...] in double on the CPU. Waits
/// for the device.
at::Tensor spectral_norms(const at::Tensor& projections);

}  // namespace equisweep
