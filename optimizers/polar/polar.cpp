#include "optimizers/polar/polar.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/blas.inc"
#include "core/error.h"
#include "optimizers/polar/methods.h"

namespace equisweep {

std::span<const PolarMethod> polar_methods() {
  static const std::vector<PolarMethod> methods = {
      polar_express_method(), newton_schulz_method(), gram_method(), inv_sqrt_method(),
      qdwh_method(),          zolo_method(),          svd_method()};
  return methods;
}

Field polar_field() {
  std::vector<std::string> names;
  for (const PolarMethod& method : polar_methods()) names.emplace_back(method.name);
  return {
      .name = "polar",
      .kind = FieldKind::map,
      .default_json = "{}",
      .doc = "how the polar factor is approximated",
      .fields = {
          {.name = "method",
           .kind = FieldKind::choice,
           .default_json = "\"polar_express\"",
           .doc = "backend; see docs/rules.md",
           .choices = names},
          {.name = "steps",
           .kind = FieldKind::integer,
           .default_json = "null",
           .doc = "iterations; the method's own number if left out",
           .min = 1,
           .max = 64},
          {.name = "precision",
           .kind = FieldKind::choice,
           .default_json = "\"working\"",
           .doc = "dtype of the products; working: that of the optimizer state",
           .choices = {"working", "bf16", "fp32", "fp64"}},
          {.name = "coefficients",
           .kind = FieldKind::number_list,
           .default_json = "null",
           .doc = "a, b, c of a x + b x^3 + c x^5, one triple a step; the method's own if left out"},
          {.name = "safety",
           .kind = FieldKind::number,
           .default_json = "null",
           .doc = "factor on the norm that X is divided by; the method's own if left out",
           .min = 0,
           .max = 1e6,
           .above_min = true},
          {.name = "damping",
           .kind = FieldKind::number,
           .default_json = "null",
           .doc = "inv_sqrt only: added to the diagonal of the Gram matrix, relative to its Frobenius norm; 0 if left out",
           .min = 0,
           .max = 1e6}}};
}

namespace {

const PolarMethod& find_method(std::string_view name) {
  for (const PolarMethod& method : polar_methods())
    if (method.name == name) return method;
  std::vector<std::string> names;
  for (const PolarMethod& method : polar_methods()) names.emplace_back(method.name);
  throw UsageError({Problem{
      {}, fmt::format("polar: unknown method '{}'", printable(name)), "one of: " + join(names), nearest_name(name, names)}});
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

nlohmann::json complete_polar(const nlohmann::json& options) {
  nlohmann::json result = options;
  const PolarMethod& method = find_method(options.at("method").get<std::string>());
  std::vector<Problem> problems;
  const auto complain = [&](std::string what, std::string allowed) {
    problems.push_back({{}, "polar: " + std::move(what), std::move(allowed)});
  };
  for (const auto& [key, value] : options.items())
    if (key != "method" && key != "precision" && !has(method.options, key))
      complain(fmt::format("'{}' has no effect with method {}", key, method.name), "method, " + join(method.options));
  const std::string precision = options.value("precision", "working");
  if (!has(method.precisions, precision))
    complain(fmt::format("precision {} is refused for method {}: {}", precision, method.name, method.precision_note),
             "one of: " + join(method.precisions));
  if (const auto list = options.find("coefficients"); list != options.end() && has(method.options, "coefficients")) {
    const std::size_t triples = list->size() / 3;
    if (list->empty() || list->size() % 3 != 0)
      complain(fmt::format("{} coefficients are not triples a, b, c", list->size()), "3 numbers a step");
    else if (options.contains("steps") && options.at("steps") != triples)
      complain(fmt::format("{} steps, but coefficients for {}", options.at("steps").get<std::int64_t>(), triples),
               "one triple a step");
    else
      result["steps"] = triples;
  }
  if (result.contains("steps") && has(method.options, "steps") && result.at("steps") > method.max_steps)
    complain(fmt::format("{} steps of method {} diverge on rank-deficient blocks", result.at("steps").get<std::int64_t>(),
                         method.name),
             fmt::format("at most {} steps", method.max_steps));
  if (const auto safety = options.find("safety");
      safety != options.end() && *safety < 1.0 && has(method.options, "safety") && !options.contains("coefficients"))
    complain(fmt::format("safety {} leaves singular values beyond 1, where the coefficients of method {} do not hold",
                         safety->dump(), method.name),
             "at least 1, or coefficients of your own");
  if (!problems.empty()) throw UsageError(std::move(problems));
  if (method.default_steps > 0 && !result.contains("steps")) result["steps"] = method.default_steps;
  result["precision"] = precision;
  return result;
}

PolarDefaults polar_defaults(const nlohmann::json& options) {
  return find_method(options.at("method").get<std::string>()).defaults(options);
}

std::unique_ptr<Polar> make_polar(const nlohmann::json& options, GramSide side) {
  const nlohmann::json complete = complete_polar(options);
  return find_method(complete.at("method").get<std::string>()).make(complete, side);
}

at::Tensor Polar::iterate(at::Tensor /*y*/) const { TORCH_CHECK(false, "this method has no start"); }

std::span<const Quintic> five_step_list() {
  static constexpr std::array<Quintic, 5> list = {{{8.156554524902461, -22.48329292557795, 15.878769915207462},
                                                   {4.042929935166739, -2.808917465908714, 0.5000178451051316},
                                                   {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
                                                   {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
                                                   {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}}};
  return list;
}

std::vector<Quintic> eight_step_list(double safety, int steps) {
  static constexpr std::array<Quintic, 8> list = {{{8.28721201814563, -23.595886519098837, 17.300387312530933},
                                                   {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
                                                   {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
                                                   {3.3184196573706015, -2.488488024314874, 0.51004894012372},
                                                   {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
                                                   {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
                                                   {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
                                                   {1.875, -1.25, 0.375}}};
  std::vector<Quintic> result;
  for (std::size_t i = 0; i < static_cast<std::size_t>(steps); ++i) {
    auto [a, b, c] = list[std::min<std::size_t>(i, 7)];
    const double s = i < 7 ? safety : 1.0, s3 = s * s * s;
    result.push_back({a / s, b / s3, c / (s3 * s * s)});
  }
  return result;
}

std::vector<Quintic> coefficients_of(const nlohmann::json& options) {
  const auto list = options.find("coefficients");
  if (list == options.end()) return polar_defaults(options).coefficients;
  std::vector<Quintic> result;
  for (std::size_t i = 0; i + 2 < list->size(); i += 3) result.push_back({(*list)[i], (*list)[i + 1], (*list)[i + 2]});
  return result;
}

double safety_of(const nlohmann::json& options) {
  return options.contains("safety") ? options.at("safety").get<double>() : polar_defaults(options).safety;
}

at::ScalarType precision_dtype(const nlohmann::json& options, at::ScalarType working) {
  const std::string precision = options.at("precision").get<std::string>();
  if (precision == "bf16") return at::kBFloat16;
  if (precision == "fp32") return at::kFloat;
  if (precision == "fp64") return at::kDouble;
  return working;
}

IeeeFloat32::IeeeFloat32() : before_(static_cast<int>(at::globalContext().float32MatmulPrecision())) {
  changed_ = at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST;
  if (changed_) at::globalContext().setFloat32MatmulPrecision("highest");
}

IeeeFloat32::~IeeeFloat32() {
  if (!changed_) return;
  const bool high = static_cast<at::Float32MatmulPrecision>(before_) == at::Float32MatmulPrecision::HIGH;
  at::globalContext().setFloat32MatmulPrecision(high ? "high" : "medium");
}

at::Tensor matrix_by_matrix(const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>& f) {
  if (!x.is_cpu() || x.numel() == 0) return f(x);
  const at::Tensor given = x.reshape({-1, x.size(-2), x.size(-1)}), y = at::empty(given.sizes(), x.options());
  at::parallel_for(0, given.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    const OneBlasThread alone;
    const at::NoGradGuard no_graph;  // whatever holds on the calling thread does not on the others
    for (std::int64_t i = begin; i < end; ++i) y[i].copy_(f(given[i]));
  });
  return y.view(x.sizes());
}

at::Tensor finish_factor(const at::Tensor& u, const at::Tensor& x, const at::Tensor& finite) {
  const at::Tensor nonzero = x != 0;
  const at::Tensor kept = u * nonzero.any(-1, true) * nonzero.any(-2, true);
  return at::where(finite, kept, at::full({}, std::numeric_limits<double>::quiet_NaN(), u.options()));
}

at::Tensor normalized_batch(const at::Tensor& x, double safety, const nlohmann::json& options) {
  const at::ScalarType dtype = precision_dtype(options, x.scalar_type());
  return normalize_frobenius(x.to(at::promote_types(dtype, x.scalar_type())), safety)
      .to(dtype)
      .reshape({-1, x.size(-2), x.size(-1)});
}

at::Tensor normalize_frobenius(const at::Tensor& x, double safety) {
  const double smallest = x.scalar_type() == at::kDouble ? std::numeric_limits<double>::min()
                                                         : static_cast<double>(std::numeric_limits<float>::min());
  // Row by row: ATen cuts a sum of more than 2^15 terms among the threads.
  const at::Tensor rows = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, /*keepdim=*/true, at::kDouble);
  const at::Tensor norm = at::linalg_vector_norm(rows, 2, at::IntArrayRef{-2}, /*keepdim=*/true);
  return x / norm.mul_(safety).clamp_min_(smallest).to(x.scalar_type());
}

}  // namespace equisweep
