#pragma once
// `stacks:` of a sweep file: inheritance, entries by role, options of rules, axes.

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sweeps/file/reader.h"
#include "sweeps/file/spec.h"

namespace equisweep {

/// A stack that comes with the program: sweeps/stacks/NAME.yaml, extended as builtin/NAME.
struct NamedStack {
  std::string_view name, text;
};
std::span<const NamedStack> named_stacks();

/// The line `summary` of a named stack, and its entries with `extends` resolved.
struct NamedStackInfo {
  std::string name, summary;
  StackSpec stack;
};
std::vector<NamedStackInfo> describe_named_stacks();

/// Every stack of the map `stacks`, in the order of the file.
std::vector<StackSpec> read_stacks(const Node& stacks, Problems& problems);

/// The entries that claim a weight of one of `roles`: for each role the most specific one that the stack has.
std::vector<const StackEntry*> used_entries(const StackSpec& stack, std::span<const Role> roles);

/// One way to set an entry: the complete entry (optimizers/rules.h) and the values of its axes by path within the stack.
struct EntryVariant {
  nlohmann::json entry;
  nlohmann::json axes;
};

/// Number of ways to set `entry`, capped at `limit` + 1.
std::int64_t count_variants(const StackEntry& entry, std::int64_t limit);

/// All of them for a model of `architecture`, the last option fastest. Throws UsageError with the place of the entry where a
/// combination is refused, or an option has no value for the architecture.
std::vector<EntryVariant> expand_entry(const StackSpec& stack, const StackEntry& entry, const std::string& architecture);

/// Multiplies the lr of each of the complete `entries` of `stack` by `scale`. Throws UsageError with the place of the entry
/// where the product leaves the range of a double, or is one that the rule refuses (check_rate() of optimizers/rules.h).
void scale_rates(const StackSpec& stack, nlohmann::json& entries, double scale);

/// Checks the options of all stacks, and those that run against the models of the sweep: roles that nobody claims, entries
/// that no model uses (unless they come from a named stack), matrix rules for vectors, centred rules on tied embeddings.
void check_stacks(const std::vector<StackSpec>& stacks, std::span<const std::string> running,
                  const std::vector<ModelSpec>& models, Problems& problems);

/// What the stacks of a sweep cannot do though nothing forbids it, one line each: centred routers beside a z-loss, and
/// centred LM heads of models whose logits are capped (optimizers.md section 4).
std::vector<std::string> stack_notes(const SweepSpec& spec);

}  // namespace equisweep
