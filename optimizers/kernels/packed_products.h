#pragma once
// Products of matrices that fit the caches, on one thread, for the quintics of polar/symmetric.cpp.

#include <cstdint>

namespace equisweep {

/// Every size is a multiple of 32. Sums over K are made in one order for each element, whatever else is computed with it.
template <class T>
struct PackedProducts {
  using Int = std::int64_t;

  /// panels [K N] <- op(B) [K, N] for B [K, N], or [N, K] where `transposed`, rows `stride` elements apart: columns
  /// n .. n + 31, n a multiple of 32, begin at K n.
  void (*pack)(const T* b, Int stride, bool transposed, Int K, Int N, T* panels);
  /// G [k, k] <- B^T B, or G + B^T B where `add`, for B [K, k] in panels, in the blocks of 32 x 32 up to the diagonal; the
  /// others are left alone.
  void (*gram)(const T* panels, Int K, Int k, bool add, T* g);
  /// C [M, N] <- A B for rows A [M, K] and B in panels.
  void (*multiply)(const T* a, Int stride, const T* panels, Int M, Int N, Int K, T* c, Int c_stride);
  /// X [k, k]: the blocks of 32 x 32 above the diagonal become the transposes of those below.
  void (*mirror)(T* x, Int k);
};

/// On vectors of 16 (AVX-512); null where this program was built without the instructions, and for double, which the BLAS
/// serves. Whether the machine has them is instruction_set()'s business.
template <class T>
const PackedProducts<T>* packed_products_avx512();

}  // namespace equisweep
