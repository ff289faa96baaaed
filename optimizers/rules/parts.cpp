#include "optimizers/rules/parts.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace equisweep {

at::Tensor Momentum::fold(const at::Tensor& gradient, RuleState& state) const {
  at::Tensor& m = state.slots.at(0);
  const at::Tensor g = gradient.to(m.scalar_type());
  ++state.step;
  if (form == MomentumForm::ema) {
    m.lerp_(g, 1.0 - beta);
    return nesterov ? at::lerp(g, m, beta) : m;
  }
  at::add_out(m, g, m, beta);
  return nesterov ? at::add(g, m, beta) : m;
}

at::Tensor project_rows(const at::Tensor& x) { return x - x.mean(-2, /*keepdim=*/true); }

at::Tensor center_rows(const at::Tensor& x) {
  at::Tensor centered = project_rows(x);
  const double unit_roundoff = x.scalar_type() == at::kDouble ? 0x1p-53 : 0x1p-24;
  const double noise = static_cast<double>(x.size(-2)) * unit_roundoff;
  const at::Tensor kept = at::linalg_vector_norm(centered, 2, at::IntArrayRef{-1}, /*keepdim=*/true) >
                          at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true) * noise;
  return at::where(kept, centered, at::zeros({}, x.options()));
}

at::Tensor normalize_rows(const at::Tensor& x, double eps) {
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true).add_(eps);
}

void scale_by_nu(at::Tensor& u, const at::Tensor& x, double alpha) {
  if (alpha == 0.0) return;
  u.mul_(nuclear_norm(x, u).pow_(alpha));
}

at::Tensor nuclear_norm(const at::Tensor& x, const at::Tensor& u) {
  return (x * u).sum(at::IntArrayRef{-2, -1}, /*keepdim=*/true).clamp_min_(0.0);
}

at::Tensor scaled_polar(const Polar& polar, const at::Tensor& x, double alpha, bool centered) {
  const at::Tensor given = centered ? center_rows(x) : x;
  at::Tensor u = polar.factor(given);
  scale_by_nu(u, given, alpha);
  return centered ? project_rows(u) : u;
}

Symmetry polar_symmetry(bool centered) {
  return {centered ? Group::permutation : Group::orthogonal, Group::orthogonal, centered};
}

double scale_free(const nlohmann::json&) { return 0; }

double degree_alpha(const nlohmann::json& options) { return options.at("alpha"); }

Field beta_field(double default_value) {
  return {.name = "beta",
          .kind = FieldKind::number,
          .default_json = fmt::format("{}", default_value),
          .doc = "momentum, in [0, 1)",
          .min = 0,
          .max = 0x1.fffffffffffffp-1};
}

Field nesterov_field(bool default_value) {
  return {.name = "nesterov",
          .kind = FieldKind::boolean,
          .default_json = default_value ? "true" : "false",
          .doc = "look one gradient ahead: the rule acts on G and M, not on M alone"};
}

Field eps_field() {
  return {.name = "eps",
          .kind = FieldKind::number,
          .default_json = "1e-8",
          .doc = "added to the norm or root that is divided by; absolute",
          .min = 0,
          .above_min = true};
}

Field centered_field() {
  return {.name = "centered",
          .kind = FieldKind::boolean,
          .default_json = "false",
          .doc = "subtract the mean row before the rule and again from its result: the update leaves shared shifts alone"};
}

Field alpha_field(double default_value) {
  return {.name = "alpha",
          .kind = FieldKind::number,
          .default_json = fmt::format("{}", default_value),
          .doc = "exponent of nu = <X, f(X)>, the nuclear norm where f is the exact polar factor",
          .min = 0,
          .max = 4};
}

void refuse_view(const nlohmann::json& options, std::string_view rule) {
  const std::string view = options.value("view", "natural");
  if (view != "natural")
    throw UsageError(
        {Problem{{}, fmt::format("rule {}: view '{}' has no effect, every entry is treated alike", rule, view), "no view"}});
}

}  // namespace equisweep
