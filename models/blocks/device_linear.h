#pragma once
// Products with weights on a GPU in bf16, several of one input as one.

#include <ATen/core/Tensor.h>

#include <vector>

namespace equisweep {

/// Whether device_linear() serves: kernels() is fused, x is bf16 on a GPU, the weights are fp32 matrices there, and LibTorch
/// sums such products in fp32 (2.8 or later).
bool device_linear_serves(const at::Tensor& x, at::TensorList weights);

/// x [..., K] times each W_i [N_i, K]^T, plus b_i [N_i] where there are biases (as many as weights), side by side:
/// [..., N_1 + N_2 + ...], plus `residual` of that shape, if it is defined and there are no biases. The weights are rounded
/// to bf16, products are summed as cuBLAS does and rounded to bf16; the gradients of the weights stay fp32, and are added in
/// the product itself to a gradient that is there already.
at::Tensor device_linear(const at::Tensor& x, at::TensorList weights, at::TensorList biases = {},
                         const at::Tensor& residual = {});

/// The parts of such a result, views of it.
std::vector<at::Tensor> parts_of(const at::Tensor& y, at::TensorList weights);

/// sum [m, n] + a b for bf16 a [m, k], b [k, n] on a GPU, with an fp32 sum in the product itself; in place. An undefined sum
/// counts as zero.
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

}  // namespace equisweep
