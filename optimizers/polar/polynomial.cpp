// polar_express and newton_schulz: odd quintic polynomials iterated on X itself.
//
//   X_0 = X / (safety ||X||_F),  X <- a X + b (X X^T) X + c (X X^T)^2 X
//
// The Gram matrix is formed on the short side, so k x l with k <= l costs (4 k^2 l + 2 k^3) flops a step, whichever way the
// block lies. Five Polar Express steps do not converge: singular values with s / ||X||_F >= 1e-2 land in [0.859, 1.141].
// In fp32 on the CPU, blocks with l > 1.5 k take the same polynomials by way of the small Gram matrix (symmetric.cpp), which
// costs at most (8 l/k + 28) k^3 flops for five steps in place of (20 l/k + 10) k^3.
// precision bf16 stores X and the products in bf16, as the published Muon does; rounding noise in the null space is then
// raised to order one. On the tile registers or vectors of a CPU a matrix stays in its caches for all steps (tiles.cpp).
// Sources: Amsel et al., The Polar Express, arXiv:2505.16932; Jordan et al., Muon (2024), for (3.4445, -4.7750, 2.0315).

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "core/kernels.h"
#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

constexpr Quintic kNewtonSchulz = {3.4445, -4.7750, 2.0315};

class Polynomial final : public Polar {
 public:
  explicit Polynomial(const nlohmann::json& options)
      : steps_(coefficients_of(options)),
        safety_(safety_of(options)),
        by_gram_(steps_.size() <= 5 && !options.contains("coefficients")),
        options_(options) {}

  at::Tensor factor(const at::Tensor& x) const override {
    return iterate(normalized_batch(x, safety_, options_)).to(x.scalar_type()).reshape(x.sizes());
  }

  std::optional<PolarStart> start(at::ScalarType working) const override {
    return PolarStart{safety_, precision_dtype(options_, working)};
  }

  at::Tensor iterate(at::Tensor y) const override {
    if (kernels() == Kernels::fused && y.is_cpu() && y.scalar_type() != at::kBFloat16) {
      const std::int64_t shorter = std::min(y.size(-2), y.size(-1)), longer = std::max(y.size(-2), y.size(-1));
      return iterate_by_blas(y, steps_, by_gram_ && y.scalar_type() == at::kFloat && 2 * longer > 3 * shorter);
    }
    if (kernels() == Kernels::fused && y.is_cpu())
      if (const std::optional<at::Tensor> result = iterate_on_tiles(y, steps_)) return *result;
    // Products into a tensor with its axes swapped are a thousand times slower in bf16, so y is dense: a block that is seen
    // as columns of the stored weight is worked on as it is stored.
    const bool turned = !y.is_contiguous() && y.mT().is_contiguous();
    y = turned ? y.mT() : y.contiguous();
    const bool tall = y.size(-2) > y.size(-1);
    const std::int64_t k = std::min(y.size(-2), y.size(-1));
    at::Tensor gram = at::empty({y.size(0), k, k}, y.options()), polynomial = at::empty_like(gram);
    at::Tensor next = at::empty(y.sizes(), y.options());
    for (const auto& [a, b, c] : steps_) {
      if (tall)
        at::bmm_out(gram, y.mT(), y);
      else
        at::bmm_out(gram, y, y.mT());
      at::baddbmm_out(polynomial, gram, gram, gram, b, c);
      if (tall)
        at::baddbmm_out(next, y, y, polynomial, a, 1.0);
      else
        at::baddbmm_out(next, y, polynomial, y, a, 1.0);
      std::swap(y, next);
    }
    return turned ? y.mT() : y;
  }

 private:
  std::vector<Quintic> steps_;
  double safety_;
  bool by_gram_;  ///< the Gram form is known to be accurate enough in fp32 for these coefficients
  nlohmann::json options_;
};

std::unique_ptr<Polar> make_polynomial(const nlohmann::json& options, GramSide) {
  return std::make_unique<Polynomial>(options);
}

}  // namespace

PolarMethod polar_express_method() {
  return {.name = "polar_express",
          .summary = "optimal odd quintics; five steps land in [0.86, 1.14]",
          .source = "arXiv:2505.16932",
          .default_steps = 5,
          .options = {"steps", "precision", "coefficients", "safety"},
          .precisions = {"working", "bf16", "fp32", "fp64"},
          .precision_note = "",
          .defaults = [](const nlohmann::json& options) -> PolarDefaults {
            // The five-step list was made for at most five steps; the eight-step one, with its own safety, serves more.
            const int count = options.at("steps").get<int>();
            if (count > 5) return {"fro", 1.01, eight_step_list(1.01, count)};
            return {"fro", 1.02, {five_step_list().begin(), five_step_list().begin() + count}};
          },
          .make = make_polynomial};
}

PolarMethod newton_schulz_method() {
  return {.name = "newton_schulz",
          .summary = "one fixed quintic, Muon as first published",
          .source = "Jordan et al., Muon (2024)",
          .default_steps = 5,
          .options = {"steps", "precision", "coefficients", "safety"},
          .precisions = {"working", "bf16", "fp32", "fp64"},
          .precision_note = "",
          .defaults = [](const nlohmann::json& options) -> PolarDefaults {
            return {"fro", 1.0, std::vector<Quintic>(options.at("steps").get<std::size_t>(), kNewtonSchulz)};
          },
          .make = make_polynomial};
}

}  // namespace equisweep
