#pragma once
// The options of a rule, changed one at a time, made from the fields that its row declares.

#include <optional>
#include <vector>

#include "optimizers/polar/polar.h"
#include "support.h"

namespace equisweep::testing {

/// Other values that a field might have, whether or not they fit its neighbours.
inline std::vector<nlohmann::json> other_values(const Field& field) {
  using nlohmann::json;
  const json standard = field.default_json.empty() ? json() : json::parse(field.default_json);
  switch (field.kind) {
    case FieldKind::boolean:
      if (standard.is_null()) return {true, false};
      return {!standard.get<bool>()};
    case FieldKind::choice: {
      std::vector<json> values;
      for (const std::string& choice : field.choices)
        if (standard != choice) values.emplace_back(choice);
      return values;
    }
    case FieldKind::integer:
      return {standard.is_null() ? json(3) : json(standard.get<int>() + 1)};
    case FieldKind::number:
      return {standard.is_null() ? json(1.5) : json(0.5 * standard.get<double>() + 0.1)};
    case FieldKind::number_list: {
      if (standard.is_null()) return {json{1.5, -0.5, 0.0, 1.875, -1.25, 0.375}};
      std::vector<json> values;
      for (std::size_t i = 0; i < standard.size(); ++i) {
        values.push_back(standard);
        values.back()[i] = 0.5 * standard[i].get<double>() + 0.1;
      }
      return values;
    }
    case FieldKind::map: {
      std::vector<json> values;
      for (const Field& inner : field.fields)
        for (const json& value : other_values(inner)) values.push_back({{inner.name, value}});
      return values;
    }
    case FieldKind::string:
    case FieldKind::name_list:
      break;
  }
  return {};
}

/// A complete entry, or nothing if the combination is refused.
inline std::optional<nlohmann::json> accepted(nlohmann::json given) {
  try {
    return complete_entry(given);
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

/// What a user might write for `rule`: nothing but the learning rate, then each option alone, where that is accepted.
inline std::vector<nlohmann::json> givens_of(const std::string& rule) {
  const nlohmann::json base = {{"rule", rule}, {"lr", 0.1}};
  std::vector<nlohmann::json> result = {base};
  for (const Field& field : find_rule(rule).fields)
    for (const nlohmann::json& value : other_values(field)) {
      nlohmann::json changed = base;
      changed[field.name] = value;
      if (accepted(changed)) result.push_back(changed);
    }
  return result;
}

/// The same, complete.
inline std::vector<nlohmann::json> variants_of(const std::string& rule) {
  std::vector<nlohmann::json> result;
  for (const nlohmann::json& given : givens_of(rule)) result.push_back(complete_entry(given));
  return result;
}

/// The narrowest dtype that an fp64 run of this entry passes through.
inline at::ScalarType narrowest(const nlohmann::json& entry) {
  if (!entry.contains("polar")) return at::kDouble;
  const std::string precision = entry.at("polar").at("precision");
  return precision == "bf16"   ? at::kBFloat16
         : precision == "fp16" ? at::kHalf
         : precision == "fp32" ? at::kFloat
                               : at::kDouble;
}

}  // namespace equisweep::testing
