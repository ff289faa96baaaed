// What the audit is given: rules with the options that a user might write, and models small enough to train in a second.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/models.h"
#include "optimizers/rules.h"
#include "sweeps/cli/audit.h"

namespace equisweep {
namespace {

/// What an entry of a stack says about the rule that it makes.
AuditSubject subject_of(std::string name, const RuleInfo& row, const nlohmann::json& entry) {
  AuditSubject subject;
  subject.name = std::move(name);
  subject.rule = make_rule(entry);
  if (row.degree != nullptr) subject.degree = row.degree(entry);
  const bool polar = entry.contains("polar");
  subject.inner_roundoff = roundoff_inside(entry);
  // An eps is absolute and shows at small norms; without one nothing may. (Scion's row and column norms carry theirs
  // inside.)
  subject.scale_free = subject.degree && !entry.contains("eps") && (polar || subject.rule->coordinatewise());
  const std::string scale = entry.value("scale", ""), lmo = entry.value("lmo", "");
  if (scale == "spectral" || lmo == "spectral") subject.fan_exponents = {0.5, -0.5};
  if (scale == "match_rms") subject.fan_exponents = {0.5, 0.0};
  if (scale == "none" || lmo == "row" || lmo == "col") subject.fan_exponents = {0.0, 0.0};
  if (lmo == "sign" || row.name == "sign") subject.fan_exponents = {0.0, -1.0};
  return subject;
}

bool accepted(const nlohmann::json& given) try {
  complete_entry(given);
  return true;
} catch (const UsageError&) {
  return false;
}

/// Other values of a field of a rule that is either a flag or a choice.
std::vector<nlohmann::json> other_values(const Field& field) {
  const nlohmann::json standard = nlohmann::json::parse(field.default_json);
  std::vector<nlohmann::json> values;
  if (field.kind == FieldKind::boolean) values.emplace_back(!(standard.is_boolean() && standard.get<bool>()));
  if (field.kind == FieldKind::choice)
    for (const std::string& choice : field.choices)
      if (standard != choice) values.emplace_back(choice);
  return values;
}

nlohmann::json with(nlohmann::json given, const std::string& key, const nlohmann::json& value) {
  given[key] = value;
  return given;
}

/// What a user might write for a rule: nothing; each flag and choice changed alone; and, where a flag changes the symmetry,
/// each choice changed beside it. Numbers change no symmetry.
std::vector<nlohmann::json> givens_of(const RuleInfo& row) {
  const nlohmann::json base = {{"rule", std::string(row.name)}, {"lr", 1}};
  const Symmetry symmetry = make_rule(complete_entry(base))->symmetry();
  std::vector<nlohmann::json> givens = {base}, structural;
  for (const Field& field : row.fields)
    for (const nlohmann::json& value : other_values(field)) {
      givens.push_back(with(base, field.name, value));
      if (field.kind == FieldKind::boolean && accepted(givens.back()) &&
          make_rule(complete_entry(givens.back()))->symmetry() != symmetry)
        structural.push_back(givens.back());
    }
  for (const nlohmann::json& given : structural)
    for (const Field& field : row.fields)
      for (const nlohmann::json& value : other_values(field))
        if (field.kind == FieldKind::choice) givens.push_back(with(given, field.name, value));
  return givens;
}

/// Every polar method, on the rule that does nothing else; and the one that has sides, on the rules that choose the side.
std::vector<nlohmann::json> polar_givens(const RuleInfo& row) {
  const Field* const polar = find_field(row.fields, "polar");
  if (polar == nullptr) return {};
  const nlohmann::json base = {{"rule", std::string(row.name)}, {"lr", 1}};
  std::vector<nlohmann::json> givens;
  if (row.name == "right_polar" || row.name == "left_polar") givens.push_back(with(base, "polar", {{"method", "inv_sqrt"}}));
  if (row.name != "muon") return givens;
  for (const nlohmann::json& method : other_values(*find_field(polar->fields, "method")))
    givens.push_back(with(base, "polar", {{"method", method}}));
  givens.push_back(with(base, "polar", {{"precision", "bf16"}}));
  return givens;
}

std::string label_of(const nlohmann::json& given) {
  std::string label = given.at("rule");
  for (const auto& [key, value] : given.items()) {
    if (key == "rule" || key == "lr") continue;
    if (value.is_object()) {
      for (const auto& [inner, setting] : value.items()) label += fmt::format(" {}={}", inner, setting.get<std::string>());
    } else if (value.is_boolean()) {
      label += fmt::format(" {}{}", value.get<bool>() ? "" : "not ", key);
    } else {
      label += fmt::format(" {}={}", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  return label;
}

}  // namespace

std::vector<AuditSubject> rule_subjects(const std::vector<std::string>& names) {
  for (const std::string& name : names) find_rule(name);  // throws, with the nearest name
  std::vector<AuditSubject> subjects;
  for (const RuleInfo& row : rules()) {
    if (!names.empty() && std::find(names.begin(), names.end(), row.name) == names.end()) continue;
    std::vector<nlohmann::json> givens = givens_of(row);
    for (nlohmann::json& given : polar_givens(row)) givens.push_back(std::move(given));
    for (const nlohmann::json& given : givens) {
      if (!accepted(given)) continue;
      subjects.push_back(subject_of(label_of(given), row, complete_entry(given)));
      subjects.back().through_views = given.size() == 2;  // the defaults
    }
  }
  return subjects;
}

std::shared_ptr<const UpdateRule> default_rule(std::string_view name) {
  return make_rule(complete_entry({{"rule", name}, {"lr", 1}}));
}

std::vector<ModelSubject> model_subjects(const std::vector<std::string>& names) {
  for (const std::string& name : names) find_rule(name);  // throws, with the nearest name
  std::vector<ModelSubject> subjects;
  const auto add = [&](std::string name, const std::shared_ptr<const UpdateRule>& rule) -> ModelSubject& {
    ModelSubject subject;
    subject.name = std::move(name);
    const std::shared_ptr<const UpdateRule> of_vectors = rule->coordinatewise() ? rule : default_rule("sgd");
    for (const Role role : kRoles) subject.uses[role] = {.rule = role == Role::vector ? of_vectors : rule};
    return subjects.emplace_back(std::move(subject));
  };
  for (const RuleInfo& row : rules()) {
    // sgd and adamw are what the conditions are shown with.
    const bool control = row.name == "sgd" || row.name == "adamw" || row.name == "row_norm";
    if (!names.empty() && !control && std::find(names.begin(), names.end(), row.name) == names.end()) continue;
    const auto rule = default_rule(row.name);
    ModelSubject& subject = add(std::string(row.name), rule);
    // A rule that treats its sides differently sees the output projection by its columns, as it does mlp_down.
    const Symmetry symmetry = rule->symmetry();
    if (symmetry.rows != symmetry.columns) subject.uses[Role::attention_o].view = ViewKind::col;
    if (row.name == "muon") {
      ModelSubject& apart = add("muon, heads apart", rule);
      for (const Role role : {Role::attention_q, Role::attention_k, Role::attention_v, Role::attention_o})
        apart.uses[role].view = ViewKind::heads;
    }
    if (row.name == "hybrid" || row.name == "row_norm") {
      const std::shared_ptr<const UpdateRule> centered =
          make_rule(complete_entry({{"rule", row.name}, {"lr", 1}, {"centered", true}}));
      ModelSubject& heads = add(std::string(row.name) + ", centred head and router", rule);
      heads.uses[Role::attention_o].view = ViewKind::col;
      for (const Role role : {Role::lm_head, Role::router}) heads.uses[role].rule = centered;
    }
    if (row.name == "row_norm") {
      ModelSubject& rows = add("row_norm, rows of o and down", rule);
      rows.uses[Role::attention_o].view = rows.uses[Role::mlp_down].view = ViewKind::row;
      rows.uses[Role::experts_down].view = ViewKind::row;
      ModelSubject& wrong = add("row_norm, wrong layout", rule);
      wrong.uses[Role::attention_o].view = ViewKind::col;
      wrong.interleaved_only = true;
      wrong.uses[Role::experts_gate_up] = {rule, ViewKind::row, Layout{LayoutKind::matrix}};
    }
  }
  return subjects;
}

std::vector<AuditedModel> audited_models(const std::vector<std::string>& names) {
  static const nlohmann::json small = {{"vocab", 20},       {"d", 12},       {"layers", 2}, {"heads", 4},
                                       {"kv_heads", 2},     {"head_dim", 4}, {"ff", 10},    {"window", 5},
                                       {"global_every", 2}, {"experts", 4},  {"top_k", 2},  {"expert_ff", 6}};
  std::vector<std::string> known;
  for (const Architecture& a : architectures()) known.emplace_back(a.name);
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw UsageError({Problem({}, "unknown architecture '" + printable(name) + "'", "one of: " + join(known),
                                nearest_name(name, known))});
  std::vector<AuditedModel> models;
  for (const Architecture& a : architectures()) {
    if (!names.empty() && std::find(names.begin(), names.end(), a.name) == names.end()) continue;
    AuditedModel model;
    model.name = a.name;
    for (const Field& field : a.fields) model.fields.insert(field.name);
    nlohmann::json config = {{"architecture", std::string(a.name)}};
    for (const auto& [key, value] : small.items())
      if (model.fields.contains(key)) config[key] = value;
    model.make = [config](const nlohmann::json& overrides) {
      nlohmann::json full = config;
      full.update(overrides);
      return make_model(complete_config(full));
    };
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace equisweep
