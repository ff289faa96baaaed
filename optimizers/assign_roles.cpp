#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"

namespace equisweep {
namespace {

/// The entry that claims `role`: the most specific one that the stack has.
std::optional<std::string> claim_on(Role role, const nlohmann::json& stack) {
  for (const std::string_view name : claims_on(role))
    if (stack.contains(name)) return std::string(name);
  return std::nullopt;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// What a rule may not serve, or "".
std::string refusal(Role role, const nlohmann::json& entry) {
  if (role == Role::vector && !make_rule(entry)->coordinatewise())
    return fmt::format("{} is a rule for matrices and cannot serve role vector", entry.at("rule").get<std::string>());
  // Softmax does not see a shift that all logits share; nothing else in a model is blind to one.
  if (role != Role::lm_head && role != Role::router && entry.value("centered", false))
    return fmt::format("centered cannot serve role {}: a shared shift of its rows changes the model", name_of(role));
  return {};
}

}  // namespace

std::vector<std::pair<Role, std::string>> assign_roles(const nlohmann::json& stack, std::span<const Role> roles) {
  std::vector<Role> distinct;
  for (const Role role : roles)
    if (std::find(distinct.begin(), distinct.end(), role) == distinct.end()) distinct.push_back(role);

  std::vector<std::string> found, named;
  for (const Role role : distinct) found.emplace_back(name_of(role));
  for (const auto& [name, entry] : stack.items()) named.push_back(name);
  const std::string both = fmt::format("(roles found: {}; entries named: {})", join(found), join(named));

  std::vector<Problem> problems;
  const std::vector<std::string> valid = stack_entry_names();
  for (const std::string& name : named)
    if (!contains(valid, name))
      problems.push_back({{},
                          fmt::format("stack: unknown entry '{}'", printable(name)),
                          "one of: " + join(valid),
                          nearest_name(name, valid)});

  std::vector<std::pair<Role, std::string>> assigned;
  std::vector<std::string> unclaimed, claiming;
  for (const Role role : distinct) {
    const std::optional<std::string> claim = claim_on(role, stack);
    if (!claim) {
      unclaimed.emplace_back(name_of(role));
      continue;
    }
    if (const std::string why = refusal(role, stack.at(*claim)); !why.empty())
      problems.push_back({{},
                          fmt::format("stack: entry '{}': {}", *claim, why),
                          fmt::format("a separate entry '{}' with another rule", name_of(role))});
    assigned.emplace_back(role, *claim);
    claiming.push_back(*claim);
  }
  if (!unclaimed.empty())
    problems.push_back({{},
                        fmt::format("stack: no entry claims {} {}", join(unclaimed), both),
                        "every role is claimed, by an entry of its own or by 'default'"});
  std::vector<std::string> unused;
  for (const std::string& name : named)
    if (contains(valid, name) && !contains(claiming, name)) unused.push_back(name);
  if (!unused.empty())
    problems.push_back({{},
                        fmt::format("stack: nothing is left to claim for {} {}", join(unused), both),
                        "entries that claim at least one role of the model"});
  if (!problems.empty()) throw UsageError(std::move(problems));
  return assigned;
}

}  // namespace equisweep
