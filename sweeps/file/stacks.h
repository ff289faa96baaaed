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

/// Every stack of the map `stacks`, in the order of the file.
std::vector<StackSpec> read_stacks(const Node& stacks, Problems& problems);

/// One way to set an entry: the complete entry (optimizers/rules.h) and the values of its axes by path within the stack.
struct EntryVariant {
  nlohmann::json entry;
  nlohmann::json axes;
};

/// Number of ways to set `entry`, capped at `limit` + 1.
std::int64_t count_variants(const StackEntry& entry, std::int64_t limit);

/// All of them, the last option fastest. Throws UsageError where a combination is refused, with the place of the entry.
std::vector<EntryVariant> expand_entry(const StackSpec& stack, const StackEntry& entry);

/// Checks the options of all stacks, and those that run against the models of the sweep: roles that nobody claims, entries
/// that no model uses, matrix rules for vectors, centred rules on tied embeddings.
void check_stacks(const std::vector<StackSpec>& stacks, std::span<const std::string> running,
                  const std::vector<ModelSpec>& models, Problems& problems);

}  // namespace equisweep
