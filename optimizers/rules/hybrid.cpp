// hybrid: row normalisation and the polar factor, one after the other.
//
//   row_then_polar:  U = nu^alpha * f(rn(S));   centred: X = Pi rn(Pi S),  U = Pi nu^alpha f(X),  nu = <X, f(X)>
//   polar_then_row:  U = rn(f(S));              centred: U = Pi rn(f(Pi S))
//   M = b M + (1 - b) G,  S = M or, with Nesterov, (1 - b) G + b M
//
// Without the inner Pi of the centred row_then_polar the update would be no partial isometry; the outer one makes it
// horizontal, 1^T U = 0. A row without momentum stays exactly zero (an SVD would leave noise there, and rn raise it).
//
// Shapes:    [..., m, n], row = unit; one state tensor like the gradient, uncentred.
// Symmetry:  signed P(m) x O(n); centred P(m) x O(n) and shared shifts.
// Cost:      that of the backend; 56 bytes a parameter (fp32) beside it, 80 centred.
// Source:    Lau & Su, arXiv:2605.18106 (hybrid updates).
//
// Unlike the published code, alpha is 0 by default (there nu is a nearly constant factor) and nu belongs to one matrix
// (there it is summed over experts). polar_then_row with alpha is refused: rn removes any factor.

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

class Hybrid final : public FusedRule {
 public:
  explicit Hybrid(const nlohmann::json& options)
      : momentum_{.beta = options.at("beta"), .nesterov = options.at("nesterov")},
        row_first_(options.at("order") == "row_then_polar"),
        alpha_(options.at("alpha")),
        eps_(options.at("eps")),
        centered_(options.at("centered")),
        polar_(make_polar(options.at("polar"))) {
    if (!row_first_ && alpha_ != 0.0)
      throw UsageError({Problem{{},
                                "rule hybrid: alpha has no effect with order polar_then_row, rows are normalised after it",
                                "alpha: 0, or order: row_then_polar"}});
  }

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override {
    return {centered_ ? Group::permutation : Group::signed_permutation, Group::orthogonal, centered_};
  }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    const at::Tensor y = centered_ ? center_rows(s) : s;
    at::Tensor u;
    if (row_first_) {
      const at::Tensor rows = normalize_rows(y, eps_), x = centered_ ? project_rows(rows) : rows;
      u = polar_->factor(x);
      scale_by_nu(u, x, alpha_);
    } else {
      u = normalize_rows(polar_->factor(y), eps_);
    }
    if (centered_) u = project_rows(u);
    return u.to(gradient.scalar_type());
  }
  bool has_loops() const override { return row_first_; }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo&) const override {
    return polar_step(step, momentum,
                      {.polar = *polar_, .rows = {.center = centered_, .project = centered_, .eps = eps_}, .alpha = alpha_});
  }

 private:
  Momentum momentum_;
  bool row_first_;
  double alpha_, eps_;
  bool centered_;
  std::unique_ptr<Polar> polar_;
};

}  // namespace

RuleInfo hybrid_rule() {
  return {
      .name = "hybrid",
      .summary = "row normalisation, then the polar factor, or the other way round",
      .equation = "U = nu^alpha * polar(rn(M)); polar_then_row: rn(polar(M)); centered: Pi before, between and after",
      .symmetry = "signed P(m) x O(n); centered: P(m) x O(n) + shift",
      .source = "Lau & Su, arXiv:2605.18106",
      .fields = {beta_field(),
                 nesterov_field(false),
                 {.name = "order",
                  .kind = FieldKind::choice,
                  .default_json = "\"row_then_polar\"",
                  .doc = "which of the two comes first",
                  .choices = {"row_then_polar", "polar_then_row"}},
                 alpha_field(0),
                 eps_field(),
                 centered_field(),
                 polar_field()},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Hybrid>(options); },
      .degree = scale_free};
}

}  // namespace equisweep
