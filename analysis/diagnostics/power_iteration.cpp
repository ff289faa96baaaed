// Shapes: B batch of any rank, m x n the matrices, k = min(m, n), p = min(4, k).
#include "analysis/diagnostics/power_iteration.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/rng.h"

namespace equisweep {
namespace {

constexpr std::int64_t kVectors = 4;
constexpr int kPlainIterations = 3;
constexpr int kDegree = 10;
constexpr int kFirstSweeps = 12;
constexpr int kWarmSweeps = 2;
// Below this part of the largest quotient the bound b is not lowered: T_10(2 / 0.05 - 1) = 4e18 stays far from fp32's limit.
constexpr double kLowestBound = 0.05;

at::Tensor orthonormal(const at::Tensor& v) { return std::get<0>(at::linalg_qr(v)); }

/// X / ||X||_F of the shorter side's Gram matrix [..., k, k], zero where X is zero or not finite, and ||X||_F [..., 1, 1],
/// NaN where X is not finite.
std::pair<at::Tensor, at::Tensor> unit_gram(const at::Tensor& x) {
  TORCH_CHECK(x.dim() >= 2 && x.numel() > 0, "a batch of matrices is needed, got shape ", x.sizes());
  at::Tensor x_Bmn = x.detach();
  if (x_Bmn.scalar_type() != at::kDouble) x_Bmn = x_Bmn.to(at::kFloat);
  // Scaling by the largest entry first keeps squares inside the range of fp32.
  const at::Tensor largest = at::maximum(x_Bmn.amax({-2, -1}, true), x_Bmn.amin({-2, -1}, true).neg());
  const at::Tensor usable = largest.isfinite() & largest.gt(0);
  const at::Tensor unit_Bmn = x_Bmn / at::where(usable, largest, at::ones_like(largest));
  const at::Tensor raw = x.size(-2) < x.size(-1) ? at::matmul(unit_Bmn, unit_Bmn.mT()) : at::matmul(unit_Bmn.mT(), unit_Bmn);
  const at::Tensor gram = at::where(usable, raw, at::zeros_like(raw));
  // ||X||_F^2 is the trace, at least 1 unless all is zero.
  const at::Tensor square = gram.diagonal(0, -2, -1).sum(-1).clamp_min(1).unsqueeze(-1).unsqueeze(-1);
  const at::Tensor nan = at::full_like(largest, std::numeric_limits<double>::quiet_NaN());
  return {gram / square, at::where(usable | largest.eq(0), largest * square.sqrt(), nan)};
}

}  // namespace

at::Tensor PowerIteration::measure(const at::Tensor& x) { return measure(at::TensorList(&x, 1)).squeeze(0); }

at::Tensor PowerIteration::measure(at::TensorList matrices) {
  const at::NoGradGuard no_grad;
  // Each batch by itself up to its Gram matrices, which are small: the matrices are read a few times and copied once.
  std::vector<at::Tensor> grams, scales;
  for (const at::Tensor& x : matrices) {
    const auto [gram, scale] = unit_gram(x);
    grams.push_back(gram);
    scales.push_back(scale);
  }
  const at::Tensor a_Bkk = at::stack(grams), scale = at::stack(scales);
  const std::int64_t k = a_Bkk.size(-1);
  const std::int64_t p = std::min(kVectors, k);
  if (k == 1) return scale.to(at::kDouble).square();  // a single row or column

  std::vector<std::int64_t> shape(a_Bkk.sizes().begin(), a_Bkk.sizes().end());
  shape.back() = p;
  const bool warm =
      vectors_.defined() && vectors_.sizes() == at::IntArrayRef(shape) && vectors_.options().type_equal(a_Bkk.options());
  if (!warm) {
    at::Generator generator = make_generator(seed_, "power iteration");
    vectors_ = orthonormal(at::randn(shape, generator, at::TensorOptions().dtype(a_Bkk.scalar_type())).to(a_Bkk.device()));
  }

  // Plain iterations first: afterwards the largest quotient is near enough to the largest eigenvalue for kLowestBound to
  // mean something, whatever the matrix was at the last call.
  for (int i = 0; i < kPlainIterations; ++i) vectors_ = at::matmul(a_Bkk, vectors_);
  vectors_ = orthonormal(vectors_);

  at::Tensor av = at::matmul(a_Bkk, vectors_);
  const at::Tensor identity = at::eye(k, a_Bkk.options());
  for (int sweep = 0; sweep < (warm ? kWarmSweeps : kFirstSweeps); ++sweep) {
    const at::Tensor quotients = (vectors_ * av).sum(-2);  // [B, p]
    const at::Tensor bound = at::maximum(quotients.amin(-1), kLowestBound * quotients.amax(-1)).clamp_min(1e-30);
    // T_0 = V, T_1 = S V, T_j+1 = 2 S T_j - T_j-1 with S = 2 A / b - I.
    const at::Tensor two_s = a_Bkk * (4 / bound).unsqueeze(-1).unsqueeze(-1) - 2 * identity;
    at::Tensor previous = vectors_;
    at::Tensor current = at::matmul(two_s, vectors_) / 2;
    for (int degree = 2; degree <= kDegree; ++degree) {
      at::Tensor next = at::matmul(two_s, current).sub_(previous);
      previous = std::move(current);
      current = std::move(next);
    }
    vectors_ = orthonormal(current);
    av = at::matmul(a_Bkk, vectors_);
  }
  return at::matmul(vectors_.mT(), av).to(at::kDouble) * scale.to(at::kDouble).square();
}

at::Tensor spectral_norms(const at::Tensor& projections) {
  const at::NoGradGuard no_grad;
  const at::Tensor h = projections.detach().to(at::kCPU, at::kDouble);
  // The eigenvalue solver refuses NaN.
  const at::Tensor finite = h.isfinite().all(-1).all(-1);
  const at::Tensor clean = at::where(finite.unsqueeze(-1).unsqueeze(-1), h, at::zeros_like(h));
  const at::Tensor top = at::linalg_eigvalsh((clean + clean.mT()) / 2).amax(-1).clamp_min(0).sqrt();
  return at::where(finite, top, at::full_like(top, std::numeric_limits<double>::quiet_NaN()));
}

}  // namespace equisweep
