#pragma once
// Which precision a sum is taken in.

#include <ATen/core/Tensor.h>

namespace equisweep {

/// Statistics, softmax and losses of fp32 and bf16 activations are computed in fp32, those of fp64 in fp64.
inline at::ScalarType at_least_float(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace equisweep
