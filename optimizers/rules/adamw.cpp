// adamw: momentum and second moment, both bias-corrected, coordinate by coordinate.
//
//   m = b1 m + (1 - b1) G,  v = b2 v + (1 - b2) G o G,  U = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
//
// Shapes:    any; two state tensors like the gradient.
// Symmetry:  signed permutations of coordinates, hence of rows and of columns; not rotations.
// Cost:      28 bytes a parameter (fp32) with the weight on the CPU, 88 in separate operations elsewhere; no products.
// Source:    Loshchilov & Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101; the baseline of Lau & Su,
//            arXiv:2605.18106. eps is added after the bias correction, as in the paper; the AdamW inside the published
//            Muon class adds it before.

#include <ATen/ATen.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "optimizers/kernels/step.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class AdamW final : public FusedRule {
 public:
  explicit AdamW(const nlohmann::json& options)
      : beta1_(options.at("betas").at(0)), beta2_(options.at("betas").at(1)), eps_(options.at("eps")) {
    refuse_view(options, "adamw");
  }

  std::vector<std::string> slots() const override { return {"m", "v"}; }

  Symmetry symmetry() const override { return {Group::signed_permutation, Group::signed_permutation, false}; }
  bool coordinatewise() const override { return true; }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor &m = state.slots.at(0), &v = state.slots.at(1);
    const at::Tensor g = gradient.to(m.scalar_type());
    const AdamCoefficients c = coefficients(++state.step);
    m.lerp_(g, 1.0 - beta1_);
    v.mul_(beta2_).addcmul_(g, g, 1.0 - beta2_);
    at::Tensor root = at::sqrt(v).div_(std::sqrt(c.correction2)).add_(eps_);
    return at::div_out(root, m, root).div_(c.correction1).to(gradient.scalar_type());
  }
  bool fused(const FusedStep& step, const FusedMomentum&, RuleState& state, const BlockInfo&) const override {
    adam_step(step, state.slots.at(0), state.slots.at(1), coefficients(state.step));
    return true;
  }

 private:
  AdamCoefficients coefficients(std::int64_t step) const {
    const auto t = static_cast<double>(step);
    return {beta1_, beta2_, eps_, 1.0 - std::pow(beta1_, t), 1.0 - std::pow(beta2_, t)};
  }

  double beta1_, beta2_, eps_;
};

}  // namespace

RuleInfo adamw_rule() {
  return {
      .name = "adamw",
      .summary = "Adam with decoupled weight decay",
      .equation = "U = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)",
      .symmetry = "signed permutations of coordinates",
      .source = "Loshchilov & Hutter, arXiv:1711.05101",
      .fields = {{.name = "betas",
                  .kind = FieldKind::number_list,
                  .default_json = "[0.9, 0.95]",
                  .doc = "decay of the first and second moment, each in [0, 1)",
                  .min = 0,
                  .max = 0x1.fffffffffffffp-1,
                  .length = 2},
                 eps_field()},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<AdamW>(options); },
      .degree = scale_free};
}

}  // namespace equisweep
