// m x n: shape of the block, k = min(m, n), r: rank.
#include "analysis/audit/inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "core/rng.h"
#include "core/symmetry.h"

namespace equisweep {
namespace {

// One stream of random matrices for each input.
class Draw {
 public:
  Draw(std::uint64_t seed, std::string_view name) : seed_(derive_seed(seed, name)) {}

  at::Tensor normal(std::int64_t rows, std::int64_t columns) {
    auto generator = make_generator(seed_, "normal", count_++);
    return at::randn({rows, columns}, generator, at::kDouble);
  }

  at::Tensor integers(std::int64_t rows, std::int64_t columns) {
    auto generator = make_generator(seed_, "integers", count_++);
    return at::randint(-4, 5, {rows, columns}, generator, at::kDouble);
  }

  at::Tensor orthonormal(std::int64_t rows, std::int64_t columns) {
    return random_matrix(Group::orthogonal, rows, derive_seed(seed_, "orthonormal", count_++)).narrow(1, 0, columns);
  }

 private:
  std::uint64_t seed_, count_ = 0;
};

std::vector<at::Tensor> each_step(const std::function<at::Tensor()>& make) {
  std::vector<at::Tensor> gradients;
  for (std::int64_t t = 0; t < kAuditSteps; ++t) gradients.push_back(make());
  return gradients;
}

std::vector<at::Tensor> graded(Draw draw, std::int64_t m, std::int64_t n, double last) {
  const std::int64_t k = std::min(m, n);
  const at::Tensor values = at::logspace(0.0, std::log10(last), k, 10.0, at::kDouble);
  const at::Tensor right = (draw.orthonormal(n, k) * values).t();
  return each_step([&] { return at::matmul(draw.orthonormal(m, k), right); });
}

}  // namespace

std::vector<AuditInput> audit_inputs(std::int64_t m, std::int64_t n, std::uint64_t seed) {
  const std::int64_t k = std::min(m, n), rank = std::max<std::int64_t>(1, k / 2);
  const auto gaussian = [&](std::string_view name) {
    Draw draw(seed, name);
    return each_step([&] { return draw.normal(m, n); });
  };
  std::vector<AuditInput> inputs = {{"gaussian", gaussian("gaussian")}};
  if (k > 1) {
    inputs.push_back({"spectrum 1..1e-3", graded({seed, "spectrum 1e-3"}, m, n, 1e-3)});
    inputs.push_back({"spectrum 1..1e-6", graded({seed, "spectrum 1e-6"}, m, n, 1e-6)});
    Draw low(seed, "low rank");
    const at::Tensor right = low.integers(rank, n);
    inputs.push_back({"low rank", each_step([&] { return at::matmul(low.integers(m, rank), right); })});
    Draw noisy(seed, "low rank + noise");
    const at::Tensor basis = noisy.normal(rank, n);
    inputs.push_back({"low rank + noise",
                      each_step([&] { return at::matmul(noisy.normal(m, rank), basis) + noisy.normal(m, n) * 1e-3; })});
  }
  if (m > 1) {
    inputs.push_back({"zero row", gaussian("zero row")});
    for (at::Tensor& gradient : inputs.back().gradients) gradient[m / 2].zero_();
    inputs.push_back({"huge row", gaussian("huge row")});
    for (at::Tensor& gradient : inputs.back().gradients) gradient[m / 2].mul_(1e4);
  }
  inputs.push_back({"norm 1e-6", gaussian("norm 1e-6")});
  for (at::Tensor& gradient : inputs.back().gradients) gradient.mul_(1e-6 / gradient.norm().item<double>());
  return inputs;
}

}  // namespace equisweep
