#pragma once
// Small update rules that are right, each with switches that make it wrong in one way: the mutants that an audit must find.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/update_rule.h"

namespace equisweep::testing {

/// M = 0.9 M + 0.1 G in slot 0.
inline at::Tensor average(const at::Tensor& gradient, RuleState& state) {
  ++state.step;
  return state.slots.at(0).lerp_(gradient.to(state.slots[0].scalar_type()), 0.1);
}

inline at::Tensor without_mean_row(const at::Tensor& x) { return x - x.mean(-2, true); }

/// U = rn(M) or, centred, Pi rn(Pi M).
struct RowNorm : UpdateRule {
  bool centered = false;
  bool wrong_axis = false;            ///< divides columns by their norms
  bool no_second_projection = false;  ///< rn(Pi M)
  explicit RowNorm(bool is_centered = false) : centered(is_centered) {}
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    at::Tensor x = average(gradient, state);
    if (centered) x = without_mean_row(x);
    x = x / at::linalg_vector_norm(x, 2, at::IntArrayRef{wrong_axis ? -2 : -1}, true).add(1e-8);
    if (centered && !no_second_projection) x = without_mean_row(x);
    return x.to(gradient.scalar_type());
  }
  Symmetry symmetry() const override {
    return {centered ? Group::permutation : Group::signed_permutation, Group::orthogonal, centered};
  }
};

/// U = sqrt(max(1, fan_out / fan_in)) polar(M), by a truncated SVD.
struct PolarRule : UpdateRule {
  bool scale_of_stored_shape = false;      ///< the scale of the rows and columns that it is given
  bool scale_of_transposed_block = false;  ///< tall blocks are transposed first, and the scale is taken from the result
  bool sums_nu_over_batch = false;         ///< times the nuclear norm of all matrices of the batch together
  double absolute_eps = 0;                 ///< M (M^T M + eps I)^(-1/2)
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    const at::Tensor x = average(gradient, state);
    const auto [p, s, q] = at::linalg_svd(x, false);
    const double epsilon = x.scalar_type() == at::kDouble ? 0x1p-52 : 0x1p-23;
    const at::Tensor kept = s > s.narrow(-1, 0, 1) * (epsilon * static_cast<double>(std::max(x.size(-1), x.size(-2))));
    const at::Tensor values = absolute_eps > 0 ? s / (s * s + absolute_eps).sqrt() : kept.to(s.scalar_type());
    at::Tensor u = at::matmul(p * values.unsqueeze(-2), q) * scale(x, block);
    if (sums_nu_over_batch) u = u * s.sum();
    return u.to(gradient.scalar_type());
  }
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }

 private:
  double scale(const at::Tensor& x, const BlockInfo& block) const {
    double out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
    if (scale_of_stored_shape || scale_of_transposed_block) {
      out = static_cast<double>(x.size(-2));
      in = static_cast<double>(x.size(-1));
      if (scale_of_transposed_block && out > in) std::swap(out, in);
    }
    return std::sqrt(std::max(1.0, out / in));
  }
};

/// U = M, stored in some way.
struct Average : UpdateRule {
  enum class Store {
    by_unit,        ///< as it should be
    rows_reversed,  ///< the row that is stored at place i belongs to unit m - 1 - i
    beside_state,   ///< in the rule itself, by the place of the matrix in its batch
    beta_by_place,  ///< in order, but with a beta that depends on the place of the row
  };
  Store store;
  explicit Average(Store how = Store::by_unit) : store(how) {}
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    ++state.step;
    at::Tensor& slot = state.slots.at(0);
    const at::Tensor g = gradient.to(slot.scalar_type());
    switch (store) {
      case Store::by_unit:
        slot.lerp_(g, 0.1);
        return slot.to(gradient.scalar_type(), false, true);
      case Store::rows_reversed:
        slot.lerp_(g.flip({-2}), 0.1);
        return slot.flip({-2}).to(gradient.scalar_type());
      case Store::beside_state: {
        at::Tensor& hidden = hidden_[fmt_key(g)];
        hidden = hidden.defined() ? at::lerp(hidden, g, 0.1) : g * 0.1;
        return hidden.to(gradient.scalar_type(), false, true);
      }
      case Store::beta_by_place: {
        const at::Tensor weight = at::linspace(0.1, 0.2, g.size(-2), g.options()).unsqueeze(1);
        slot.copy_(slot * (1 - weight) + g * weight);
        return slot.to(gradient.scalar_type(), false, true);
      }
    }
    return {};
  }
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }

 private:
  static std::string fmt_key(const at::Tensor& g) {
    std::string key = std::to_string(static_cast<int>(g.scalar_type()));
    for (const std::int64_t size : g.sizes()) key += "x" + std::to_string(size);
    return key;
  }
  mutable std::map<std::string, at::Tensor> hidden_;
};

}  // namespace equisweep::testing
