#include "optimizers/rules/parts.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace equisweep {

at::Tensor FusedRule::direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const {
  if (has_loops()) {
    const at::Tensor like =
        state.slots.empty() ? gradient.to(at::promote_types(gradient.scalar_type(), at::kFloat)) : state.slots[0];
    const auto step = fused_direction(gradient, like);
    if (step && run(*step, state, block)) return step->direction.to(gradient.scalar_type());
  }
  return definition(gradient, state, block);
}

bool FusedRule::update(const BankUpdate& bank, RuleState& state, const BlockInfo& block) const {
  if (!has_loops()) return false;
  const auto step = fused_update(bank, state.slots.empty() ? bank.gradient : state.slots[0]);
  return step && run(*step, state, block);
}

bool FusedRule::run(const FusedStep& step, RuleState& state, const BlockInfo& block) const {
  for (const at::Tensor& slot : state.slots)
    if (slot.strides() != state.slots[0].strides()) return false;
  ++state.step;
  const FusedMomentum folded = momentum_of(state);
  if (fused(step, folded, state, block)) return true;
  if (step.gradient.is_cuda()) {  // what has no form there is left to the definition
    --state.step;
    return false;
  }
  FusedStep fold = step;
  fold.weight = at::Tensor();
  fold.direction = at::empty_like(step.gradient);
  momentum_step(fold, folded);
  FusedStep in_rows;
  in_rows.gradient = fold.direction.contiguous();
  in_rows.direction = at::empty_like(in_rows.gradient);
  TORCH_CHECK(fused(in_rows, {}, state, block), "a rule has no step for rows");
  if (step.weight.defined())
    fused_apply(step.weight, in_rows.direction, step.retained, step.lr);
  else
    step.direction.copy_(in_rows.direction);
  return true;
}

bool polar_step(const FusedStep& step, const FusedMomentum& momentum, const PolarForm& form) {
  if (!factor_fits(step, form.rows.center)) return false;
  const at::ScalarType working = step.gradient.scalar_type();
  const std::optional<PolarStart> start = form.polar.start(working);
  const bool starts = start && (start->dtype == working || start->dtype == at::kBFloat16);
  // On a GPU nu would have to wait for the device.
  if (step.gradient.is_cuda() && (!starts || form.alpha != 0 || form.rows.normalize)) return false;
  FusedStep first = step;
  first.weight = at::Tensor();
  FusedStep last = step;
  at::Tensor x, y;
  if (starts && !form.rows.center && !form.rows.normalize) {
    // S is made of G and M again where it is needed: until then G stays.
    first.zero_gradient = step.zero_gradient && form.alpha == 0;
    last.zero_gradient = step.zero_gradient && form.alpha != 0;
    y = form.polar.iterate(factor_input(first, momentum, start->safety, start->dtype));
  } else {
    last.zero_gradient = false;
    first.direction = x = at::empty_like(step.gradient);
    if (form.rows.center || form.rows.normalize) {
      if (!rows_step(first, momentum, form.rows)) return false;
    } else {
      momentum_step(first, momentum);
    }
    FusedStep given;
    given.gradient = x;
    y = starts ? form.polar.iterate(factor_input(given, {}, start->safety, start->dtype))
               : form.polar.factor(x).reshape({-1, x.size(-2), x.size(-1)});
  }
  std::vector<double> gain(static_cast<std::size_t>(y.size(0)), form.scale);
  if (form.alpha != 0) {
    const std::vector<double> nu = factor_nu(step, momentum, x, y);
    for (std::size_t k = 0; k < gain.size(); ++k) gain[k] *= std::pow(nu[k], form.alpha);
  }
  factor_step(last, y, gain, form.rows.center);
  return true;
}

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

FusedMomentum Momentum::fused(const RuleState& state) const {
  return {.m = state.slots.at(0), .keep = beta, .take = form == MomentumForm::ema ? 1.0 - beta : 1.0, .nesterov = nesterov};
}

at::Tensor project_rows(const at::Tensor& x) { return x - x.mean(-2, /*keepdim=*/true); }

at::Tensor center_rows(const at::Tensor& x) {
  at::Tensor centered = project_rows(x);
  const double unit_roundoff = x.scalar_type() == at::kDouble ? 0x1p-53 : 0x1p-24;
  const double noise = static_cast<double>(x.size(-2)) * unit_roundoff;
  const at::Tensor dropped = at::linalg_vector_norm(centered, 2, at::IntArrayRef{-1}, /*keepdim=*/true) <=
                             at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true) * noise;
  return at::where(dropped, at::zeros({}, x.options()), centered);  // NaN is not dropped
}

at::Tensor sign_of(const at::Tensor& x) { return at::where(at::isnan(x), x, at::sign(x)); }

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
          .min = 1e-37,  // fp32 counts smaller numbers as zero
          .max = 1e12};
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
