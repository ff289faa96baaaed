#include "optimizers/verify.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/document.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "optimizers/optimizer.h"
#include "optimizers/polar/polar.h"
#include "optimizers/rules.h"

namespace equisweep {
namespace {

using nlohmann::json;

LayoutKind stored_as(const std::string& layout) {
  static const std::map<std::string, LayoutKind> known = {
      {"matrix", LayoutKind::matrix},
      {"vector", LayoutKind::vector},
      {"heads_qkv", LayoutKind::heads_rows},
      {"heads_o", LayoutKind::heads_columns},
      {"olmoe_gate_up", LayoutKind::gate_up_stacked},
      {"gptoss_gate_up", LayoutKind::gate_up_interleaved},
      {"olmoe_down", LayoutKind::experts_down},
      {"gptoss_down", LayoutKind::experts_down_in_out},
  };
  const auto found = known.find(layout);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, kind] : known) names.push_back(name);
  throw UsageError({Problem{
      {}, fmt::format("unknown layout '{}'", printable(layout)), "one of: " + join(names), nearest_name(layout, names)}});
}

bool nearly(double a, double b) { return std::abs(a - b) <= 1e-14 * std::abs(b); }

/// The option `polar` of a recording in our terms. What equals a method's own default is left out, so that the defaults are
/// what is verified.
json translate_polar(const json& recorded) {
  json ours = {{"method", recorded.at("method")}};
  for (const auto& [key, value] : recorded.items()) {
    if (key == "method" || key == "coefficients" || key == "safety" || key == "norm") continue;
    if (key == "restart") continue;  // changes rounding only
    if (key == "tiny" || key == "damping_abs") {
      if (value.get<double>() != 0.0)
        throw UsageError({Problem{{}, fmt::format("polar: absolute '{}' {}", key, value.dump()), "0"}});
    } else {
      ours[key == "damping_rel" ? "damping" : key] = value;
    }
  }
  const PolarDefaults defaults = polar_defaults(complete_polar(ours));
  if (const auto norm = recorded.find("norm"); norm != recorded.end() && *norm != defaults.norm)
    throw UsageError({Problem{{}, fmt::format("polar: norm {}", norm->dump()), std::string(defaults.norm)}});
  if (const auto safety = recorded.find("safety"); safety != recorded.end())
    if (!nearly(safety->get<double>(), defaults.safety)) ours["safety"] = *safety;
  if (const auto list = recorded.find("coefficients"); list != recorded.end()) {
    json flat = json::array();
    bool same = list->size() == defaults.coefficients.size();
    for (std::size_t i = 0; i < list->size(); ++i)
      for (std::size_t j = 0; j < 3; ++j) {
        flat.push_back(list->at(i).at(j));
        same = same && nearly(list->at(i).at(j).get<double>(), defaults.coefficients[i][j]);
      }
    if (!same) ours["coefficients"] = flat;
  }
  return ours;
}

/// The larger of two errors; one that is no finite number is past every tolerance (std::max would drop a NaN).
double worse(double error, double other) {
  return std::isfinite(other) ? std::max(error, other) : std::numeric_limits<double>::infinity();
}

double norm_of(const at::Tensor& x) { return at::linalg_vector_norm(x.to(at::kDouble)).item<double>(); }

void refuse_unknown(const json& map, const std::vector<std::string>& known, const std::string& prefix) {
  std::vector<Problem> problems;
  for (const auto& [key, value] : map.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      problems.push_back({{},
                          fmt::format("sidecar: unknown key '{}{}'", prefix, printable(key)),
                          "one of: " + join(known),
                          nearest_name(key, known)});
  if (!problems.empty()) throw UsageError(std::move(problems));
}

void refuse_value(const json& sidecar, const char* key, const std::vector<std::string>& known) {
  const std::string value = sidecar.value(key, known.front());
  if (std::find(known.begin(), known.end(), value) == known.end())
    throw UsageError({Problem{{},
                              fmt::format("sidecar: unknown {} '{}'", key, printable(value)),
                              "one of: " + join(known),
                              nearest_name(value, known)}});
}

/// A key that nobody reads is one that was meant to be read.
void check_sidecar(const json& sidecar) {
  refuse_unknown(sidecar,
                 {"rule",
                  "options",
                  "layout",
                  "dims",
                  "tolerance",
                  "kind",
                  "relation",
                  "distance",
                  "id",
                  "shape",
                  "input",
                  "seed",
                  "steps",
                  "state",
                  "arithmetic",
                  "wide",
                  "note",
                  "reference",
                  "fan_out",
                  "fan_in",
                  "kappa",
                  "block_shape",
                  "measured_error",
                  "momentum_form",
                  "published_differences",
                  "largest_dropped_singular_value"},
                 "");
  refuse_unknown(sidecar.at("dims"), {"heads", "head_dim", "experts", "r", "d"}, "dims.");
  refuse_unknown(sidecar.value("tolerance", json::object()), {"fp64", "fp32"}, "tolerance.");
  refuse_value(sidecar, "kind", {"pure", "published"});
  refuse_value(sidecar, "relation", {"equal", "equal up to regularisers", "differs"});
}

/// Every tensor of a file is one that is read: W0.., G1.. without gaps, and the state under the names of the rule.
void check_tensors(const SafetensorsFile& file, std::string_view rule, const std::vector<std::string>& slots) {
  std::int64_t steps = 0;
  while (file.has(fmt::format("G{}", steps + 1))) ++steps;
  const auto is_numbered = [&](std::string_view name, std::string_view letters, std::int64_t first) {
    if (!name.starts_with(letters)) return false;
    name.remove_prefix(letters.size());
    std::int64_t number = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    return error == std::errc() && end == name.data() + name.size() && number >= first && number <= steps;
  };
  std::vector<Problem> problems;
  for (const std::string& name : file.names()) {
    const std::string_view narrow = std::string_view(name).substr(name.starts_with("wide.") ? 5 : 0);
    if (narrow.starts_with("state.")) {
      const std::string slot(narrow.substr(6));
      if (std::find(slots.begin(), slots.end(), slot) == slots.end())
        problems.push_back({{},
                            fmt::format("{}: rule {} has no state '{}'", file.path().string(), rule, printable(slot)),
                            slots.empty() ? "no state" : "one of: " + join(slots),
                            nearest_name(slot, slots)});
    } else if (!is_numbered(narrow, "W", name == narrow ? 0 : 1) && !is_numbered(name, "G", 1)) {
      problems.push_back({{},
                          fmt::format("{}: unknown tensor '{}'", file.path().string(), printable(name)),
                          fmt::format("W0 to W{0}, G1 to G{0}, state.SLOT, wide.W1 to wide.W{0}", steps)});
    }
  }
  if (!problems.empty()) throw UsageError(std::move(problems));
}

/// Replays in the dtype and on the device of `options` against the weights called prefix + "W1".. and returns the worst
/// error, which is measured on the CPU.
double replay(const json& sidecar, const SafetensorsFile& file, const json& entry, const at::TensorOptions& options,
              const std::string& prefix, bool compare_state) {
  const LayoutKind layout = stored_as(sidecar.at("layout").get<std::string>());
  Param param;
  param.name = "weight";
  // A recording has a layout but no role; an LM head may be claimed by every rule with every option.
  param.role = layout == LayoutKind::vector ? Role::vector : Role::lm_head;
  param.layout = {layout, sidecar.at("dims").value("heads", std::int64_t{1})};
  const at::Tensor initial = file.tensor("W0");
  param.tensor = initial.to(options).clone().requires_grad_();
  Optimizer optimizer(std::span(&param, 1), json{{"default", entry}});

  double distance = 0, largest_step = 0;
  at::Tensor before = initial.to(at::kDouble);
  std::int64_t steps = 0;
  while (file.has(fmt::format("G{}", steps + 1))) {
    ++steps;
    const at::Tensor gradient = file.tensor(fmt::format("G{}", steps));
    const at::Tensor expected = file.tensor(fmt::format("{}W{}", prefix, steps)).to(at::kDouble);
    if (gradient.sizes() != initial.sizes() || expected.sizes() != initial.sizes())
      throw DataError(file.path().string(), fmt::format("G{0} or W{0} has not the shape of W0", steps));
    param.tensor.grad().copy_(gradient);
    optimizer.step(1.0);
    distance = worse(distance, norm_of(param.tensor.detach().to(at::kCPU, at::kDouble) - expected));
    largest_step = std::max(largest_step, norm_of(expected - before));
    before = expected;
  }
  if (steps == 0) throw DataError(file.path().string(), "no gradient G1");
  double error = distance == 0 ? 0 : worse(0, distance / largest_step);
  optimizer.save_state([&](const std::string& key, const at::Tensor& state) {
    const std::string name = prefix + "state." + key.substr(key.find('/') + 1);
    if (!compare_state || !file.has(name)) return;
    const at::Tensor expected = file.tensor(name).to(at::kDouble);
    if (expected.sizes() != initial.sizes())
      throw DataError(file.path().string(), fmt::format("{} has not the shape of W0", name));
    const double difference = norm_of(state.to(at::kCPU, at::kDouble) - expected), size = norm_of(expected);
    error = worse(error, difference == 0 ? 0 : difference / size);
  });
  return error;
}

struct Comparison {
  std::string precision;
  at::ScalarType dtype;
  std::string prefix;
  double tolerance;
};

/// In which precisions a case is replayed, against which recording, and how close they must come.
std::vector<Comparison> comparisons(const json& sidecar, const SafetensorsFile& file) {
  constexpr double kDefault64 = 1e-9, kDefault32 = 1e-4;  // where the recording names none
  if (file.has("wide.W1")) {
    const double measured = sidecar.contains("distance") ? sidecar.at("distance").value("ours_vs_wide", 0.0) : kDefault64;
    return {{"fp64", at::kDouble, "wide.", std::max(1e-13, 16 * measured)}};
  }
  std::vector<Comparison> result;
  const json tolerance = sidecar.value("tolerance", json::object());
  const auto add = [&](const char* name, at::ScalarType dtype, double fallback) {
    if (!tolerance.contains(name) || !tolerance.at(name).is_null())
      result.push_back({name, dtype, "", tolerance.value(name, fallback)});
  };
  if (file.dtype("W1") == at::kDouble) add("fp64", at::kDouble, kDefault64);
  add("fp32", at::kFloat, kDefault32);
  if (result.empty()) {
    const bool wide = file.dtype("W1") == at::kDouble;
    throw UsageError({Problem{{},
                              fmt::format("nothing is compared: tolerance is null for {}", wide ? "fp64 and fp32" : "fp32"),
                              wide ? "a tolerance for one of them" : "a tolerance for it, or weights recorded in F64"}});
  }
  return result;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string(), "cannot be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

std::vector<ReplayResult> verify_recording(const std::filesystem::path& sidecar_path, at::Device device) {
  ReplayResult base;
  base.id = sidecar_path.stem().string();
  std::vector<ReplayResult> results;
  try {
    const auto document = document_of(read_text(sidecar_path));
    if (!document) throw DataError(sidecar_path.string(), "is no JSON, or nested more than 64 deep");
    const json& sidecar = *document;
    check_sidecar(sidecar);
    base.rule = sidecar.at("rule").get<std::string>();
    json given = sidecar.at("options");
    given["rule"] = base.rule;
    if (given.contains("polar")) given["polar"] = translate_polar(given.at("polar"));
    const json entry = complete_entry(given);
    const SafetensorsFile file(std::filesystem::path(sidecar_path).replace_extension(".safetensors"));
    const bool published = sidecar.value("kind", "") == "published";  // its state has the published class's own names
    if (!published) check_tensors(file, base.rule, make_rule(entry)->slots());
    const bool differs = sidecar.value("relation", "equal") == "differs";
    for (const Comparison& comparison : comparisons(sidecar, file)) {
      ReplayResult result = base;
      result.precision = comparison.precision;
      result.tolerance = comparison.tolerance;
      result.error =
          replay(sidecar, file, entry, at::TensorOptions(comparison.dtype).device(device), comparison.prefix, !published);
      result.verdict = differs                            ? ReplayVerdict::differs
                       : result.error <= result.tolerance ? ReplayVerdict::pass
                                                          : ReplayVerdict::fail;
      results.push_back(std::move(result));
    }
  } catch (const json::exception& error) {
    base.problem = fmt::format("{}: {}", sidecar_path.string(), error.what());
  } catch (const Error& error) {
    base.problem = error.what();
  } catch (const c10::Error& error) {  // a shape that the layout does not have
    base.problem = fmt::format("{}: {}", sidecar_path.string(), error.what_without_backtrace());
  }
  if (!base.problem.empty()) return {base};
  return results;
}

std::vector<ReplayResult> verify_recordings(const std::filesystem::path& folder, at::Device device) {
  std::vector<std::filesystem::path> sidecars;
  if (!std::filesystem::is_directory(folder))
    throw UsageError({Problem{{}, fmt::format("no folder '{}'", folder.string()), "a folder of recorded updates"}});
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const auto path = file.path();
    if (path.extension() == ".json" &&
        std::filesystem::exists(std::filesystem::path(path).replace_extension(".safetensors")))
      sidecars.push_back(path);
  }
  if (sidecars.empty())
    throw UsageError(
        {Problem{{}, fmt::format("no recorded update in '{}'", folder.string()), "pairs <id>.json and <id>.safetensors"}});
  std::sort(sidecars.begin(), sidecars.end());
  std::vector<ReplayResult> results;
  for (const auto& sidecar : sidecars)
    for (ReplayResult& result : verify_recording(sidecar, device)) results.push_back(std::move(result));
  return results;
}

}  // namespace equisweep
