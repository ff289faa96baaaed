// sign: the sign of the momentum, scaled so that its norm from RMS to infinity is one.
//
//   M = b M + (1 - b) G,  U = sign(S) / fan_in,  S = M or, with Nesterov, (1 - b) G + b M,  sign(0) = 0
//
// Shapes:    any; one state tensor like the gradient.
// Symmetry:  signed permutations of coordinates, hence of rows and of columns.
// Cost:      20 bytes a parameter (fp32) with the weight on the CPU, 44 in separate operations elsewhere; no products.
// Source:    the output-layer LMO of Scion (Pethick et al., arXiv:2502.07529); Bernstein et al., signSGD, arXiv:1802.04434.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class Sign final : public FusedRule {
 public:
  explicit Sign(const nlohmann::json& options) : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")} {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return {Group::signed_permutation, Group::signed_permutation, false}; }
  bool coordinatewise() const override { return true; }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    return sign_of(s).div_(static_cast<double>(block.fan_in)).to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo& block) const override {
    sign_step(step, momentum, 1.0 / static_cast<double>(block.fan_in));
    return true;
  }

 private:
  Momentum momentum_;
};

}  // namespace

RuleInfo sign_rule() {
  return {
      .name = "sign",
      .summary = "the sign of the momentum over fan_in",
      .equation = "U = sign(M) / fan_in",
      .symmetry = "signed permutations of coordinates",
      .source = "Pethick et al., arXiv:2502.07529 (output layer)",
      .fields = {beta_field(), nesterov_field(false)},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Sign>(options); },
      .degree = scale_free};
}

}  // namespace equisweep
