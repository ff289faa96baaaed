#include "reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "optimizers/polar/polar.h"
#include "support.h"

namespace equisweep::testing {
namespace {

using nlohmann::json;

const std::vector<std::string> kPolarRules = {"muon", "ssd", "polargrad", "right_polar", "left_polar", "hybrid"};
const std::vector<std::string> kOtherRules = {"adamw", "sgd", "sign", "scion", "row_norm", "col_norm"};

bool among(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

at::Tensor row_norms(const at::Tensor& x) { return (x * x).sum(-1, true).sqrt(); }

at::Tensor centered(const at::Tensor& x) { return x - x.sum(-2, true) / static_cast<double>(x.size(-2)); }

/// Pi X; rows below m u |row of X| are rounding noise and count as zero.
at::Tensor centered_without_noise(const at::Tensor& x) {
  const at::Tensor y = centered(x);
  return y * (row_norms(y) > row_norms(x) * (static_cast<double>(x.size(-2)) * 0x1p-53)).to(at::kDouble);
}

at::Tensor rn(const at::Tensor& x, double eps) { return x / (row_norms(x) + eps); }

double dot_of(const at::Tensor& a, const at::Tensor& b) { return (a * b).sum().item<double>(); }

/// map(matrix i of x, matrix i of y) for every matrix of the batch.
at::Tensor each_matrix(const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>& map) {
  const at::Tensor flat = x.reshape({-1, x.size(-2), x.size(-1)});
  std::vector<at::Tensor> result;
  for (std::int64_t i = 0; i < flat.size(0); ++i) result.push_back(map(flat[i]));
  return at::stack(result).reshape(x.sizes());
}

}  // namespace

Reference::Reference(json entry, json differences)
    : entry_(std::move(entry)), differences_(std::move(differences)), rule_(entry_.at("rule")) {
  polar_differences_ = differences_.value("polar", json::object());
  for (const auto& [key, value] : differences_.items())
    if (!among({"alpha", "eps_before_correction", "momentum_form", "momentum_never_stored", "momentum_overwritten",
                "nu_clamp", "nu_input_normalised", "nu_summed", "polar", "scale_fan", "skipped", "view"},
               key))
      throw std::runtime_error("published difference '" + key + "'");
  for (const auto& [key, value] : polar_differences_.items())
    if (!among({"clamp", "coefficients", "damping_abs", "side", "tiny"}, key))
      throw std::runtime_error("published difference 'polar." + key + "'");
}

bool Reference::knows(const std::string& name) { return among(kPolarRules, name) || among(kOtherRules, name); }

at::Tensor Reference::momentum_of(const at::Tensor& g) {
  const double beta = rule_ == "scion" ? 1 - entry_.at("a").get<double>() : entry_.at("beta").get<double>();
  const bool nesterov = entry_.value("nesterov", false);
  const bool heavy_ball =
      differences_.value("momentum_form", rule_ == "muon" ? "heavy_ball" : entry_.value("momentum_form", "ema")) ==
      "heavy_ball";
  const double gain = heavy_ball ? 1 : 1 - beta;
  if (!m_.defined() || has("momentum_never_stored")) m_ = at::zeros_like(g);
  m_ = beta * m_ + gain * g;
  return nesterov ? gain * g + beta * m_ : m_.clone();
}

at::Tensor Reference::polar(const at::Tensor& x, bool right) const {
  json options = entry_.at("polar");
  const PolarDefaults defaults = polar_defaults(options);
  const std::string method = options.at("method");
  std::vector<Quintic> steps = defaults.coefficients;
  if (options.contains("coefficients")) {
    steps.clear();
    const json& flat = options.at("coefficients");
    for (std::size_t i = 0; i < flat.size(); i += 3) steps.push_back({flat[i], flat[i + 1], flat[i + 2]});
  }
  if (polar_differences_.contains("coefficients")) steps = polar_differences_.at("coefficients").get<std::vector<Quintic>>();
  const auto composite = [&](double value) {
    for (const auto& [a, b, c] : steps) value = a * value + b * std::pow(value, 3) + c * std::pow(value, 5);
    return value;
  };
  const auto larger_side = static_cast<double>(std::max(x.size(0), x.size(1)));
  const double safety = options.value("safety", defaults.safety), tiny = polar_differences_.value("tiny", 0.0);
  const auto normalisation = [&](double norm) {
    return polar_differences_.value("clamp", false) ? std::max(safety * norm, tiny) : safety * norm + tiny;
  };
  if (method == "inv_sqrt") {
    const at::Tensor a = right ? at::matmul(x.t(), x) : at::matmul(x, x.t());
    const double d = options.value("damping", 0.0) * norm_of(a) + polar_differences_.value("damping_abs", 0.0);
    const double n = normalisation(norm_of(a + d * at::eye(a.size(0), a.options())));
    return map_singular_values(x, [&](double s, double largest, double) {
      if (s <= largest * larger_side * 0x1p-52) return 0.0;
      return s / std::sqrt(s * s + d) * composite(std::sqrt((s * s + d) / n));
    });
  }
  return map_singular_values(x, [&](double s, double largest, double frobenius) {
    if (s <= largest * larger_side * 0x1p-52) return 0.0;
    return steps.empty() ? 1.0 : composite(s / normalisation(frobenius));
  });
}

at::Tensor Reference::polar_rule(const at::Tensor& s, const at::Tensor& gradient, const BlockInfo& block) {
  const bool pi = entry_.at("centered"), polar_first = entry_.value("polar_first", false);
  const std::string order = entry_.value("order", "");
  const double eps = entry_.value("eps", 0.0), clamp = differences_.value("nu_clamp", 0.0);
  const double alpha = differences_.value("alpha", entry_.at("alpha").get<double>());
  // One-sided rules say which Gram matrix they mean; the others take that of the shorter side.
  const std::string side = polar_differences_.value("side", rule_ == "right_polar"  ? "right"
                                                            : rule_ == "left_polar" ? "left"
                                                                                    : "");
  const bool right = side.empty() ? s.size(-2) > s.size(-1) : side == "right";

  double nu_of_all = 0;
  const double tiny = polar_differences_.value("tiny", 0.0);
  std::vector<double> nu;
  const auto factor = [&](const at::Tensor& given) {
    at::Tensor x = pi ? centered_without_noise(given) : given;
    if (order == "row_then_polar") x = rn(x, eps);
    if (order == "row_then_polar" && pi) x = centered(x);
    at::Tensor u = polar(x, right);
    nu.push_back(std::max(dot_of(x, u) / (has("nu_input_normalised") ? norm_of(x) + tiny : 1), clamp));
    nu_of_all += nu.back();
    if (order == "polar_then_row") u = u * (row_norms(x) != 0);  // a row of nothing stays nothing
    return u;
  };
  at::Tensor u = each_matrix(polar_first ? gradient : s, factor);
  if (polar_first) u = momentum_of(u);

  double scale = 1;
  const auto out = static_cast<double>(block.fan_out), in = static_cast<double>(block.fan_in);
  if (entry_.value("scale", "") == "spectral") scale = std::sqrt(std::max(1.0, out / in));
  if (entry_.value("scale", "") == "match_rms") scale = 0.2 * std::sqrt(std::max(out, in));
  std::size_t i = 0;
  return each_matrix(u, [&](at::Tensor x) {
    x = x * (alpha == 0 ? scale : scale * std::pow(has("nu_summed") ? nu_of_all : nu.at(i), alpha));
    ++i;
    if (order == "polar_then_row") x = rn(x, eps);
    return pi ? centered(x) : x;
  });
}

at::Tensor Reference::direction(const at::Tensor& given, const BlockInfo& block, const BlockInfo& fan_of_storage) {
  const at::Tensor g = given.to(at::kDouble);
  ++step_;
  if (has("skipped")) return at::zeros_like(g);
  if (rule_ == "adamw") {
    const double b1 = entry_.at("betas").at(0), b2 = entry_.at("betas").at(1), eps = entry_.at("eps");
    if (!m_.defined()) m_ = at::zeros_like(g), v_ = at::zeros_like(g);
    m_ = b1 * m_ + (1 - b1) * g;
    v_ = b2 * v_ + (1 - b2) * g * g;
    const at::Tensor m = m_ / (1 - std::pow(b1, step_));
    if (has("eps_before_correction")) return m / ((v_.sqrt() + eps) / std::sqrt(1 - std::pow(b2, step_)));
    return m / ((v_ / (1 - std::pow(b2, step_))).sqrt() + eps);
  }
  if (among(kPolarRules, rule_)) {
    const bool own_state = rule_ == "ssd" || entry_.value("polar_first", false);
    const at::Tensor s = own_state ? g : momentum_of(g);
    const at::Tensor u = polar_rule(s, g, has("scale_fan") ? fan_of_storage : block);
    if (has("momentum_overwritten"))
      m_ = each_matrix(m_, [&](const at::Tensor& x) { return x / (norm_of(x) + polar_differences_.value("tiny", 0.0)); });
    return u;
  }
  const at::Tensor s = momentum_of(g);
  const auto fan_in = static_cast<double>(block.fan_in), fan_out = static_cast<double>(block.fan_out);
  if (rule_ == "sgd") return s;
  if (rule_ == "sign") return at::sign(s) / fan_in;
  if (rule_ == "col_norm") return rn(s.mT(), entry_.at("eps")).mT();
  if (rule_ == "row_norm")
    return entry_.at("centered") ? centered(rn(centered_without_noise(s), entry_.at("eps"))) : rn(s, entry_.at("eps"));

  TORCH_CHECK(rule_ == "scion", "no reference for ", rule_);
  const double radius = entry_.at("radius");
  const std::string lmo = entry_.at("lmo");
  if (lmo == "sign") return radius * at::sign(s) / fan_in;
  if (lmo == "spectral")
    return radius * std::sqrt(fan_out / fan_in) *
           each_matrix(s, [&](const at::Tensor& x) { return polar(x, x.size(0) > x.size(1)); });
  const bool transpose = entry_.at("transpose"), normalized = entry_.at("normalized");
  const at::Tensor x = transpose ? s.mT() : s;
  const auto m = static_cast<double>(x.size(-2)), n = static_cast<double>(x.size(-1));
  const at::Tensor u = lmo == "row" ? x / (row_norms(x) * (normalized ? std::sqrt(n) : 1.0) + 1e-8)
                                    : x / (row_norms(x.mT()).mT() / std::sqrt(m) * (normalized ? n : 1.0) + 1e-8);
  return radius * (transpose ? u.mT() : u);
}

}  // namespace equisweep::testing
