#include "core/role.h"

#include <algorithm>
#include <utility>

namespace equisweep {
namespace {

struct RoleRow {
  Role role;
  std::string_view name;
  std::string_view family;  // the group of hidden matrices that it belongs to; empty if it is none
};

constexpr std::array<RoleRow, kRoles.size()> kRows = {{
    {Role::embedding, "embedding", ""},
    {Role::lm_head, "lm_head", ""},
    {Role::router, "router", ""},
    {Role::attention_q, "attention_q", "attention"},
    {Role::attention_k, "attention_k", "attention"},
    {Role::attention_v, "attention_v", "attention"},
    {Role::attention_o, "attention_o", "attention"},
    {Role::mlp_gate, "mlp_gate", "mlp"},
    {Role::mlp_up, "mlp_up", "mlp"},
    {Role::mlp_down, "mlp_down", "mlp"},
    {Role::experts_gate_up, "experts_gate_up", "experts"},
    {Role::experts_down, "experts_down", "experts"},
    {Role::vector, "vector", ""},
}};

const RoleRow& row_of(Role role) {
  const auto* const row = std::find_if(kRows.begin(), kRows.end(), [&](const RoleRow& r) { return r.role == role; });
  return *row;
}

}  // namespace

std::string_view name_of(Role role) { return row_of(role).name; }

std::optional<Role> role_from_name(std::string_view name) {
  for (const auto& row : kRows) {
    if (row.name == name) return row.role;
  }
  return std::nullopt;
}

std::vector<std::string_view> claims_on(Role role) {
  const RoleRow& row = row_of(role);
  if (row.family.empty()) return {row.name, "default"};
  return {row.name, row.family, "matrix", "default"};
}

std::vector<std::string> stack_entry_names() {
  std::vector<std::string> names = {"default", "vector", "matrix", "attention", "mlp", "experts"};
  for (const auto& row : kRows) {
    if (row.role != Role::vector) names.emplace_back(row.name);
  }
  return names;
}

}  // namespace equisweep
