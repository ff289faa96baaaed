// polar_express and newton_schulz: odd quintic polynomials iterated on X itself.
//
//   X_0 = X / (safety ||X||_F),  X <- a X + b (X X^T) X + c (X X^T)^2 X
//
// The Gram matrix is formed on the short side, so k x l with k <= l costs (4 k^2 l + 2 k^3) flops a step, whichever way the
// block lies. Five Polar Express steps do not converge: singular values with s / ||X||_F >= 1e-2 land in [0.859, 1.141].
// precision bf16 stores X and the products in bf16, as the published Muon does; rounding noise in the null space is then
// raised to order one.
// Sources: Amsel et al., The Polar Express, arXiv:2505.16932; Jordan et al., Muon (2024), for (3.4445, -4.7750, 2.0315).

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

constexpr Quintic kNewtonSchulz = {3.4445, -4.7750, 2.0315};

class Polynomial final : public Polar {
 public:
  explicit Polynomial(const nlohmann::json& options)
      : steps_(coefficients_of(options)), safety_(safety_of(options)), options_(options) {}

  at::Tensor factor(const at::Tensor& x) const override {
    at::Tensor y = normalized_batch(x, safety_, options_);
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
    return (turned ? y.mT() : y).to(x.scalar_type()).reshape(x.sizes());
  }

 private:
  std::vector<Quintic> steps_;
  double safety_;
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
