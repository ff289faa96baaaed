#pragma once
// The table of update rules: one row a rule, and the only place that lists their names.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/field.h"
#include "core/symmetry.h"
#include "core/update_rule.h"

namespace equisweep {

struct RuleInfo {
  std::string_view name;      ///< as in YAML
  std::string_view summary;   ///< one line
  std::string_view equation;  ///< of the direction U
  std::string_view symmetry;  ///< in words, e.g. "O(m) x O(n)"
  std::string_view source;    ///< paper, section or equation
  std::vector<Field> fields;  ///< its own options; the common ones are common_fields()
  /// Builds the rule from its complete options (see complete() in core/field.h). Throws UsageError on combinations that are
  /// refused.
  std::unique_ptr<UpdateRule> (*make)(const nlohmann::json& options);
  /// Fills in options whose default depends on other options and refuses those that the others rule out; may be null.
  nlohmann::json (*finish)(nlohmann::json options) = nullptr;
  /// The d of U(c G) = c^d U(G), c > 0 on all gradients, for complete options: exact but for what eps adds to norms. Every
  /// rule declares it.
  double (*degree)(const nlohmann::json& options) = nullptr;
};

/// Every rule, in the order of optimizers.md.
std::span<const RuleInfo> rules();

/// Options that every entry of a stack has beside those of its rule: rule, lr, weight_decay, view.
std::span<const Field> common_fields();

/// The row called `name`; throws UsageError with the nearest name.
const RuleInfo& find_rule(std::string_view name);

/// An entry of a stack with every option filled in (common and the rule's own), from what the user gave: {"rule": "muon",
/// "lr": 0.02}. Throws UsageError listing every unknown or wrong option. The result is part of a job's identity.
nlohmann::json complete_entry(const nlohmann::json& given);

/// Throws UsageError where a step with the lr of a complete entry would keep a negative share of the old weight.
/// complete_entry() has checked it for the lr that was given; whoever multiplies that asks again.
void check_rate(const nlohmann::json& entry);

/// Unit roundoff of a cast inside the rule of a complete entry that is narrower than its state: that of bf16 or fp32
/// products; 0 where there is none.
double roundoff_inside(const nlohmann::json& entry);

/// The rule of a complete entry.
std::unique_ptr<UpdateRule> make_rule(const nlohmann::json& entry);

}  // namespace equisweep
