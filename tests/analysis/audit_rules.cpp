#include "audit_rules.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace equisweep::testing {
namespace {

at::Tensor without_mean_row(const at::Tensor& x) { return x - x.mean(-2, true); }

std::string place_of(const at::Tensor& gradient) {
  std::string place = std::to_string(static_cast<int>(gradient.scalar_type()));
  for (const std::int64_t size : gradient.sizes()) place += "x" + std::to_string(size);
  return place;
}

}  // namespace

at::Tensor average(const at::Tensor& gradient, RuleState& state) {
  ++state.step;
  return state.slots.at(0).lerp_(gradient.to(state.slots[0].scalar_type()), 0.1);
}

at::Tensor RowNorm::direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const {
  at::Tensor x = average(gradient, state);
  if (centered) x = without_mean_row(x);
  x = x / at::linalg_vector_norm(x, 2, at::IntArrayRef{wrong_axis ? -2 : -1}, true).add(1e-8);
  if (centered && !no_second_projection) x = without_mean_row(x);
  return x.to(gradient.scalar_type());
}

Symmetry RowNorm::symmetry() const {
  return {centered ? Group::permutation : Group::signed_permutation, Group::orthogonal, centered};
}

at::Tensor PolarRule::direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const {
  const at::Tensor x = average(gradient, state);
  const auto [p, s, q] = at::linalg_svd(x, false);
  const double epsilon = x.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23;
  const at::Tensor kept = s > s.narrow(-1, 0, 1) * (epsilon * static_cast<double>(std::max(x.size(-1), x.size(-2))));
  const at::Tensor values = absolute_eps > 0 ? s / (s * s + absolute_eps).sqrt() : kept.to(s.scalar_type());
  at::Tensor u = at::matmul(p * values.unsqueeze(-2), q) * scale(x, block);
  if (sums_nu_over_batch) u = u * s.sum();
  return u.to(gradient.scalar_type());
}

double PolarRule::scale(const at::Tensor& x, const BlockInfo& block) const {
  double out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
  if (scale_of_stored_shape || scale_of_transposed_block) {
    out = static_cast<double>(x.size(-2));
    in = static_cast<double>(x.size(-1));
    if (scale_of_transposed_block && out > in) std::swap(out, in);
  }
  return std::sqrt(std::max(1.0, out / in));
}

at::Tensor Average::direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const {
  ++state.step;
  at::Tensor& slot = state.slots.at(0);
  const at::Tensor g = gradient.to(slot.scalar_type());
  switch (store) {
    case Store::by_unit:
      slot.lerp_(g, 0.1);
      break;
    case Store::rows_reversed:
      slot.lerp_(g.flip({-2}), 0.1);
      return slot.flip({-2}).to(gradient.scalar_type());
    case Store::beside_state: {
      at::Tensor& hidden = hidden_[place_of(g)];
      hidden = hidden.defined() ? at::lerp(hidden, g, 0.1) : g * 0.1;
      return hidden.to(gradient.scalar_type(), false, true);
    }
    case Store::beta_by_place: {
      const at::Tensor weight = at::linspace(0.1, 0.2, g.size(-2), g.options()).unsqueeze(1);
      slot.copy_(slot * (1 - weight) + g * weight);
      break;
    }
  }
  return slot.to(gradient.scalar_type(), false, true);
}

}  // namespace equisweep::testing
