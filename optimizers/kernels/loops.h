#pragma once
// The arithmetic of update rules on adjacent elements that lie in the cache: a step is made of these, piece by piece, so
// that each tensor is read from memory and written to it once. Plain pointers, one thread; T is float or double.
//
// No product is contracted with a sum, and sums run in fp64 over a fixed number of lanes: results are the same bits on every
// instruction set, and whether a step is taken in one piece or in several.

#include <cstdint>

#include "core/element.h"

namespace equisweep {

/// m <- keep m + take (clip g); the rule acts on m or, with Nesterov, on take (clip g) + keep m.
template <class T>
struct MomentumLoop {
  T keep, take, clip;
  bool nesterov;
};

template <class T>
struct AdamLoop {
  T keep1, take1, keep2, take2;  ///< b, 1 - b
  T gain1, gain2;                ///< 1 / (1 - b^t)
  T eps, clip;
};

template <class T>
struct StepLoops {
  using Int = std::int64_t;

  void (*fold)(const MomentumLoop<T>& form, const T* g, T* m, Int n);
  /// s = take (clip g) + keep m for the m that fold() has made.
  void (*ahead)(const MomentumLoop<T>& form, const T* g, const T* m, T* s, Int n);
  void (*adam)(const AdamLoop<T>& form, const T* g, T* m, T* v, T* u, Int n);
  /// w <- retained w - lr u
  void (*apply)(T* w, const T* u, T retained, T lr, Int n);
  /// w <- retained w - lr (gain y - mean), and u = gain y - mean; without mean: gain y.
  void (*apply_factor)(T* w, const T* y, T gain, const T* mean, T retained, T lr, Int n);
  void (*apply_bf16)(T* w, const Bf16* y, T gain, const T* mean, T retained, T lr, Int n);
  void (*factor)(const T* y, T gain, const T* mean, T* u, Int n);
  void (*factor_bf16)(const Bf16* y, T gain, const T* mean, T* u, Int n);

  /// u = size sign(s), sign(0) = 0
  void (*sign)(const T* s, T size, T* u, Int n);
  /// u = s / divisor gain
  void (*divide)(const T* s, T divisor, T gain, T* u, Int n);
  /// u_i = s_i / divisor_i gain
  void (*divide_each)(const T* s, const T* divisor, T gain, T* u, Int n);
  /// y = s / divisor in bf16
  void (*narrow)(const T* s, T divisor, Bf16* y, Int n);
  /// u = s - t
  void (*subtract)(const T* s, const T* t, T* u, Int n);

  double (*squares)(const T* s, Int n);                                ///< sum of s^2
  void (*add_squares)(const T* s, double* sum, Int n);                 ///< sum_i += s_i^2
  void (*add)(const T* s, double* sum, Int n);                         ///< sum_i += s_i
  void (*add_factor_bf16)(const Bf16* y, T gain, double* sum, Int n);  ///< sum_i += gain y_i
  void (*add_factor)(const T* y, T gain, double* sum, Int n);
  double (*dot)(const T* s, const T* y, Int n);
  double (*dot_bf16)(const T* s, const Bf16* y, Int n);
  /// p = a s + b t
  void (*combine)(T a, const T* s, T b, const T* t, T* p, Int n);
};

/// The loops for this machine.
template <class T>
const StepLoops<T>& step_loops();

/// Those of one instruction set.
template <class T>
const StepLoops<T>* step_loops_default();
template <class T>
const StepLoops<T>* step_loops_avx2();
template <class T>
const StepLoops<T>* step_loops_avx512();

}  // namespace equisweep
