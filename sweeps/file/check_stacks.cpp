// The stacks against the models of the sweep.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string_view>

#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

// What a file may cost here, whatever its axes: settings of one entry, and of all entries together. Entries beyond that are
// checked when the plan is expanded, which has its own limit.
constexpr std::int64_t kMaxSettings = 1'000, kMaxSettingsOfAll = 20'000;

/// What assign_roles() looks at beside the names of entries: matrix rules are refused for vectors, centred ones where a
/// shift is no symmetry.
std::string kind_of(const json& entry) {
  return fmt::format("{} {} {}", entry.at("rule").get<std::string>(), make_rule(entry)->coordinatewise(),
                     entry.value("centered", false));
}

bool depends_on_architecture(const StackEntry& entry) {
  return std::any_of(entry.options.begin(), entry.options.end(), [](const StackOption& option) {
    return std::any_of(option.values.begin(), option.values.end(), [](const OptionValue& value) { return value.each(); });
  });
}

/// The values of an option that stand for all of them. Each was held against its own range when it was read; what rules
/// refuse beyond that is a number that is not zero, one that is not a certain other, or one beyond a bound. The smallest,
/// the largest and zero show it wherever any number of a list does.
std::vector<OptionValue> standing_for_all(const std::vector<OptionValue>& values, const std::string& architecture) {
  std::vector<double> numbers;
  for (const OptionValue& value : values) {
    const json* given = value.value_for(architecture);
    if (given == nullptr || !given->is_number()) return values;
    numbers.push_back(given->get<double>());
  }
  const auto [smallest, largest] = std::minmax_element(numbers.begin(), numbers.end());
  const std::set<std::ptrdiff_t> kept = {smallest - numbers.begin(), largest - numbers.begin(),
                                         std::find(numbers.begin(), numbers.end(), 0.0) - numbers.begin()};
  std::vector<OptionValue> result;
  for (const std::ptrdiff_t i : kept)
    if (i < std::ssize(values)) result.push_back(values[static_cast<std::size_t>(i)]);
  return result;
}

/// One weight of each role and layout of a model.
std::vector<Param> different_weights(const ModelSpec& model) {
  std::vector<Param> result;
  std::set<std::pair<Role, LayoutKind>> seen;
  for (Param& param : describe_params(model.config))
    if (seen.emplace(param.role, param.layout.kind).second) result.push_back(std::move(param));
  return result;
}

/// What the checks of all stacks share.
struct StackCheck {
  std::int64_t settings_left = kMaxSettingsOfAll;
  std::map<const ModelSpec*, std::vector<Param>> weights;  ///< by model, made when they are asked for
};

class StackChecker {
 public:
  StackChecker(const StackSpec& stack, StackCheck& shared, Problems& problems)
      : stack_(stack), shared_(shared), problems_(problems) {}

  /// Every option of every entry, whether a weight uses it or not.
  void check_options() {
    for (const StackEntry& entry : stack_.entries)
      for (const Architecture& architecture : architectures())
        if (has_value(entry, architecture.name)) kinds(entry, std::string(architecture.name));
  }

  /// The roles of each model are all claimed, by rules and views that can serve them, and every entry of the file is used.
  void check_against(const std::vector<ModelSpec>& models) {
    std::set<std::string> used, names;
    for (const ModelSpec& model : models) {
      for (const Role role : model.roles) names.emplace(name_of(role));
      for (const StackEntry* entry : used_entries(stack_, model.roles)) used.insert(entry->name);
      if (!check_model(model) || !check_views(model)) return;
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
  using Kinds = std::map<std::string, json>;

  static bool has_value(const StackEntry& entry, std::string_view architecture) {
    return std::all_of(entry.options.begin(), entry.options.end(),
                       [&](const StackOption& option) { return option.values[0].value_for(architecture) != nullptr; });
  }

  /// One complete entry of each kind, by kind; empty where a problem was reported or there are too many to look at now. An
  /// entry is expanded once, or once for each architecture that it has values for.
  const Kinds& kinds(const StackEntry& entry, const std::string& architecture) {
    const auto [it, fresh] = kinds_.try_emplace({&entry, depends_on_architecture(entry) ? architecture : ""});
    if (!fresh || entry.broken) return it->second;
    StackEntry some = entry;
    for (StackOption& option : some.options) option.values = standing_for_all(option.values, architecture);
    const std::int64_t most = std::min(kMaxSettings, shared_.settings_left), count = count_variants(some, most);
    if (count > most) return it->second;
    shared_.settings_left -= count;
    try {
      for (EntryVariant& variant : expand_entry(stack_, some, architecture))
        it->second.emplace(kind_of(variant.entry), std::move(variant.entry));
    } catch (const UsageError& e) {
      it->second.clear();
      for (const Problem& p : e.problems()) problems_.add(p.where, p.what, p.allowed, p.nearest);
    }
    return it->second;
  }

  /// Each kind of each entry, beside any of the others: what an entry may serve does not depend on them. False where a
  /// problem was reported.
  bool check_model(const ModelSpec& model) {
    const std::vector<const StackEntry*> entries = used_entries(stack_, model.roles);
    const std::string architecture = model.config.at("architecture");
    json candidate = json::object();
    for (const StackEntry* entry : entries) {
      const Kinds& all = kinds(*entry, architecture);
      if (all.empty()) return false;
      candidate[entry->name] = all.begin()->second;
    }
    if (!is_assigned(candidate, model)) return false;
    for (const StackEntry* entry : entries) {
      const Kinds& all = kinds(*entry, architecture);
      for (auto kind = std::next(all.begin()); kind != all.end(); ++kind) {
        json changed = candidate;
        changed[entry->name] = kind->second;
        if (!is_assigned(changed, model)) return false;
      }
    }
    return true;
  }

  bool is_assigned(const json& candidate, const ModelSpec& model) {
    try {
      assign_roles(candidate, model.roles);
    } catch (const UsageError& e) {
      const std::string context = fmt::format("stacks.{} on {}: ", stack_.name, model.name);
      for (const Problem& p : e.problems()) problems_.add(stack_.where, context + p.what, p.allowed, p.nearest);
      return false;
    }
    return true;
  }

  /// The layout of each weight has every view that its entry asks for; false where a problem was reported.
  bool check_views(const ModelSpec& model) {
    const std::string architecture = model.config.at("architecture");
    std::map<std::string_view, std::vector<std::string>> asked;  // views by name of entry
    for (const StackEntry& entry : stack_.entries)
      for (const StackOption& option : entry.options)
        if (option.path == "view")
          for (const OptionValue& value : option.values)
            if (const json* view = value.value_for(architecture)) asked[entry.name].push_back(view->get<std::string>());
    if (asked.empty()) return true;
    const auto [weights, fresh] = shared_.weights.try_emplace(&model);
    if (fresh) weights->second = different_weights(model);
    bool good = true;
    std::set<std::pair<std::string_view, LayoutKind>> seen;
    for (const Param& param : weights->second)
      for (const StackEntry* entry : used_entries(stack_, std::span(&param.role, 1)))
        if (asked.contains(entry->name) && seen.emplace(entry->name, param.layout.kind).second) {
          std::vector<std::string> names = {std::string(name_of(ViewKind::natural))};
          for (const ViewKind view : views_of(param.layout)) names.emplace_back(name_of(view));
          for (const std::string& view : asked.at(entry->name))
            if (std::find(names.begin(), names.end(), view) == names.end()) {
              good = false;
              problems_.add(entry->where,
                            fmt::format("stacks.{}.{} on {}: {} has layout {}, which has no view '{}'", stack_.name,
                                        entry->name, model.name, param.name, name_of(param.layout.kind), view),
                            join(names));
            }
        }
    return good;
  }

  const StackSpec& stack_;
  StackCheck& shared_;
  Problems& problems_;
  std::map<std::pair<const StackEntry*, std::string>, Kinds> kinds_;
};

/// Whether a value of `entry` for a model of `architecture` makes its rule a centred one.
bool may_be_centered(const StackEntry& entry, std::string_view architecture) {
  return std::any_of(entry.options.begin(), entry.options.end(), [&](const StackOption& option) {
    return option.path == "centered" && std::any_of(option.values.begin(), option.values.end(), [&](const OptionValue& v) {
             const json* value = v.value_for(architecture);
             return value && *value == true;
           });
  });
}

}  // namespace

void check_stacks(const std::vector<StackSpec>& stacks, std::span<const std::string> running,
                  const std::vector<ModelSpec>& models, Problems& problems) {
  StackCheck shared;
  for (const StackSpec& stack : stacks) {
    if (stack.entries.empty()) continue;
    StackChecker checker(stack, shared, problems);
    checker.check_options();
    if (!models.empty() && std::find(running.begin(), running.end(), stack.name) != running.end())
      checker.check_against(models);
  }
}

std::vector<std::string> stack_notes(const SweepSpec& spec) {
  std::vector<std::string> notes;
  const bool z_loss = spec.train.contains("router") && spec.train.at("router").value("z_loss", 0.0) > 0;
  for (const StackSpec& stack : spec.stacks)
    for (const ModelSpec& model : spec.models) {
      const std::string architecture = model.config.at("architecture");
      const auto centered = [&](Role role) {
        const std::vector<const StackEntry*> entries = used_entries(stack, std::span(&role, 1));
        return model.has_role(role) && !entries.empty() && may_be_centered(*entries.front(), architecture);
      };
      if (z_loss && centered(Role::router))
        notes.push_back(fmt::format(
            "{} on {}: a centred router cannot follow the part of train.router.z_loss that pulls all logits together",
            stack.name, model.name));
      if (const auto cap = model.config.find("softcap");
          cap != model.config.end() && cap->is_number() && centered(Role::lm_head))
        notes.push_back(fmt::format(
            "{} on {}: softcap {} makes a shared shift of the logits count, which a centred lm_head cannot learn",
            stack.name, model.name, cap->dump()));
    }
  return notes;
}

}  // namespace equisweep
