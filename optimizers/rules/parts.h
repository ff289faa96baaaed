#pragma once
// What several update rules share: momentum, centring, row normalisation, nu^alpha, and the fields of their options.
// All functions treat X [..., m, n] as a batch of matrices and write to none of their const arguments.

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "core/field.h"
#include "core/update_rule.h"
#include "optimizers/kernels/step.h"
#include "optimizers/polar/polar.h"

namespace equisweep {

enum class MomentumForm {
  ema,         ///< M = b M + (1 - b) G; with Nesterov S = (1 - b) G + b M
  heavy_ball,  ///< B = b B + G; with Nesterov S = G + b B
};

/// Momentum as every rule but adamw uses it; state slot 0, starts at zero, no bias correction.
struct Momentum {
  double beta = 0.95;
  bool nesterov = false;
  MomentumForm form = MomentumForm::ema;

  /// Folds `gradient` into `state` (in the state's dtype) and counts the step. Returns M or, with `nesterov`, S; M is the
  /// state's own tensor and must not be written to.
  at::Tensor fold(const at::Tensor& gradient, RuleState& state) const;

  /// The same for loops.
  FusedMomentum fused(const RuleState& state) const;
};

/// A rule that is written twice: as a definition, in ATen's operations, and as a step that touches memory less often. The
/// latter runs on the CPU unless kernels() is reference, whoever asks.
class FusedRule : public UpdateRule {
 public:
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const final;
  bool update(const BankUpdate& bank, RuleState& state, const BlockInfo& block) const final;

 protected:
  /// direction() in ATen's operations.
  virtual at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const = 0;
  /// False for options that have the definition alone.
  virtual bool has_loops() const { return true; }
  /// Of the S that fused() acts on; S = G without.
  virtual FusedMomentum momentum_of(const RuleState& /*state*/) const { return {}; }
  /// The step itself, or false, with nothing touched, for a layout that it cannot walk through: then it is called again with
  /// S in rows. state.step counts the gradient already.
  virtual bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState& state,
                     const BlockInfo& block) const = 0;

 private:
  bool run(const FusedStep& step, RuleState& state, const BlockInfo& block) const;
};

/// U = scale nu^alpha f(X), X = S after the centring and normalisation of `rows`; centred: Pi of that.
struct PolarForm {
  const Polar& polar;
  RowForm rows = {.normalize = false};
  double alpha = 0, scale = 1;
};

/// False, and nothing touched, for a layout without a form.
bool polar_step(const FusedStep& step, const FusedMomentum& momentum, const PolarForm& form);

/// Pi X with Pi = I - (1/m) 1 1^T: the mean row is subtracted. Rows of Pi X with norm <= m u ||row of X|| (u: unit roundoff)
/// are rounding noise of a pure shift and become exactly zero.
at::Tensor center_rows(const at::Tensor& x);

/// Pi X as above, without looking for noise: for the projection after the rule, whose rows nobody raises to order one.
at::Tensor project_rows(const at::Tensor& x);

/// sign(X) with sign(0) = 0 and sign(NaN) = NaN, which at::sign() makes zero.
at::Tensor sign_of(const at::Tensor& x);

/// rn(X): every row divided by (its 2-norm + eps).
at::Tensor normalize_rows(const at::Tensor& x, double eps);

/// nu = <X, f(X)> of each matrix, [..., 1, 1], for the factor `u` = f(X).
at::Tensor nuclear_norm(const at::Tensor& x, const at::Tensor& u);

/// nu^alpha f(X); centred: Pi nu^alpha f(Pi X) with nu of Pi X. A fresh tensor.
at::Tensor scaled_polar(const Polar& polar, const at::Tensor& x, double alpha, bool centered);

/// Of a rule that is the polar factor up to a scalar for each matrix.
Symmetry polar_symmetry(bool centered);

/// Degrees of RuleInfo: U does not see the scale of the gradients, or grows like nu^alpha.
double scale_free(const nlohmann::json& options);
double degree_alpha(const nlohmann::json& options);

/// U *= nu^alpha with nu = <X, U>, one number for each matrix; nothing happens if alpha is 0. A zero matrix gives zero.
void scale_by_nu(at::Tensor& u, const at::Tensor& x, double alpha);

Field beta_field(double default_value = 0.95);
Field nesterov_field(bool default_value);
Field eps_field();
Field centered_field();
Field alpha_field(double default_value);

/// Throws UsageError if `options` name a view: it changes nothing for a rule that treats every entry alike.
void refuse_view(const nlohmann::json& options, std::string_view rule);

}  // namespace equisweep
