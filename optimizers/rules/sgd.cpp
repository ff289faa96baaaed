// sgd: the momentum itself.
//
//   ema:        M = b M + (1 - b) G,  U = M   or, with Nesterov,  (1 - b) G + b M
//   heavy_ball: B = b B + G,          U = B   or, with Nesterov,  G + b B
//
// Shapes:    any; one state tensor like the gradient.
// Symmetry:  everything linear and isometric, so O(m) x O(n): the positive control of every audit.
// Cost:      20 bytes a parameter (fp32) with the weight on the CPU, 32 in separate operations elsewhere; no products.
// Source:    Polyak (1964), Nesterov (1983); the linear rule in Lau & Su, arXiv:2605.18106.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class Sgd final : public FusedRule {
 public:
  explicit Sgd(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"),
                  .nesterov = options.at("nesterov"),
                  .form = options.at("momentum_form") == "ema" ? MomentumForm::ema : MomentumForm::heavy_ball} {
    refuse_view(options, "sgd");
  }

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }
  bool coordinatewise() const override { return true; }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    return s.to(gradient.scalar_type(), /*non_blocking=*/false, /*copy=*/!momentum_.nesterov);
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    momentum_step(step, momentum);
    return true;
  }

 private:
  Momentum momentum_;
};

}  // namespace

RuleInfo sgd_rule() {
  return {
      .name = "sgd",
      .summary = "momentum, as it is",
      .equation = "U = M",
      .symmetry = "O(m) x O(n)",
      .source = "Polyak (1964), Nesterov (1983)",
      .fields = {beta_field(),
                 {.name = "momentum_form",
                  .kind = FieldKind::choice,
                  .default_json = "\"ema\"",
                  .doc = "ema: M = b M + (1 - b) G; heavy_ball: M = b M + G",
                  .choices = {"ema", "heavy_ball"}},
                 nesterov_field(false)},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Sgd>(options); },
      .degree = [](const nlohmann::json&) { return 1.0; }};
}

}  // namespace equisweep
