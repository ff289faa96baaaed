// row_norm: every unit's momentum divided by its own norm.
//
//   M = b M + (1 - b) G,  U = rn(S),  rn(X): each row / (its 2-norm + eps),  S = M or, with Nesterov, (1 - b) G + b M
//   centered:             U = Pi rn(Pi S),  Pi = I - (1/m) 1 1^T
//
// Shapes:    [..., m, n], row = unit; one state tensor like the gradient. The state keeps the uncentred momentum.
// Symmetry:  signed P(m) x O(n); centred P(m) x O(n) and shared shifts (a sign flip of one row does not commute with Pi).
//            eps is absolute, so the rule is not scale invariant at row norms near eps.
// Cost:      20 bytes a parameter (fp32) with the weight on the CPU, 28 centred; 44 and 68 in separate operations elsewhere.
// Source:    Lau & Su, arXiv:2605.18106 (row-norm-based update for embeddings, LM heads, SwiGLU and routers).

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class RowNorm final : public FusedRule {
 public:
  explicit RowNorm(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")},
        eps_(options.at("eps")),
        centered_(options.at("centered")) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override {
    return {centered_ ? Group::permutation : Group::signed_permutation, Group::orthogonal, centered_};
  }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    const at::Tensor u = centered_ ? project_rows(normalize_rows(center_rows(s), eps_)) : normalize_rows(s, eps_);
    return u.to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return rows_step(step, momentum, {.center = centered_, .project = centered_, .eps = eps_});
  }

 private:
  Momentum momentum_;
  double eps_;
  bool centered_;
};

}  // namespace

RuleInfo row_norm_rule() {
  return {.name = "row_norm",
          .summary = "every unit's momentum, normalised",
          .equation = "U = rn(M); centered: Pi rn(Pi M)",
          .symmetry = "signed P(m) x O(n); centered: P(m) x O(n) + shift",
          .source = "Lau & Su, arXiv:2605.18106",
          .fields = {beta_field(), nesterov_field(false), eps_field(), centered_field()},
          .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> {
            return std::make_unique<RowNorm>(options);
          },
          .degree = scale_free};
}

}  // namespace equisweep
