// Shapes: B batch of any rank, m x n the matrices, k = min(m, n), p = min(4, k).
#include "analysis/diagnostics/power_iteration.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
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

}  // namespace

at::Tensor PowerIteration::measure(const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(x.dim() >= 2 && x.numel() > 0, "a batch of matrices is needed, got shape ", x.sizes());
  at::Tensor x_Bmn = x.detach();
  if (x_Bmn.scalar_type() != at::kDouble) x_Bmn = x_Bmn.to(at::kFloat);

  // Scaling by the largest entry first keeps squares inside the range of fp32.
  const at::Tensor largest = x_Bmn.abs().amax({-2, -1}, /*keepdim=*/true);
  const at::Tensor usable = largest.isfinite() & largest.gt(0);
  at::Tensor unit_Bmn = at::where(usable, x_Bmn / at::where(usable, largest, at::ones_like(largest)), at::zeros_like(x_Bmn));
  const at::Tensor frobenius = unit_Bmn.square().sum({-2, -1}, true).sqrt().clamp_min(1);  // >= 1 unless all zero
  unit_Bmn = unit_Bmn / frobenius;
  const at::Tensor nan = at::full_like(largest, std::numeric_limits<double>::quiet_NaN());
  const at::Tensor scale = at::where(usable | largest.eq(0), largest * frobenius, nan);

  const std::int64_t k = std::min(x.size(-2), x.size(-1));
  const std::int64_t p = std::min(kVectors, k);
  const at::Tensor a_Bkk =
      x.size(-2) < x.size(-1) ? at::matmul(unit_Bmn, unit_Bmn.mT()) : at::matmul(unit_Bmn.mT(), unit_Bmn);

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
