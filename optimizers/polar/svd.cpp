// svd: the polar factor by a truncated singular value decomposition, the oracle of tests and audits.
//
//   polar(X) = sum over s_i > s_max max(m, n) 2u of p_i q_i^T
//
// Without the truncation the factor of a rank-deficient matrix is completed out of rounding noise and no longer equivariant.
// Rows and columns that are zero in X hold noise of order u in the product and are put back to zero.
// Cost: LAPACK's O(k^2 l) with a large constant; on a GPU slower still.

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

class Svd final : public Polar {
 public:
  explicit Svd(nlohmann::json options) : options_(std::move(options)) {}

  at::Tensor factor(const at::Tensor& x) const override {
    return matrix_by_matrix(x.to(precision_dtype(options_, x.scalar_type())), factor_of).to(x.scalar_type());
  }

 private:
  static at::Tensor factor_of(const at::Tensor& given) {
    const at::Tensor finite = at::isfinite(given).all(-1, true).all(-2, true);
    const at::Tensor safe = at::where(finite, given, at::zeros({}, given.options()));  // LAPACK throws on NaN
    const auto [p, s, q] = at::linalg_svd(safe, /*full_matrices=*/false);
    const double epsilon = given.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23;
    const auto larger_side = static_cast<double>(std::max(given.size(-2), given.size(-1)));
    const at::Tensor kept = s > s.narrow(-1, 0, 1) * (larger_side * epsilon);
    return finish_factor(at::matmul(p * kept.unsqueeze(-2), q), safe, finite);
  }

  nlohmann::json options_;
};

}  // namespace

PolarMethod svd_method() {
  return {.name = "svd",
          .summary = "truncated SVD, exact on the kept singular values",
          .source = "Golub & Van Loan, Matrix Computations",
          .options = {"precision"},
          .precisions = {"working", "fp32", "fp64"},
          .precision_note = "LAPACK has no half precision",
          .defaults = [](const nlohmann::json&) -> PolarDefaults { return {}; },
          .make = [](const nlohmann::json& options, GramSide) -> std::unique_ptr<Polar> {
            return std::make_unique<Svd>(options);
          }};
}

}  // namespace equisweep
