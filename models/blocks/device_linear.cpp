// Shapes: M rows, K in, N out of all weights together.
#include "models/blocks/device_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/version.h>

#include <algorithm>

#include "models/kernels/fused.inc"

namespace equisweep {

#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 8

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct DeviceLinear : torch::autograd::Function<DeviceLinear> {
  /// `parameters`: the weights, then as many biases or none.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, at::TensorList parameters, std::int64_t weights,
                            const std::optional<at::Tensor>& residual) {
    const auto K = x.size(-1);
    const at::Tensor x_MK = x.reshape({-1, K});
    std::int64_t N = 0;
    for (std::int64_t i = 0; i < weights; ++i) N += parameters[static_cast<std::size_t>(i)].size(0);
    const at::Tensor w_NK = at::empty({N, K}, x.options());
    const bool biased = static_cast<std::int64_t>(parameters.size()) > weights;
    const at::Tensor b_N = biased ? at::empty({N}, x.options()) : at::Tensor();
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(weights); ++i) {
      const auto n = parameters[i].size(0);
      w_NK.narrow(0, begin, n).copy_(parameters[i]);
      if (biased) b_N.narrow(0, begin, n).copy_(parameters[i + static_cast<std::size_t>(weights)]);
      begin += n;
    }
    variable_list saved(parameters.begin(), parameters.end());
    saved.insert(saved.end(), {x_MK, w_NK});
    ctx->save_for_backward(saved);
    ctx->saved_data["weights"] = weights;
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = N;
    ctx->saved_data["residual"] = residual.has_value();
    if (residual) return at::addmm(residual->reshape({-1, N}), x_MK, w_NK.t()).view(shape);
    return (biased ? at::addmm(b_N, x_MK, w_NK.t()) : at::mm(x_MK, w_NK.t())).view(shape);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const auto weights = static_cast<std::size_t>(ctx->saved_data["weights"].toInt());
    const std::size_t parameters = saved.size() - 2;
    const at::Tensor &x_MK = saved[parameters], &w_NK = saved[parameters + 1];
    const at::Tensor dy_MN = dys[0].reshape({-1, w_NK.size(0)});
    variable_list gradients(1 + parameters + 2);
    if (ctx->saved_data["residual"].toBool()) gradients.back() = dys[0];
    if (ctx->needs_input_grad(0)) {
      std::vector<std::int64_t> shape = dys[0].sizes().vec();
      shape.back() = w_NK.size(1);
      gradients[0] = at::mm(dy_MN, w_NK).view(shape);
    }
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < weights; ++i) {
      const auto n = saved[i].size(0);
      const at::Tensor dy = dy_MN.narrow(1, begin, n);
      begin += n;
      if (!ctx->needs_input_grad(1 + i)) continue;
      if (parameters > weights) gradients[1 + weights + i] = dy.sum(0, false, saved[weights + i].scalar_type());
      at::Tensor sum = saved[i].grad();
      const bool adds = sum.defined() && sum.scalar_type() == at::kFloat && sum.is_contiguous();
      add_product(adds ? sum : gradients[1 + i], dy.t(), x_MK);
    }
    return gradients;
  }
};

}  // namespace

bool device_linear_serves(const at::Tensor& x, at::TensorList weights) {
  return cuda_fusable(x) && x.scalar_type() == at::kBFloat16 &&
         std::all_of(weights.begin(), weights.end(),
                     [](const auto& w) { return w.is_cuda() && w.scalar_type() == at::kFloat && w.dim() == 2; });
}

at::Tensor device_linear(const at::Tensor& x, at::TensorList weights, at::TensorList biases, const at::Tensor& residual) {
  TORCH_CHECK(biases.empty() || (biases.size() == weights.size() && !residual.defined()),
              "as many biases as weights, or none; and none beside a residual");
  std::vector<at::Tensor> parameters(weights.begin(), weights.end());
  parameters.insert(parameters.end(), biases.begin(), biases.end());
  return DeviceLinear::apply(x, at::TensorList(parameters), static_cast<std::int64_t>(weights.size()), optional(residual));
}

void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (sum.defined())
    at::addmm_out(sum, sum, a, b, at::kFloat);
  else
    sum = at::mm(a, b, at::kFloat);
}

#else

bool device_linear_serves(const at::Tensor&, at::TensorList) { return false; }
at::Tensor device_linear(const at::Tensor&, at::TensorList, at::TensorList, const at::Tensor&) {
  TORCH_CHECK(false, "LibTorch 2.8 or later has the products for this");
}
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor product = at::mm(a, b).to(at::kFloat);
  sum = sum.defined() ? sum.add_(product) : product;
}

#endif

std::vector<at::Tensor> parts_of(const at::Tensor& y, at::TensorList weights) {
  std::vector<std::int64_t> sizes;
  for (const at::Tensor& w : weights) sizes.push_back(w.size(0));
  return y.split_with_sizes(sizes, -1);
}

}  // namespace equisweep
