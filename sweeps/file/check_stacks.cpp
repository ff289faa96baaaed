// The stacks against the models of the sweep.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "models/models.h"
#include "optimizers/optimizer.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

// More variants of one entry than this are checked when the plan is expanded, which has its own limit.
constexpr std::int64_t kMaxCheckedVariants = 10'000;

/// What assign_roles() looks at beside the names of entries: matrix rules are refused for vectors, centred ones where a
/// shift is no symmetry.
std::string kind_of(const json& entry) {
  return fmt::format("{} {}", entry.at("rule").get<std::string>(), entry.value("centered", false));
}

class StackChecker {
 public:
  StackChecker(const StackSpec& stack, Problems& problems) : stack_(stack), problems_(problems) {}

  /// Every option of every entry, whether a weight uses it or not.
  void check_options() {
    for (const StackEntry& entry : stack_.entries)
      for (const Architecture& architecture : architectures())
        if (has_value(entry, architecture.name)) kinds(entry, std::string(architecture.name));
  }

  /// The roles of each model are all claimed, by rules that can serve them, and every entry of the file is used.
  void check_against(const std::vector<ModelSpec>& models) {
    std::set<std::string> used, names;
    for (const ModelSpec& model : models) {
      for (const Role role : model.roles) names.emplace(name_of(role));
      for (const StackEntry* entry : used_entries(stack_, model.roles)) used.insert(entry->name);
      if (!check_model(model)) return;
    }
    for (const StackEntry& entry : stack_.entries)
      if (!used.contains(entry.name) && !entry.optional) {
        const std::vector<std::string> roles(names.begin(), names.end());
        problems_.add(
            entry.where,
            fmt::format("stacks.{}.{}: no weight of any model of the sweep is left for this entry", stack_.name, entry.name),
            "entries for the roles of the models: " + join(roles));
      }
  }

 private:
  static bool has_value(const StackEntry& entry, std::string_view architecture) {
    return std::all_of(entry.options.begin(), entry.options.end(),
                       [&](const StackOption& option) { return option.values[0].value_for(architecture) != nullptr; });
  }

  /// One complete entry of each kind, by kind; empty where a problem was reported or there are too many to look at now.
  std::map<std::string, json> kinds(const StackEntry& entry, const std::string& architecture) {
    std::map<std::string, json> result;
    if (entry.broken || count_variants(entry, kMaxCheckedVariants) > kMaxCheckedVariants) return result;
    try {
      for (EntryVariant& variant : expand_entry(stack_, entry, architecture))
        result.emplace(kind_of(variant.entry), std::move(variant.entry));
    } catch (const UsageError& e) {
      for (const Problem& p : e.problems()) problems_.add(p.where, p.what, p.allowed, p.nearest);
    }
    return result;
  }

  /// Every combination of kinds (the first thousand of them); false where a problem was reported.
  bool check_model(const ModelSpec& model) {
    std::vector<json> candidates = {json::object()};
    for (const StackEntry* entry : used_entries(stack_, model.roles)) {
      std::vector<json> next;
      for (const auto& [kind, complete] : kinds(*entry, model.config.at("architecture")))
        for (const json& candidate : candidates) {
          next.push_back(candidate);
          next.back()[entry->name] = complete;
        }
      if (next.empty()) return false;
      candidates = std::move(next);
      if (candidates.size() > 1000) candidates.resize(1000);
    }
    for (const json& candidate : candidates) {
      try {
        assign_roles(candidate, model.roles);
      } catch (const UsageError& e) {
        const std::string context = fmt::format("stacks.{} on {}: ", stack_.name, model.name);
        for (const Problem& p : e.problems()) problems_.add(stack_.where, context + p.what, p.allowed, p.nearest);
        return false;
      }
    }
    return true;
  }

  const StackSpec& stack_;
  Problems& problems_;
};

}  // namespace

void check_stacks(const std::vector<StackSpec>& stacks, std::span<const std::string> running,
                  const std::vector<ModelSpec>& models, Problems& problems) {
  for (const StackSpec& stack : stacks) {
    if (stack.entries.empty()) continue;
    StackChecker checker(stack, problems);
    checker.check_options();
    if (!models.empty() && std::find(running.begin(), running.end(), stack.name) != running.end())
      checker.check_against(models);
  }
}

}  // namespace equisweep
