#pragma once
// Gradients from values alone.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <span>

namespace equisweep {

/// Largest difference, relative to 1 + the largest entry, between the gradient of sum(output * fixed random tensor) that
/// autograd gives and central differences of fourth order, over every entry of every input. Inputs are fp64 leaves.
inline double worst_gradient_error(const std::function<at::Tensor()>& output, std::span<const at::Tensor> inputs) {
  const at::Tensor direction = at::randn(output().sizes(), at::make_generator<at::CPUGeneratorImpl>(99), at::kDouble);
  const auto value = [&] { return (output() * direction).sum(); };
  for (const auto& x : inputs) x.mutable_grad() = at::Tensor();
  value().backward();
  constexpr double h = 1e-3;
  double worst = 0;
  for (const auto& x : inputs) {
    const at::Tensor gradient = x.grad().contiguous();
    const at::NoGradGuard no_grad;
    double* entries = x.data_ptr<double>();
    const double size = 1 + gradient.abs().max().item<double>();
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const double kept = entries[i];
      const auto at_offset = [&](double offset) {
        entries[i] = kept + offset;
        return value().item<double>();
      };
      const double numeric = (8 * (at_offset(h) - at_offset(-h)) - (at_offset(2 * h) - at_offset(-2 * h))) / (12 * h);
      entries[i] = kept;
      worst = std::max(worst, std::abs(numeric - gradient.data_ptr<double>()[i]) / size);
    }
  }
  return worst;
}

}  // namespace equisweep
