#pragma once
// One-pass arithmetic where separate operations would read and write memory several times. On the CPU a loop of our own over
// whatever strides the tensors have; on other devices ATen's operations.

#include <ATen/core/Tensor.h>

namespace equisweep {

/// W <- retained W - lr U, rounded once to the dtype of W. `update` is fp32 or fp64 and has the shape of `weight`, which may
/// be narrower. 12 bytes a parameter in fp32.
void apply_update(const at::Tensor& weight, const at::Tensor& update, double retained, double lr);

struct AdamCoefficients {
  double beta1, beta2, eps;
  double correction1, correction2;  ///< 1 - b1^t, 1 - b2^t
};

/// m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2; returns (m / correction1) / (sqrt(v / correction2) + eps). All of one
/// dtype, fp32 or fp64, and one shape. 24 bytes a parameter in fp32.
at::Tensor adam_direction(const at::Tensor& m, const at::Tensor& v, const at::Tensor& gradient, const AdamCoefficients& c);

}  // namespace equisweep
