// muon: the polar factor of the momentum, so that every singular direction moves alike.
//
//   B = b B + G,  S = G + b B (Nesterov, the default) or B,  X = S or, centred, Pi S
//   U = scale * nu^alpha * f(X)  (centred: Pi again),  f ~ polar,  nu = <X, f(X)>
//   scale: spectral sqrt(max(1, fan_out/fan_in)), match_rms 0.2 sqrt(max(fan_out, fan_in)), none 1
//
// Shapes:    [..., m, n]; one state tensor like the gradient; each matrix of the batch has its own polar factor and nu.
// Symmetry:  O(m) x O(n) of every block (with view heads: of every head); centred P(m) x O(n) and shared shifts.
// Cost:      80 bytes a parameter beside the products, (20 l/k + 10) k^3 flops for five polynomial steps on k x l, k <= l.
// Source:    Jordan et al., Muon (2024); match_rms: Liu et al., arXiv:2502.16982; symmetry: Lau & Su, arXiv:2605.18106.
//
// Unlike the published code: fan_out and fan_in come from the meaning of the block, never from the storage order; the
// result keeps the working precision; no absolute eps on the norm.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

enum class Scale { spectral, match_rms, none };

double scale_of(Scale scale, const BlockInfo& block) {
  const auto out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
  switch (scale) {
    case Scale::spectral:
      return std::sqrt(std::max(1.0, out / in));
    case Scale::match_rms:
      return 0.2 * std::sqrt(std::max(out, in));
    case Scale::none:
      break;
  }
  return 1.0;
}

class Muon final : public FusedRule {
 public:
  explicit Muon(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov"), .form = MomentumForm::heavy_ball},
        scale_(options.at("scale") == "spectral"    ? Scale::spectral
               : options.at("scale") == "match_rms" ? Scale::match_rms
                                                    : Scale::none),
        alpha_(options.at("alpha")),
        centered_(options.at("centered")),
        polar_(make_polar(options.at("polar"))) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return polar_symmetry(centered_); }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    at::Tensor u = scaled_polar(*polar_, s, alpha_, centered_);
    if (const double scale = scale_of(scale_, block); scale != 1.0) u.mul_(scale);
    return u.to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo& block) const override {
    return polar_step(step, momentum,
                      {.polar = *polar_,
                       .rows = {.center = centered_, .normalize = false},
                       .alpha = alpha_,
                       .scale = scale_of(scale_, block)});
  }

 private:
  Momentum momentum_;
  Scale scale_;
  double alpha_;
  bool centered_;
  std::unique_ptr<Polar> polar_;
};

}  // namespace

RuleInfo muon_rule() {
  return {
      .name = "muon",
      .summary = "the polar factor of the momentum",
      .equation = "U = scale * nu^alpha * polar(G + b B); centered: Pi before and after",
      .symmetry = "O(m) x O(n); centered: P(m) x O(n) + shift",
      .source = "Jordan et al., Muon (2024); Lau & Su, arXiv:2605.18106",
      .fields = {beta_field(),
                 nesterov_field(true),
                 {.name = "scale",
                  .kind = FieldKind::choice,
                  .default_json = "\"spectral\"",
                  .doc = "spectral: sqrt(max(1, fan_out/fan_in)); match_rms: 0.2 sqrt(max(fan_out, fan_in)); none: 1",
                  .choices = {"spectral", "match_rms", "none"}},
                 alpha_field(0),
                 centered_field(),
                 polar_field()},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Muon>(options); },
      .degree = degree_alpha};
}

}  // namespace equisweep
