#pragma once
// What a weight is. Models declare it; nothing is ever guessed from a name.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

/// The roles of optimizers.md section 1. The symmetry group of each block is listed in docs/rules.md.
enum class Role {
  embedding,        ///< [v, d]; unit = token. A tied embedding is an embedding, never centred
  lm_head,          ///< [v, d], untied; unit = token; shared logit shift
  router,           ///< [e, d]; unit = expert; shared logit shift
  attention_q,      ///< [H*h, d]
  attention_k,      ///< [G*h, d]
  attention_v,      ///< [G*h, d]
  attention_o,      ///< [d, H*h]
  mlp_gate,         ///< [r, d]; unit = intermediate neuron
  mlp_up,           ///< [r, d]
  mlp_down,         ///< [d, r]; unit = column
  experts_gate_up,  ///< [E, 2r, d] or, interleaved, [E, d, 2r]
  experts_down,     ///< [E, d, r] or [E, r, d]
  vector,           ///< norm gains, biases, sinks: no symmetry is claimed
};

inline constexpr std::array kRoles = {
    Role::embedding,   Role::lm_head,         Role::router,       Role::attention_q, Role::attention_k,
    Role::attention_v, Role::attention_o,     Role::mlp_gate,     Role::mlp_up,      Role::mlp_down,
    Role::experts_gate_up, Role::experts_down, Role::vector};

/// The name in sweep files: "attention_q", ...
std::string_view name_of(Role role);
std::optional<Role> role_from_name(std::string_view name);

/// The entries of a stack that may claim a role, most specific first: attention_q -> {attention_q, attention, matrix,
/// default}; embedding -> {embedding, default}; vector -> {vector, default}. `matrix` is every hidden matrix: attention,
/// mlp and experts, not embedding, LM head and router.
std::vector<std::string_view> claims_on(Role role);

/// Every name that may stand as an entry of a stack: default, vector, matrix, attention, mlp, experts and the roles.
std::vector<std::string> stack_entry_names();

}  // namespace equisweep
