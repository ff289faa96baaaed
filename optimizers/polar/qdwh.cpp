// qdwh: dynamically weighted Halley iterations by QR, run until they have converged.
//
//   X_0 = X / alpha,  alpha = ||X||_F >= ||X||_2,  l_0 = 2u: every singular value that is kept is above l_0 alpha
//   [Q1; Q2] R = [sqrt(c) X; I],  X <- (b/c) X + (a - b/c)/sqrt(c) Q1 Q2^T,  l <- l (a + b l^2) / (1 + c l^2)
//   a = h(l), b = (a - 1)^2 / 4, c = a + b - 1, until l = 1 to rounding: 6 iterations in fp64, 5 in fp32, for every matrix
//
// A rank-deficient matrix would be completed to an isometry out of rounding noise. So the result is projected on the
// eigenvectors of H = U^T X whose eigenvalues, the singular values of X, exceed s_max max(m, n) 2u. Zero stays zero.
// Cost: some 9 m n^2 + 10 n^3 flops an iteration in QR, and two symmetric eigenproblems of the short side.
// Sources: Nakatsukasa, Bai & Gygi, SIAM J. Matrix Anal. Appl. 31 (2010); Lau, Long & Su, arXiv:2505.21799, who stop after
// two iterations (orthogonality error 0.9).

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

at::Tensor qdwh_iterations(at::Tensor y, double epsilon) {
  const std::int64_t m = y.size(-2), n = y.size(-1);
  std::vector<std::int64_t> square(y.sizes().begin(), y.sizes().end());
  square.end()[-2] = n;
  const at::Tensor identity = at::eye(n, y.options()).expand(square);
  for (double l = epsilon; std::abs(1.0 - l) > 4 * epsilon;) {
    const double l2 = l * l, d = std::cbrt(4.0 * (1.0 - l2) / (l2 * l2)), root = std::sqrt(1.0 + d);
    const double a = root + 0.5 * std::sqrt(8.0 - 4.0 * d + 8.0 * (2.0 - l2) / (l2 * root));
    const double b = (a - 1.0) * (a - 1.0) / 4.0, c = a + b - 1.0;
    const at::Tensor q = std::get<0>(at::linalg_qr(at::cat({y * std::sqrt(c), identity}, -2)));
    const at::Tensor product = at::matmul(q.narrow(-2, 0, m), q.narrow(-2, m, n).mT());
    y = (y * (b / c)).add_(product, (a - b / c) / std::sqrt(c));
    l = std::min(1.0, l * (a + b * l2) / (1.0 + c * l2));
  }
  return y;
}

class Qdwh final : public Polar {
 public:
  explicit Qdwh(nlohmann::json options) : options_(std::move(options)) {}
  at::Tensor factor(const at::Tensor& x) const override { return factor_by_qr(x, options_, qdwh_iterations); }

 private:
  nlohmann::json options_;
};

/// U restricted to the eigenvectors of H = U^T X that belong to singular values of X above the cut.
at::Tensor truncate(const at::Tensor& u, const at::Tensor& x, double epsilon) {
  const at::Tensor h = at::matmul(u.mT(), x);
  const auto [values, vectors] = at::linalg_eigh((h + h.mT()).mul_(0.5));
  const double relative = static_cast<double>(std::max(x.size(-2), x.size(-1))) * epsilon;
  const at::Tensor kept = vectors * (values > values.amax(-1, /*keepdim=*/true) * relative).unsqueeze(-2);
  return at::matmul(at::matmul(u, kept), kept.mT());
}

at::Tensor factor_by_qr_of(const at::Tensor& given, at::Tensor (*iteration)(at::Tensor, double)) {
  const at::Tensor finite = at::isfinite(given).all(-1, true).all(-2, true);
  const at::Tensor safe = at::where(finite, given, at::zeros({}, given.options()));
  const bool wide = given.size(-2) < given.size(-1);
  const at::Tensor start = normalize_frobenius(wide ? safe.mT() : safe, 1.0);
  const double epsilon = given.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23;
  // QR of [X; tiny I] is accurate row by row only if its columns come in falling order, and where X is rank deficient that
  // decides (direction errors of 1e-4 without). The eigenvectors of X^T X give the order.
  const at::Tensor basis = std::get<1>(at::linalg_eigh(at::matmul(start.mT(), start))).flip(-1);
  const at::Tensor ordered = at::matmul(start, basis);
  const at::Tensor u = at::matmul(truncate(iteration(ordered, epsilon), ordered, epsilon), basis.mT());
  return finish_factor(wide ? u.mT() : u, safe, finite);
}

}  // namespace

at::Tensor factor_by_qr(const at::Tensor& x, const nlohmann::json& options, at::Tensor (*iteration)(at::Tensor, double)) {
  const IeeeFloat32 ieee;
  const auto factor = [&](const at::Tensor& given) { return factor_by_qr_of(given, iteration); };
  return matrix_by_matrix(x.to(precision_dtype(options, x.scalar_type())), factor).to(x.scalar_type());
}

PolarMethod qdwh_method() {
  return {.name = "qdwh",
          .summary = "QR-based Halley iterations, to convergence",
          .source = "Nakatsukasa, Bai & Gygi (2010); arXiv:2505.21799",
          .options = {"precision"},
          .precisions = {"working", "fp32", "fp64"},
          .precision_note = "LAPACK has no half precision",
          .defaults = [](const nlohmann::json&) -> PolarDefaults { return {}; },
          .make = [](const nlohmann::json& options, GramSide) -> std::unique_ptr<Polar> {
            return std::make_unique<Qdwh>(options);
          }};
}

}  // namespace equisweep
