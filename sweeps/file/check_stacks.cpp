// The stacks against the models of the sweep.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "optimizers/optimizer.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

// More variants of one entry than this are checked when the plan is expanded, which has its own limit.
constexpr std::int64_t kMaxCheckedVariants = 10'000;

struct Checked {
  std::string name;
  SourcePosition where;
  std::vector<json> kinds;  ///< one complete entry of each kind, see kind_of()
};

/// What assign_roles() looks at beside the names of entries: matrix rules are refused for vectors, centred ones where a
/// shift is no symmetry.
std::string kind_of(const json& entry) {
  return fmt::format("{} {}", entry.at("rule").get<std::string>(), entry.value("centered", false));
}

std::vector<Checked> complete_entries(const StackSpec& stack, Problems& problems, bool& whole) {
  std::vector<Checked> entries;
  for (const StackEntry& entry : stack.entries) {
    if (entry.broken || count_variants(entry, kMaxCheckedVariants) > kMaxCheckedVariants) {
      whole = false;
      continue;
    }
    try {
      Checked checked{.name = entry.name, .where = entry.where, .kinds = {}};
      std::set<std::string> kinds;
      for (EntryVariant& variant : expand_entry(stack, entry))
        if (kinds.insert(kind_of(variant.entry)).second) checked.kinds.push_back(std::move(variant.entry));
      entries.push_back(std::move(checked));
    } catch (const UsageError& e) {
      whole = false;
      for (const Problem& p : e.problems()) problems.add(p.where, p.what, p.allowed, p.nearest);
    }
  }
  return entries;
}

/// One stack for each combination of kinds (the first thousand of them).
std::vector<json> stacks_by_kind(const std::vector<Checked>& entries) {
  std::vector<json> stacks = {json::object()};
  for (const Checked& entry : entries) {
    std::vector<json> next;
    for (const json& stack : stacks)
      for (const json& variant : entry.kinds) {
        next.push_back(stack);
        next.back()[entry.name] = variant;
      }
    stacks = std::move(next);
    if (stacks.size() > 1000) stacks.resize(1000);
  }
  return stacks;
}

void check_against_models(const StackSpec& stack, const std::vector<Checked>& entries, const std::vector<ModelSpec>& models,
                          Problems& problems) {
  const std::string path = "stacks." + stack.name;
  std::set<std::string> used, names;
  for (const json& candidate : stacks_by_kind(entries)) {
    for (const ModelSpec& model : models) {
      try {
        const auto claims = assign_roles(candidate, model.roles, /*allow_unused=*/true);
        for (const auto& [role, entry] : claims) {
          used.insert(entry);
          names.emplace(name_of(role));
        }
      } catch (const UsageError& e) {
        for (const Problem& p : e.problems())
          problems.add(stack.where, fmt::format("{} on {}: {}", path, model.name, p.what), p.allowed, p.nearest);
        if (e.problems().empty()) problems.add(stack.where, fmt::format("{} on {}: {}", path, model.name, e.what()));
        return;
      }
    }
  }
  for (const Checked& entry : entries)
    if (!used.contains(entry.name)) {
      const std::vector<std::string> roles(names.begin(), names.end());
      problems.add(entry.where,
                   fmt::format("{}.{}: no weight of any model of the sweep is left for this entry", path, entry.name),
                   "entries for the roles of the models: " + join(roles));
    }
}

}  // namespace

void check_stacks(const std::vector<StackSpec>& stacks, std::span<const std::string> running,
                  const std::vector<ModelSpec>& models, Problems& problems) {
  for (const StackSpec& stack : stacks) {
    bool whole = !stack.entries.empty();
    const auto entries = complete_entries(stack, problems, whole);
    const bool runs = std::find(running.begin(), running.end(), stack.name) != running.end();
    if (whole && runs && !models.empty()) check_against_models(stack, entries, models, problems);
  }
}

}  // namespace equisweep
