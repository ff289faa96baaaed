// zolo: Zolotarev's best rational approximation of the sign function of type (17, 16), by QR, composed until it has
// converged.
//
//   X_0 = X / ||X||_F,  l_0 = 2u (as in qdwh);  with K' = K(sqrt(1 - l^2)) and sc = sn / cn of modulus sqrt(1 - l^2):
//   c_i = l^2 sc^2(i K' / 17), i = 1..16,  a_j = -prod_k (c_{2j-1} - c_{2k}) / prod_{k != j} (c_{2j-1} - c_{2k-1})
//   Z(x) = x (1 + sum_j a_j / (x^2 + c_{2j-1})),  X <- Z(X) / Z(1),  l <- Z(l) / Z(1)
//   X (X^T X + c I)^(-1) = Q1 Q2^T / sqrt(c) with [X; sqrt(c) I] = [Q1; Q2] R
//
// The eight terms are independent, so each iteration is one batched QR; two iterations reach fp64 from l = 2u. The norm
// bound is rigorous (the published code estimates it by a random power method), and rank-deficient matrices are truncated as
// in qdwh. Zero stays zero. Sources: Nakatsukasa & Freund, SIAM Review 58 (2016); Lau, Long & Su, arXiv:2505.21799.

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

constexpr int kTerms = 8;

/// sc(u) = tan(am(u)) for the modulus whose complement is `complement`, 0 <= u <= K/2: by the arithmetic-geometric mean, and
/// near modulus one, where that loses half the digits, by the expansion of Abramowitz & Stegun 16.15.
double tangent_of_amplitude(double u, double complement) {
  if (complement < 1e-5) {
    const double bend = 0.25 * complement * complement * (std::sinh(u) * std::cosh(u) - u);
    const double sn = std::tanh(u) + bend / (std::cosh(u) * std::cosh(u));
    return sn * std::cosh(u) / (1.0 - bend * std::tanh(u));
  }
  std::array<double, 64> ratio{};
  double a = 1.0, b = complement, c = std::sqrt((1.0 - complement) * (1.0 + complement));
  std::size_t n = 0;
  while (std::abs(c) > 1e-17 * a && n + 1 < ratio.size()) {
    const double mean = 0.5 * (a + b);
    c = 0.5 * (a - b);
    b = std::sqrt(a * b);
    a = mean;
    ratio[++n] = c / a;
  }
  double phi = std::ldexp(a * u, static_cast<int>(n));
  for (; n > 0; --n) phi = 0.5 * (phi + std::asin(ratio[n] * std::sin(phi)));
  return std::tan(phi);
}

/// The complete elliptic integral K of the modulus whose complement is `complement`.
double complete_integral(double complement) {
  double a = 1.0, b = complement;
  while (std::abs(a - b) > 1e-15 * a) {
    const double mean = 0.5 * (a + b);
    b = std::sqrt(a * b);
    a = mean;
  }
  return 0.5 * std::numbers::pi / a;
}

struct Rational {
  std::array<double, kTerms> weight{}, pole{};
  double at(double x) const {
    double sum = 1.0;
    for (std::size_t j = 0; j < kTerms; ++j) sum += weight[j] / (x * x + pole[j]);
    return x * sum;
  }
};

Rational zolotarev(double l) {
  const double k = complete_integral(l);
  std::array<double, 2 * kTerms + 1> c{};
  for (int i = 1; i <= 2 * kTerms; ++i) {
    const double u = i * k / (2 * kTerms + 1);
    // sc(u) sc(K - u) = 1 / l keeps the tangent away from its pole
    const double sc = u <= 0.5 * k ? tangent_of_amplitude(u, l) : 1.0 / (l * tangent_of_amplitude(k - u, l));
    c[static_cast<std::size_t>(i)] = l * l * sc * sc;
  }
  Rational result;
  for (std::size_t j = 1; j <= kTerms; ++j) {
    double weight = -1.0;
    for (std::size_t i = 1; i <= kTerms; ++i) {
      weight *= c[2 * j - 1] - c[2 * i];
      if (i != j) weight /= c[2 * j - 1] - c[2 * i - 1];
    }
    result.weight[j - 1] = weight;
    result.pole[j - 1] = c[2 * j - 1];
  }
  return result;
}

at::Tensor zolo_iterations(at::Tensor x, double epsilon) {
  const std::int64_t m = x.size(-2), n = x.size(-1);
  for (double l = epsilon; std::abs(1.0 - l) > 8 * epsilon;) {
    const Rational z = zolotarev(l);
    std::vector<double> shifts;
    for (const double pole : z.pole) shifts.push_back(std::sqrt(pole));
    std::vector<std::int64_t> terms(static_cast<std::size_t>(x.dim() + 1), 1), top(x.sizes().begin(), x.sizes().end());
    terms[0] = kTerms;
    top.insert(top.begin(), kTerms);
    std::vector<std::int64_t> bottom = top;
    bottom.end()[-2] = n;
    const at::Tensor shift = at::tensor(shifts, x.options()).view(terms);
    const at::Tensor stacked = at::cat({x.expand(top), (at::eye(n, x.options()) * shift).expand(bottom)}, -2);
    const at::Tensor q = std::get<0>(at::linalg_qr(stacked));
    std::vector<double> weights;
    for (std::size_t j = 0; j < kTerms; ++j) weights.push_back(z.weight[j] / shifts[j]);
    const at::Tensor weighted = q.narrow(-2, 0, m) * at::tensor(weights, x.options()).view(terms);
    const double one = z.at(1.0);
    const std::vector<at::Tensor> products = at::matmul(weighted, q.narrow(-2, m, n).mT()).unbind(0);
    x = x + products[0];  // term by term, so that the sum of a matrix does not depend on its batch
    for (std::size_t j = 1; j < kTerms; ++j) x.add_(products[j]);
    x.div_(one);
    l = std::min(1.0, z.at(l) / one);
  }
  return x;
}

class Zolo final : public Polar {
 public:
  explicit Zolo(nlohmann::json options) : options_(std::move(options)) {}
  at::Tensor factor(const at::Tensor& x) const override { return factor_by_qr(x, options_, zolo_iterations); }

 private:
  nlohmann::json options_;
};

}  // namespace

PolarMethod zolo_method() {
  return {.name = "zolo",
          .summary = "Zolotarev's rational iteration by batched QR, to convergence",
          .source = "Nakatsukasa & Freund (2016); arXiv:2505.21799",
          .options = {"precision"},
          .precisions = {"working", "fp32", "fp64"},
          .precision_note = "LAPACK has no half precision",
          .defaults = [](const nlohmann::json&) -> PolarDefaults { return {}; },
          .make = [](const nlohmann::json& options, GramSide) -> std::unique_ptr<Polar> {
            return std::make_unique<Zolo>(options);
          }};
}

}  // namespace equisweep
