#pragma once
// The element types of hand-written loops, without a tensor header: float, double, Bf16.

#include <cstdint>

namespace equisweep {

/// The bits of a bfloat16, as at::BFloat16 has them.
struct Bf16 {
  std::uint16_t bits;
};

template <class T>
struct WideType {
  using type = float;
};
template <>
struct WideType<double> {
  using type = double;
};
/// What a loop over T computes in: double for double, else float.
template <class T>
using Wide = typename WideType<T>::type;

}  // namespace equisweep
