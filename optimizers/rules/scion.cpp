// scion: the linear minimisation oracle (LMO) of a norm ball, applied to an average of gradients.
//
//   M = (1 - a) M + a G,  U = radius * lmo(M), for a block m x n:
//   spectral:  sqrt(fan_out / fan_in) * f(M), f ~ polar (no max: wide blocks shrink)
//   row:       each row / (||row|| sqrt(n) + 1e-8), without sqrt(n) unless `normalized`
//   col:       each column / (||column|| / sqrt(m) * k + 1e-8), k = n if `normalized`, else 1
//   sign:      sign(M) / fan_in
//   transpose: the LMO of the transpose, transposed back (m, n are then those of the transpose), for embeddings
//   constrained: W <- (1 - lr) W - lr U, which keeps W in the ball; weight decay is refused then
//
// Shapes:    [..., m, n] (sign: any); one state tensor like the gradient.
// Symmetry:  spectral O(m) x O(n); row signed P(m) x O(n); col O(m) x signed P(n); sign signed permutations.
// Cost:      sign, row and col 44 bytes a parameter (fp32), no products; spectral that of the backend.
// Source:    Pethick et al., Training Deep Learning Models with Norm-Constrained LMOs, arXiv:2502.07529.

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "optimizers/polar/polar.h"
#include "optimizers/rules/parts.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {
namespace {

constexpr double kEps = 1e-8;

enum class Lmo { spectral, row, col, sign };

Lmo lmo_of(const nlohmann::json& options) {
  const std::string name = options.at("lmo").get<std::string>();
  return name == "row" ? Lmo::row : name == "col" ? Lmo::col : name == "sign" ? Lmo::sign : Lmo::spectral;
}

/// Options whose default depends on the LMO; refuses those that it does not have.
nlohmann::json finish(nlohmann::json options) {
  const Lmo lmo = lmo_of(options);
  const std::string name = options.at("lmo").get<std::string>();
  std::vector<Problem> problems;
  const auto refuse = [&](const char* option, const char* allowed) {
    if (options.contains(option))
      problems.push_back({{}, fmt::format("rule scion: '{}' has no effect with lmo {}", option, name), allowed});
  };
  if (lmo != Lmo::spectral) refuse("polar", "polar with lmo spectral");
  if (lmo == Lmo::spectral || lmo == Lmo::sign) {
    refuse("normalized", "normalized with lmo row or col");
    refuse("transpose", "transpose with lmo row or col");
  }
  if (options.at("constrained").get<bool>() && options.at("weight_decay").get<double>() != 0.0)
    problems.push_back(
        {{}, "rule scion: weight_decay has no place beside constrained, which decays by lr", "weight_decay: 0"});
  if (!problems.empty()) throw UsageError(std::move(problems));
  if (lmo == Lmo::spectral && !options.contains("polar"))
    options["polar"] = complete(polar_field().fields, nlohmann::json::object(), "polar");
  if (lmo == Lmo::row || lmo == Lmo::col) {
    if (!options.contains("normalized")) options["normalized"] = lmo == Lmo::row;
    if (!options.contains("transpose")) options["transpose"] = false;
  }
  return options;
}

class Scion final : public FusedRule {
 public:
  explicit Scion(const nlohmann::json& options)
      : momentum_{.beta = 1.0 - options.at("a").get<double>()},
        radius_(options.at("radius")),
        lmo_(lmo_of(options)),
        normalized_(options.value("normalized", false)),
        transpose_(options.value("transpose", false)),
        constrained_(options.at("constrained")),
        polar_(lmo_ == Lmo::spectral ? make_polar(options.at("polar")) : nullptr) {}

  std::vector<std::string> slots() const override { return {"momentum"}; }

  Symmetry symmetry() const override {
    if (lmo_ == Lmo::spectral) return {Group::orthogonal, Group::orthogonal, false};
    if (lmo_ == Lmo::sign) return {Group::signed_permutation, Group::signed_permutation, false};
    if ((lmo_ == Lmo::row) != transpose_) return {Group::signed_permutation, Group::orthogonal, false};
    return {Group::orthogonal, Group::signed_permutation, false};
  }

  double retained(double lr, double weight_decay) const override {
    return constrained_ ? 1.0 - lr : UpdateRule::retained(lr, weight_decay);
  }

  bool coordinatewise() const override { return lmo_ == Lmo::sign; }

 protected:
  at::Tensor definition(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    const at::Tensor s = momentum_.fold(gradient, state);
    at::Tensor u = transpose_ ? lmo(s.mT(), block).mT() : lmo(s, block);
    return u.mul_(radius_).to(gradient.scalar_type());
  }
  FusedMomentum momentum_of(const RuleState& state) const override { return momentum_.fused(state); }
  bool fused(const FusedStep& step, const FusedMomentum& momentum, RuleState&, const BlockInfo& block) const override {
    const auto out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
    if (lmo_ == Lmo::spectral) return polar_step(step, momentum, {.polar = *polar_, .scale = std::sqrt(out / in) * radius_});
    if (lmo_ == Lmo::sign) {
      sign_step(step, momentum, radius_ / in);
      return true;
    }
    const std::int64_t m = step.gradient.size(-2), n = step.gradient.size(-1);
    const double factor = transpose_ ? norm_factor(n, m) : norm_factor(m, n);
    return rows_step(step, momentum, {.factor = factor, .eps = kEps, .gain = radius_},
                     /*columns=*/(lmo_ == Lmo::col) != transpose_);
  }

 private:
  at::Tensor lmo(const at::Tensor& x, const BlockInfo& block) const {
    const auto out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
    if (lmo_ == Lmo::spectral) return polar_->factor(x).mul_(std::sqrt(out / in));
    if (lmo_ == Lmo::sign) return sign_of(x).div_(in);
    const std::int64_t axis = lmo_ == Lmo::row ? -1 : -2;
    return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{axis}, /*keepdim=*/true)
                   .mul_(norm_factor(x.size(-2), x.size(-1)))
                   .add_(kEps);
  }

  /// What the norms of the rows or columns of an m x n block are multiplied by.
  double norm_factor(std::int64_t m, std::int64_t n) const {
    const auto rows = static_cast<double>(m), columns = static_cast<double>(n);
    return lmo_ == Lmo::row ? (normalized_ ? std::sqrt(columns) : 1.0) : (normalized_ ? columns : 1.0) / std::sqrt(rows);
  }

  Momentum momentum_;
  double radius_;
  Lmo lmo_;
  bool normalized_, transpose_, constrained_;
  std::unique_ptr<Polar> polar_;
};

}  // namespace

RuleInfo scion_rule() {
  Field polar = polar_field();
  polar.default_json = "null";
  polar.doc = "lmo spectral only: how the polar factor is approximated; the default backend if left out";
  return {
      .name = "scion",
      .summary = "the linear minimisation oracle of a norm ball",
      .equation = "U = radius * lmo(M); spectral: sqrt(fan_out/fan_in) polar(M)",
      .symmetry =
          "that of its norm: spectral O(m) x O(n), row signed P(m) x O(n), col O(m) x signed P(n), sign signed "
          "permutations",
      .source = "Pethick et al., arXiv:2502.07529",
      .fields =
          {{.name = "a",
            .kind = FieldKind::number,
            .default_json = "0.1",
            .doc = "weight of the new gradient: M = (1 - a) M + a G",
            .min = 0,
            .max = 1,
            .above_min = true},
           {.name = "radius",
            .kind = FieldKind::number,
            .default_json = "1.0",
            .doc = "radius of the norm ball",
            .min = 0,
            .max = 1e12,
            .above_min = true},
           {.name = "lmo",
            .kind = FieldKind::choice,
            .default_json = "\"spectral\"",
            .doc = "norm: spectral for hidden matrices, row or col for embeddings, sign for the output layer",
            .choices = {"spectral", "row", "col", "sign"}},
           {.name = "normalized",
            .kind = FieldKind::boolean,
            .default_json = "null",
            .doc = "lmo row or col only: divide by the RMS of the other side too; true for row, false for col if left out"},
           {.name = "transpose",
            .kind = FieldKind::boolean,
            .default_json = "null",
            .doc = "lmo row or col only: the LMO of the transpose, transposed back; false if left out"},
           {.name = "constrained",
            .kind = FieldKind::boolean,
            .default_json = "false",
            .doc = "W <- (1 - lr) W - lr U, in place of weight decay"},
           std::move(polar)},
      .make = [](const nlohmann::json& options) -> std::unique_ptr<UpdateRule> { return std::make_unique<Scion>(options); },
      .finish = finish,
      .degree = scale_free};
}

}  // namespace equisweep
