// ssd: stochastic spectral descent, the steepest descent of the spectral norm, without momentum.
//
//   U = nu^alpha * f(G),  f ~ polar,  nu = <G, f(G)>  (the nuclear norm of G where f is exact);  centred: Pi before and
//   after
//
// Shapes:    [..., m, n]; no state.
// Symmetry:  O(m) x O(n); centred P(m) x O(n) and shared shifts.
// Cost:      that of the backend; 12 bytes a parameter (fp32) beside it.
// Source:    Carlson et al., Stochastic Spectral Descent (AISTATS 2015); Lau & Su, arXiv:2605.18106.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class Ssd final : public FusedRule {
 public:
  explicit Ssd(const nlohmann::json& options)
      : alpha_(options.at("alpha")), centered_(options.at("centered")), polar_(make_polar(options.at("polar"))) {}

  std::vector<std::string> slots() const override { return {}; }

  Symmetry symmetry() const override { return polar_symmetry(centered_); }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    ++state.step;
    const at::Tensor g = gradient.to(at::promote_types(gradient.scalar_type(), at::kFloat));
    return scaled_polar(*polar_, g, alpha_, centered_).to(gradient.scalar_type());
  }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return polar_step(step, momentum,
                      {.polar = *polar_, .rows = {.center = centered_, .normalize = false}, .alpha = alpha_});
  }

 private:
  double alpha_;
  bool centered_;
  std::unique_ptr<Polar> polar_;
};

}  // namespace

RuleInfo ssd_rule() {
  return {
      .name = "ssd",
      .summary = "stochastic spectral descent: the polar factor of the gradient times its nuclear norm",
      .equation = "U = nu^alpha * polar(G)",
      .symmetry = "O(m) x O(n); centered: P(m) x O(n) + shift",
      .source = "Carlson et al. (AISTATS 2015)",
      .fields = {alpha_field(1), centered_field(), polar_field()},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Ssd>(options); },
      .degree = degree_alpha};
}

}  // namespace equisweep
