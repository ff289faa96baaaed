#pragma once
// What two stacks do differently, role by role.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "analysis/report/data.h"

namespace equisweep {

/// The options of the entry that updates each role, with learning rates as the sweep file has them (before lr_scale). By
/// role where the run has registered its weights, else by entry. Roles that no weight has are left out.
using RoleOptions = std::map<std::string, nlohmann::json>;

RoleOptions role_options(const ReportData& data, const CellRecord& cell);

/// Roles that change in the same way, and what changes: "mlp: rule hybrid → muon, lr 0.02 → 0.03".
struct Component {
  std::vector<std::string> roles;
  std::vector<std::string> changes;  ///< the rule, then by key; of two rules only the options that both have
  std::vector<std::string> shown;    ///< the roles, "attention" for all that begin so
  bool rate_only = false;            ///< nothing but learning rates: tuning, and no other way to update
  std::string text() const;
};

/// From `before` to `after`, by the first role of each.
std::vector<Component> changed_components(const RoleOptions& before, const RoleOptions& after);

/// Those of them that are more than another learning rate.
std::size_t count_components(const std::vector<Component>& components);

}  // namespace equisweep
