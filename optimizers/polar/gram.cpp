// gram and inv_sqrt: the same odd quintics, iterated on a small Gram matrix.
//
//   gram:      Y = X / ||X||_F,  R = Y Y^T;   P = a I + b R + c R^2,  Q <- P Q,  R <- P R P;   result Q Y. After two steps
//              Y <- Q Y and R is formed anew, which renews the accuracy that squaring has cost.
//   inv_sqrt:  A = X^T X (right) or X X^T (left) + damping ||A||_F I,  N = 1.02 ||A||_F,  Y = A / N,  Z = I;
//              P = a I + b Y + c Y^2,  Y <- P Y P,  Z <- P Z;   result X Z / sqrt(N) or Z X / sqrt(N)
//
// On singular values both are p(x_0): x_0 = s / ||X||_F for gram, sqrt((s^2 + d) / N) for inv_sqrt, there times
// s / sqrt(s^2 + d). The coefficients are those of the eight-step list divided by 1.05.
//
// Cost: gram (8 l/k + 28) k^3 flops for five steps on k x l against (20 l/k + 10) k^3 of polar_express, so it pays for
// l > 1.5 k. A Gram matrix squares the condition: in bf16 it explodes (refused), TF32 diverges (IEEE fp32 is forced here
// for as long as the products run), and each step raises what rounding has made of its zeros, by up to 8.3^2 at first, until
// a negative one diverges: within 8 steps in fp32 on blocks of rank one. Hence Y is formed anew, by gram after two steps, by
// inv_sqrt as (Z X)(Z X)^T / N + d Z Z^T after five and every second from there on. More steps than are known to be borne
// are refused: ten of gram, twelve of inv_sqrt. Sources: Amsel et al., arXiv:2505.16932 (coefficients); Lau & Su,
// arXiv:2605.18106 (inverse roots for one-sided updates).
//
// Unlike the published code: working precision (there fp16 or fp32), damping relative to ||A||_F (there absolute 1e-8), and
// X is not normalised in place.

#include <ATen/ATen.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "core/kernels.h"
#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

/// a I + b R + c R^2 for symmetric R [B, k, k].
at::Tensor quintic_factor(const Quintic& step, const at::Tensor& r) {
  at::Tensor p = at::baddbmm(r, r, r, step[1], step[2]);
  p.diagonal(0, -2, -1).add_(step[0]);
  return p;
}

class Gram final : public Polar {
 public:
  explicit Gram(const nlohmann::json& options)
      : steps_(coefficients_of(options)), safety_(safety_of(options)), options_(options) {}

  at::Tensor factor(const at::Tensor& x) const override {
    return iterate(normalized_batch(x, safety_, options_)).to(x.scalar_type()).reshape(x.sizes());
  }
  std::optional<PolarStart> start(at::ScalarType working) const override {
    return PolarStart{safety_, precision_dtype(options_, working)};
  }
  at::Tensor iterate(at::Tensor y) const override {
    if (kernels() == Kernels::fused && y.is_cpu()) return iterate_by_blas(y, steps_, /*by_gram=*/true);
    return iterate_on_gram(std::move(y));
  }

 private:
  /// The definition, in ATen's operations.
  at::Tensor iterate_on_gram(at::Tensor y) const {
    constexpr std::size_t kRestart = 2;
    const IeeeFloat32 ieee;
    const bool tall = y.size(-2) > y.size(-1);
    at::Tensor r, q;
    const auto apply = [&] { y = tall ? at::bmm(y, q) : at::bmm(q, y); };
    for (std::size_t step = 0; step < steps_.size(); ++step) {
      if (step == 0 || step == kRestart) {
        if (step > 0) apply();
        r = tall ? at::bmm(y.mT(), y) : at::bmm(y, y.mT());
        q = at::Tensor();
      }
      const at::Tensor p = quintic_factor(steps_[step], r);
      q = q.defined() ? at::bmm(p, q) : p;
      if (step + 1 < steps_.size() && step + 1 != kRestart) r = at::bmm(at::bmm(p, r), p);
    }
    apply();
    return y;
  }

  std::vector<Quintic> steps_;
  double safety_;
  nlohmann::json options_;
};

class InverseRoot final : public Polar {
 public:
  InverseRoot(const nlohmann::json& options, GramSide side)
      : steps_(coefficients_of(options)),
        safety_(safety_of(options)),
        damping_(options.value("damping", 0.0)),
        side_(side),
        options_(options) {}

  at::Tensor factor(const at::Tensor& x) const override {
    const IeeeFloat32 ieee;
    const bool right = side_ == GramSide::right || (side_ == GramSide::shorter && x.size(-2) > x.size(-1));
    // A scale of one keeps the squares of tiny and of huge momenta in range; the result does not see it.
    const at::Tensor y = normalized_batch(x, 1.0, options_);
    const auto gram_of = [&](const at::Tensor& t) { return right ? at::bmm(t.mT(), t) : at::bmm(t, t.mT()); };
    at::Tensor a = gram_of(y);
    const at::Tensor damping = frobenius(a).mul_(damping_);
    if (damping_ != 0.0) a.diagonal(0, -2, -1).add_(damping.squeeze(-1));
    const at::Tensor scale = frobenius(a).mul_(safety_).clamp_min_(std::numeric_limits<float>::min());
    a.div_(scale);
    at::Tensor z;
    const auto renewed_before = [](std::size_t step) { return step >= 5 && step % 2 == 1; };
    for (std::size_t step = 0; step < steps_.size(); ++step) {
      if (renewed_before(step)) {
        a = gram_of(right ? at::bmm(y, z) : at::bmm(z, y));
        if (damping_ != 0.0) a.add_(gram_of(z).mul_(damping));
        a.div_(scale);
      }
      const at::Tensor p = quintic_factor(steps_[step], a);
      // Next to X stands what came first: rounding leaves the factors of Z commuting up to noise only, which the other order
      // would raise without end.
      z = !z.defined() ? p : right ? at::bmm(z, p) : at::bmm(p, z);
      if (step + 1 < steps_.size() && !renewed_before(step + 1)) a = at::bmm(at::bmm(p, a), p);
    }
    at::Tensor u = right ? at::bmm(y, z) : at::bmm(z, y);
    return u.div_(scale.sqrt()).to(x.scalar_type()).view(x.sizes());
  }

 private:
  static at::Tensor frobenius(const at::Tensor& a) {
    return at::linalg_vector_norm(a, 2, at::IntArrayRef{-2, -1}, /*keepdim=*/true);
  }

  std::vector<Quintic> steps_;
  double safety_, damping_;
  GramSide side_;
  nlohmann::json options_;
};

constexpr std::string_view kNote = "the Gram matrix squares the condition, and in half precision the iteration explodes";

}  // namespace

PolarMethod gram_method() {
  return {.name = "gram",
          .summary = "polar_express on the Gram matrix, with one restart: cheaper for tall and wide blocks",
          .source = "arXiv:2505.16932",
          .default_steps = 5,
          .max_steps = 10,
          .options = {"steps", "precision", "coefficients", "safety"},
          .precisions = {"working", "fp32", "fp64"},
          .precision_note = kNote,
          .defaults = [](const nlohmann::json& options) -> PolarDefaults {
            return {"fro", 1.0, eight_step_list(1.05, options.at("steps").get<int>())};
          },
          .make = [](const nlohmann::json& options, GramSide) -> std::unique_ptr<Polar> {
            return std::make_unique<Gram>(options);
          }};
}

PolarMethod inv_sqrt_method() {
  return {
      .name = "inv_sqrt",
      .summary = "coupled iteration for the inverse root of the Gram matrix, one-sided as right_polar and left_polar ask",
      .source = "arXiv:2605.18106",
      .default_steps = 5,
      .max_steps = 12,
      .options = {"steps", "precision", "coefficients", "safety", "damping"},
      .precisions = {"working", "fp32", "fp64"},
      .precision_note = kNote,
      .defaults = [](const nlohmann::json& options) -> PolarDefaults {
        return {"sqrt_gram_fro", 1.02, eight_step_list(1.05, options.at("steps").get<int>())};
      },
      .make = [](const nlohmann::json& options, GramSide side) -> std::unique_ptr<Polar> {
        return std::make_unique<InverseRoot>(options, side);
      }};
}

}  // namespace equisweep
