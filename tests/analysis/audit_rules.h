#pragma once
// Small update rules that are right, each with switches that make it wrong in one way: the mutants that an audit must find.

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "core/update_rule.h"

namespace equisweep::testing {

/// M = 0.9 M + 0.1 G in slot 0.
at::Tensor average(const at::Tensor& gradient, RuleState& state);

/// U = rn(M) or, centred, Pi rn(Pi M).
struct RowNorm : UpdateRule {
  bool centered = false;
  bool wrong_axis = false;            ///< divides columns by their norms
  bool no_second_projection = false;  ///< rn(Pi M)
  explicit RowNorm(bool is_centered = false) : centered(is_centered) {}
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override;
  Symmetry symmetry() const override;
};

/// U = sqrt(max(1, fan_out / fan_in)) polar(M), by a truncated SVD.
struct PolarRule : UpdateRule {
  bool scale_of_stored_shape = false;      ///< the scale of the rows and columns that it is given
  bool scale_of_transposed_block = false;  ///< tall blocks are transposed first, and the scale is taken from the result
  bool sums_nu_over_batch = false;         ///< times the nuclear norm of all matrices of the batch together
  double absolute_eps = 0;                 ///< M (M^T M + eps I)^(-1/2)
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override;
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }

 private:
  double scale(const at::Tensor& x, const BlockInfo& block) const;
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
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override;
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }

 private:
  mutable std::map<std::string, at::Tensor> hidden_;
};

}  // namespace equisweep::testing
