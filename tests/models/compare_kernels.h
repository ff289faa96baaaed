#pragma once
// Fused operations against their plain ATen form in fp64: values and gradients, in every precision, for one thread and more.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/kernels.h"

namespace equisweep::fused_tests {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<at::Tensor(const Tensors&)>;

class WithKernels {
 public:
  explicit WithKernels(Kernels k) : before_(kernels()) { set_kernels(k); }
  ~WithKernels() { set_kernels(before_); }

 private:
  Kernels before_;
};

inline at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

/// The output and the gradients of sum(output * fixed random tensor) with respect to the inputs.
inline Tensors outcome(const Operation& f, const Tensors& inputs, Kernels k) {
  const WithKernels mode(k);
  Tensors leaves, results;
  for (const auto& x : inputs) leaves.push_back(x.is_floating_point() ? x.detach().requires_grad_(true) : x);
  const at::Tensor y = f(leaves);
  results.push_back(y.detach());
  y.backward(normal(y.sizes(), 77).to(y.scalar_type()));
  for (const auto& x : leaves)
    if (x.is_floating_point()) results.push_back(x.grad());
  return results;
}

struct Precision {
  const char* name;
  at::ScalarType dtype;
  double bound;  ///< of the error, relative to 1 + the largest entry: some ten roundings
};
constexpr Precision kPrecisions[] = {
    {"fp64", at::kDouble, 1e-12}, {"fp32", at::kFloat, 2e-5}, {"bf16", at::kBFloat16, 4e-2}};

/// `narrow`: how many of the inputs, from the first on, have the precision under test; the others are weights, which stay
/// fp32 where that is narrower.
/// `own`: in which precisions the loops are our own, whose sums do not depend on the number of threads, as those of a BLAS
/// may.
enum class Own { all, bf16, none };
inline void compare(const std::string& what, const Operation& f, const Tensors& inputs, std::size_t narrow,
                    Own own = Own::all) {
  for (const auto& [name, dtype, bound] : kPrecisions) {
    Tensors given, exact;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool rounded = inputs[i].is_floating_point();
      const auto type = i < narrow ? dtype : at::promote_types(dtype, at::kFloat);
      // The strides of views are kept.
      given.push_back(at::empty_strided(inputs[i].sizes(), inputs[i].strides(),
                                        inputs[i].options().dtype(rounded ? type : inputs[i].scalar_type())));
      given.back().copy_(inputs[i]);
      exact.push_back(rounded ? given.back().to(at::kDouble) : given.back());
    }
    const Tensors expected = outcome(f, exact, Kernels::reference);
    at::set_num_threads(2);
    const Tensors two = outcome(f, given, Kernels::fused), again = outcome(f, given, Kernels::fused);
    at::set_num_threads(3);
    const Tensors three = outcome(f, given, Kernels::fused);
    at::set_num_threads(1);
    const Tensors one = outcome(f, given, Kernels::fused);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = (two[i].to(at::kDouble) - expected[i]).abs().max().item<double>();
      EXPECT_LE(error, bound * (1 + expected[i].abs().max().item<double>())) << what << " " << name << " result " << i;
      EXPECT_TRUE(at::equal(two[i], again[i])) << what << " " << name << " result " << i << ": not the same twice";
      if (own == Own::none || (own == Own::bf16 && dtype != at::kBFloat16)) continue;
      EXPECT_TRUE(at::equal(two[i], one[i])) << what << " " << name << " result " << i << ": depends on the threads";
      EXPECT_TRUE(at::equal(two[i], three[i])) << what << " " << name << " result " << i << ": depends on the threads";
    }
  }
}

}  // namespace equisweep::fused_tests
