// col_norm: row_norm on the transpose: every feature's momentum divided by its own norm.
//
//   M = b M + (1 - b) G,  U = S / (2-norm of each column of S + eps),  S = M or, with Nesterov, (1 - b) G + b M
//
// Shapes:    [..., m, n], row = unit; one state tensor like the gradient.
// Symmetry:  O(m) x signed P(n). eps is absolute, as in row_norm.
// Cost:      20 bytes a parameter (fp32) with the weight on the CPU, 44 in separate operations elsewhere; no products.
// Source:    Lau & Su, arXiv:2605.18106.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class ColNorm final : public FusedRule {
 public:
  explicit ColNorm(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")}, eps_(options.at("eps")) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return {Group::orthogonal, Group::signed_permutation, false}; }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    return normalize_rows(s.mT(), eps_).mT().to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return rows_step(step, momentum, {.eps = eps_}, /*columns=*/true);
  }

 private:
  Momentum momentum_;
  double eps_;
};

}  // namespace

RuleInfo col_norm_rule() {
  return {.name = "col_norm",
          .summary = "every feature's momentum, normalised",
          .equation = "U = rn(M^T)^T",
          .symmetry = "O(m) x signed P(n)",
          .source = "Lau & Su, arXiv:2605.18106",
          .fields = {beta_field(), nesterov_field(false), eps_field()},
          .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> {
            return std::make_unique<ColNorm>(options);
          },
          .degree = scale_free};
}

}  // namespace equisweep
