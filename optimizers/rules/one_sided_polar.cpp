// right_polar and left_polar: the polar factor written with one inverse square root.
//
//   right:  U = nu^alpha * S (S^T S)^(-1/2)      left:  U = nu^alpha * (S S^T)^(-1/2) S
//   M = b M + (1 - b) G,  S = M or, with Nesterov, (1 - b) G + b M;  nu = <S, U>;  centred: Pi before and after
//
// The inverse root is taken over the nonzero singular values only, so in exact arithmetic both are the polar factor. They
// differ in which Gram matrix the backend inv_sqrt forms: n x n (right, for tall blocks such as embeddings and LM heads) or
// m x m (left, for routers with few experts), and so in what its damping does.
//
// Shapes:    [..., m, n]; one state tensor like the gradient.
// Symmetry:  O(m) x O(n) (the paper asks for P(m) x O(n), which that contains); centred P(m) x O(n) and shared shifts.
// Cost:      that of the backend; 32 bytes a parameter (fp32) beside it.
// Source:    Lau & Su, arXiv:2605.18106 (one-sided polar updates for vocabularies and routers).
//
// Unlike the published code, the momentum is never normalised in place, damping is relative and 0 by default, and nu is not
// clamped.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class OneSidedPolar final : public FusedRule {
 public:
  OneSidedPolar(const nlohmann::json& options, GramSide side)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")},
        alpha_(options.at("alpha")),
        centered_(options.at("centered")),
        polar_(make_polar(options.at("polar"), side)) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override { return polar_symmetry(centered_); }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    return scaled_polar(*polar_, momentum_.fold(gradient, state), alpha_, centered_).to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return polar_step(step, momentum,
                      {.polar = *polar_, .rows = {.center = centered_, .normalize = false}, .alpha = alpha_});
  }

 private:
  Momentum momentum_;
  double alpha_;
  bool centered_;
  std::unique_ptr<Polar> polar_;
};

std::vector<Field> fields() {
  return {beta_field(), nesterov_field(false), alpha_field(1), centered_field(), polar_field()};
}

constexpr std::string_view kSymmetry = "O(m) x O(n); centered: P(m) x O(n) + shift";
constexpr std::string_view kSource = "Lau & Su, arXiv:2605.18106";

}  // namespace

RuleInfo right_polar_rule() {
  return {.name = "right_polar",
          .summary = "the polar factor by the inverse root of the n x n Gram matrix, for tall blocks",
          .equation = "U = nu^alpha * M (M^T M)^(-1/2)",
          .symmetry = kSymmetry,
          .source = kSource,
          .fields = fields(),
          .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> {
            return std::make_unique<OneSidedPolar>(options, GramSide::right);
          },
          .degree = degree_alpha};
}

RuleInfo left_polar_rule() {
  return {.name = "left_polar",
          .summary = "the polar factor by the inverse root of the m x m Gram matrix, for routers",
          .equation = "U = nu^alpha * (M M^T)^(-1/2) M",
          .symmetry = kSymmetry,
          .source = kSource,
          .fields = fields(),
          .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> {
            return std::make_unique<OneSidedPolar>(options, GramSide::left);
          },
          .degree = degree_alpha};
}

}  // namespace equisweep
