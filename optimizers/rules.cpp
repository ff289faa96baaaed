#include "optimizers/rules.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/matrix_view.h"
#include "optimizers/polar/polar.h"
#include "optimizers/rules/rules_list.h"

namespace equisweep {

std::span<const RuleInfo> rules() {
  static const std::vector<RuleInfo> table = {adamw_rule(),      sgd_rule(),      sign_rule(),      muon_rule(),
                                              scion_rule(),      ssd_rule(),      polargrad_rule(), right_polar_rule(),
                                              left_polar_rule(), row_norm_rule(), col_norm_rule(),  hybrid_rule()};
  return table;
}

namespace {

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
  return names;
}

}  // namespace

std::span<const Field> common_fields() {
  static const std::vector<Field> fields = {
      {.name = "rule", .kind = FieldKind::choice, .default_json = "", .doc = "update rule", .choices = rule_names()},
      {.name = "lr",
       .kind = FieldKind::number,
       .default_json = "",
       .doc = "learning rate; W <- (1 - lr * weight_decay) W - lr U",
       .min = 0,
       .max = std::numeric_limits<double>::max(),
       .above_min = true},
      {.name = "weight_decay",
       .kind = FieldKind::number,
       .default_json = "0.0",
       .doc = "decoupled decay, applied to the old weight before the step",
       .min = 0,
       .max = std::numeric_limits<double>::max()},
      {.name = "view",
       .kind = FieldKind::choice,
       .default_json = "\"natural\"",
       .doc = "the blocks that the rule sees; natural: the default of the role",
       .choices = view_names()},
  };
  return fields;
}

const RuleInfo& find_rule(std::string_view name) {
  for (const RuleInfo& rule : rules())
    if (rule.name == name) return rule;
  const std::vector<std::string> names = rule_names();
  throw UsageError(
      {Problem{{}, fmt::format("unknown rule '{}'", printable(name)), "one of: " + join(names), nearest_name(name, names)}});
}

nlohmann::json complete_entry(const nlohmann::json& given) {
  if (!given.is_object() || !given.contains("rule") || !given.at("rule").is_string())
    throw UsageError({Problem{
        {}, "an entry of a stack needs 'rule'", "{rule: NAME, lr: NUMBER, ...} with one of: " + join(rule_names())}});
  const RuleInfo& rule = find_rule(given.at("rule").get<std::string>());
  std::vector<Field> fields(common_fields().begin(), common_fields().end());
  fields.insert(fields.end(), rule.fields.begin(), rule.fields.end());
  nlohmann::json entry = complete(fields, given, fmt::format("rule {}", rule.name));
  if (rule.finish) entry = rule.finish(std::move(entry));
  if (entry.contains("polar")) entry["polar"] = complete_polar(entry.at("polar"));
  const auto refuse = [&](const std::string& what, const std::string& allowed) {
    throw UsageError({Problem{{}, fmt::format("rule {}: {}", rule.name, what), allowed}});
  };
  // Logits that share a shift belong to rows; where a rule sees the transpose it would centre the features.
  if (entry.value("centered", false) && entry.at("view").get<std::string>() == name_of(ViewKind::col))
    refuse("centered has no place beside view col, whose rows are features",
           "a view whose rows are tokens or experts, as natural");
  check_rate(entry);
  return entry;
}

void check_rate(const nlohmann::json& entry) {
  const double lr = entry.at("lr"), decay = entry.at("weight_decay");
  const double retained = make_rule(entry)->retained(lr, decay);  // make_rule() refuses combinations
  if (retained >= 0) return;
  const std::string with = entry.value("constrained", false) ? "constrained" : fmt::format("weight_decay {}", decay);
  throw UsageError({Problem{{},
                            fmt::format("rule {}: lr {} with {} keeps {} of the old weight and so turns its sign",
                                        entry.at("rule").get<std::string>(), lr, with, retained),
                            "lr * weight_decay <= 1; lr <= 1 with constrained"}});
}

double roundoff_inside(const nlohmann::json& entry) {
  if (!entry.contains("polar")) return 0;
  const std::string precision = entry.at("polar").at("precision");
  return precision == "bf16" ? 0x1p-9 : precision == "fp32" ? 0x1p-24 : 0;
}

std::unique_ptr<UpdateRule> make_rule(const nlohmann::json& entry) {
  return find_rule(entry.at("rule").get<std::string>()).make(entry);
}

}  // namespace equisweep
