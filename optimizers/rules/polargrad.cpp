// polargrad: the polar factor times a power of the nuclear norm, momentum first or polar first.
//
//   momentum first:  M = b M + (1 - b) G,              U = nu(S)^alpha * f(S)
//   polar_first:     P = b P + (1 - b) f(G),           U = nu(G)^alpha * P, nu of the current gradient only
//   f ~ polar,  nu(X) = <X, f(X)>,  S = M (or P) or, with Nesterov, the new term and b times it;  centred: Pi before and
//   after
//
// Shapes:    [..., m, n]; one state tensor like the gradient: M, or P where the polar factor comes first.
// Symmetry:  O(m) x O(n); centred P(m) x O(n) and shared shifts.
// Cost:      that of the backend; 32 bytes a parameter (fp32) beside it.
// Source:    Lau, Long & Su, PolarGrad, arXiv:2505.21799.
//
// Unlike the published code, QDWH runs until it has converged (there: two iterations), and the momentum of polar_first is
// always stored (there: never in the data-parallel variant).

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class PolarGrad final : public FusedRule {
 public:
  explicit PolarGrad(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")},
        alpha_(options.at("alpha")),
        polar_first_(options.at("polar_first")),
        centered_(options.at("centered")),
        polar_(make_polar(options.at("polar"))) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return polar_symmetry(centered_); }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    if (!polar_first_)
      return scaled_polar(*polar_, momentum_.fold(gradient, state), alpha_, centered_).to(gradient.scalar_type());
    const at::Tensor g = gradient.to(state.slots.at(0).scalar_type());
    const at::Tensor x = centered_ ? center_rows(g) : g;
    const at::Tensor factor = polar_->factor(x);
    at::Tensor u = momentum_.fold(factor, state);
    if (alpha_ != 0.0) u = u * nuclear_norm(x, factor).pow_(alpha_);
    if (centered_) u = project_rows(u);
    return u.to(gradient.scalar_type(), /*non_blocking=*/false, /*copy=*/u.is_alias_of(state.slots[0]));
  }
  bool has_loops() const override { return !polar_first_; }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return polar_step(step, momentum,
                      {.polar = *polar_, .rows = {.center = centered_, .normalize = false}, .alpha = alpha_});
  }

 private:
  Momentum momentum_;
  double alpha_;
  bool polar_first_, centered_;
  std::unique_ptr<Polar> polar_;
};

}  // namespace

RuleInfo polargrad_rule() {
  return {.name = "polargrad",
          .summary = "the polar factor of the momentum times a power of its nuclear norm",
          .equation = "U = nu^alpha * polar(M); polar_first: nu(G)^alpha * EMA(polar(G))",
          .symmetry = "O(m) x O(n); centered: P(m) x O(n) + shift",
          .source = "Lau, Long & Su, arXiv:2505.21799",
          .fields = {beta_field(),
                     nesterov_field(false),
                     alpha_field(1),
                     {.name = "polar_first",
                      .kind = FieldKind::boolean,
                      .default_json = "false",
                      .doc = "average polar factors of gradients instead of gradients"},
                     centered_field(),
                     polar_field()},
          .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> {
            return std::make_unique<PolarGrad>(options);
          },
          .degree = degree_alpha};
}

}  // namespace equisweep
