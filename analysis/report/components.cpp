#include "analysis/report/components.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"

namespace equisweep {
namespace {

std::string shown_value(const nlohmann::json* value) {
  if (value == nullptr) return "none";
  if (value->is_string()) return visible(value->get<std::string>());
  if (value->is_number_float()) return significant(value->get<double>(), 4);
  return visible(value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

const nlohmann::json* find(const nlohmann::json& object, const std::string& key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

bool equal(const nlohmann::json* a, const nlohmann::json* b) { return a == nullptr || b == nullptr ? a == b : *a == *b; }

// The learning rate without lr_scale, rounded to what was written: 0.003 * 2 / 2 may be off in the last digit.
void take_back_scale(nlohmann::json& options, double lr_scale) {
  if (!options.is_object() || !options.contains("lr") || !options["lr"].is_number() || !(lr_scale > 0)) return;
  options["lr"] = nlohmann::json::parse(fmt::format("{:.12e}", options["lr"].get<double>() / lr_scale));
}

/// `roles` with one name for each family of which they hold all members that there are: attention_k, ..., attention_v.
std::vector<std::string> families_of(const std::vector<std::string>& roles, const std::set<std::string>& all) {
  std::vector<std::string> names;
  for (const std::string& role : roles) {
    const std::string family = role.substr(0, role.find('_'));
    const auto kin = [&](const std::string& other) { return other.starts_with(family + "_"); };
    const auto own = std::count_if(roles.begin(), roles.end(), kin);
    const bool whole = own > 1 && own == std::count_if(all.begin(), all.end(), kin) && !all.contains(family);
    const std::string& name = whole ? family : role;
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  return names;
}

}  // namespace

RoleOptions role_options(const ReportData& data, const CellRecord& cell) {
  RoleOptions out;
  const nlohmann::json* stack = find(cell.run->config, "stack");
  if (stack == nullptr || !stack->is_object()) return out;
  SQLite::Statement query(data.db(*cell.run), "SELECT DISTINCT role, entry FROM blocks WHERE run = ? ORDER BY role");
  query.bind(1, cell.run->run);
  while (query.executeStep()) {
    if (const nlohmann::json* options = find(*stack, query.getColumn(1).getString()))
      out.insert_or_assign(query.getColumn(0).getString(), *options);
  }
  if (out.empty())
    for (const auto& [entry, options] : stack->items()) out.insert_or_assign(entry, options);
  for (auto& [role, options] : out) take_back_scale(options, cell.lr_scale);
  return out;
}

std::string Component::text() const {
  std::string out;
  for (const std::string& role : shown) out.append(out.empty() ? "" : ", ").append(visible(role));
  out += ": ";
  for (std::size_t i = 0; i < changes.size(); ++i) out.append(i == 0 ? "" : ", ").append(changes[i]);
  return out;
}

std::vector<Component> changed_components(const RoleOptions& before, const RoleOptions& after) {
  std::vector<Component> components;
  std::set<std::string> roles;
  for (const auto& [role, options] : before) roles.insert(role);
  for (const auto& [role, options] : after) roles.insert(role);
  for (const std::string& role : roles) {
    const auto a = before.find(role), b = after.find(role);
    Component change{.roles = {role}, .changes = {}, .shown = {}, .rate_only = true};
    if (a == before.end() || b == after.end()) {
      change.changes = {a == before.end() ? "none → its own entry" : "its own entry → none"};
      change.rate_only = false;
    } else {
      std::set<std::string> keys;
      for (const auto* options : {&a->second, &b->second}) {
        if (!options->is_object()) continue;
        for (const auto& [key, value] : options->items()) keys.insert(key);
      }
      // The rule first. Where it is another one, so are its options: those that only one of the two has say nothing.
      const bool other_rule = !equal(find(a->second, "rule"), find(b->second, "rule"));
      std::vector<std::string> order = {"rule"};
      for (const std::string& key : keys)
        if (key != "rule") order.push_back(key);
      for (const std::string& key : order) {
        const nlohmann::json *from = find(a->second, key), *to = find(b->second, key);
        if (equal(from, to) || (other_rule && (from == nullptr || to == nullptr))) continue;
        change.changes.push_back(fmt::format("{} {} → {}", visible(key), shown_value(from), shown_value(to)));
        change.rate_only = change.rate_only && key == "lr";
      }
    }
    if (change.changes.empty()) continue;
    const auto same =
        std::find_if(components.begin(), components.end(), [&](const Component& c) { return c.changes == change.changes; });
    if (same == components.end())
      components.push_back(std::move(change));
    else
      same->roles.push_back(role);
  }
  for (Component& c : components) c.shown = families_of(c.roles, roles);
  return components;
}

std::size_t count_components(const std::vector<Component>& components) {
  return static_cast<std::size_t>(
      std::count_if(components.begin(), components.end(), [](const Component& c) { return !c.rate_only; }));
}

}  // namespace equisweep
