#include "sweeps/file/stacks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "models/models.h"
#include "optimizers/rules.h"
#include "sweeps/file/grammar.h"

namespace equisweep {

using nlohmann::json;

namespace {

constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
  return names;
}

const Field& rule_field() {
  static const Field field{
      .name = "rule", .kind = FieldKind::choice, .default_json = "", .doc = "update rule", .choices = rule_names()};
  return field;
}

constexpr std::string_view kBuiltin = "builtin/";

/// A stack with its parents folded in: entry -> the map that counts.
struct Merged {
  struct Entry {
    Node node;
    bool named = false;  ///< it stands in a named stack, and the file changes nothing in it
  };
  std::map<std::string, Entry> entries;
  std::vector<std::string> order;
};

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture& a : architectures()) names.emplace_back(a.name);
  return names;
}

class StackReader {
 public:
  StackReader(const Node& stacks, Problems& problems) : stacks_(stacks), problems_(problems) {
    for (const Member& m : stacks.members) names_.push_back(m.key);
    for (const NamedStack& named : named_stacks()) names_.push_back(fmt::format("{}{}", kBuiltin, named.name));
  }

  NamedStackInfo read_named(const NamedStack& named) {
    const std::string key = fmt::format("{}{}", kBuiltin, named.name);
    const Member& member = named_member(named);
    NamedStackInfo info{.name = key, .summary = "", .stack = {.name = key, .where = member.where}};
    if (const Member* summary = member.value.find("summary")) info.summary = summary->value.scalar;
    read_entries(member, key, info.stack);
    return info;
  }

  StackSpec read(const Member& member) {
    StackSpec stack{.name = member.key, .where = member.where, .baseline = false, .entries = {}};
    const std::string path = "stacks." + printable(member.key, 60);
    if (member.key.find_first_not_of(kNameCharacters) != std::string::npos || member.key.size() > 60)
      problems_.add(member.where, fmt::format("'{}' cannot be the name of a stack", printable(member.key, 60)),
                    "letters, digits, _ and -, at most 60");
    static const Field baseline{.name = "baseline", .kind = FieldKind::boolean, .default_json = "false", .doc = ""};
    const json flag = read_member(member.value, baseline, path, problems_);
    stack.baseline = flag.is_boolean() && flag.get<bool>();
    read_entries(member, path, stack);
    return stack;
  }

 private:
  void read_entries(const Member& member, const std::string& path, StackSpec& stack) {
    const Merged* merged = merge(member);
    if (!merged) return;
    for (const std::string& name : merged->order) {
      const Merged::Entry& source = merged->entries.at(name);
      if (auto entry = read_entry(name, source.node, join_path(path, name))) {
        entry->optional = source.named;
        stack.entries.push_back(std::move(*entry));
      }
    }
    if (merged->order.empty())
      problems_.add(member.where, fmt::format("{}: no entry", path), "at least one of: " + join(stack_entry_names()));
  }

  /// The text of a named stack as if it stood in the file, read once.
  const Member& named_member(const NamedStack& named) {
    const std::string key = fmt::format("{}{}", kBuiltin, named.name);
    const auto it = named_.find(key);
    if (it != named_.end()) return it->second;
    Node root = read_yaml(named.text, key, problems_);
    const SourcePosition where = root.where;
    return named_.emplace(key, Member{key, where, std::move(root)}).first->second;
  }

  /// nullptr where a problem makes the stack unreadable.
  const Merged* merge(const Member& member) {
    if (const auto it = done_.find(member.key); it != done_.end()) return it->second ? &*it->second : nullptr;
    if (const auto it = std::find(open_.begin(), open_.end(), member.key); it != open_.end()) {
      std::vector<std::string> cycle(it, open_.end());
      cycle.push_back(member.key);
      problems_.add(member.where, "extends goes round in a circle: " + join(cycle, " -> "),
                    "a stack that does not lead back here");
      return nullptr;
    }
    open_.push_back(member.key);
    std::optional<Merged> result = merge_new(member);
    open_.pop_back();
    auto& stored = done_[member.key] = std::move(result);
    return stored ? &*stored : nullptr;
  }

  std::optional<Merged> merge_new(const Member& member) {
    const bool named = member.key.starts_with(kBuiltin);
    const std::string path = named ? member.key : "stacks." + printable(member.key, 60);
    const Node& node = member.value;
    if (node.kind == NodeKind::broken) return std::nullopt;
    std::vector<std::string> allowed = {named ? "summary" : "baseline", "extends"};
    for (std::string& name : stack_entry_names()) allowed.push_back(std::move(name));
    if (node.kind != NodeKind::map) {
      problems_.add(node.where, fmt::format("{}: {} is not a map", path, describe(node)),
                    "a map with the keys: " + join(allowed));
      return std::nullopt;
    }
    Merged merged;
    if (const Member* parent = node.find("extends")) {
      const Merged* inherited = parent_of(*parent, path);
      if (!inherited) return std::nullopt;
      merged = *inherited;
    }
    for (const Member& m : node.members) {
      if (m.key == allowed[0] || m.key == allowed[1]) continue;
      if (std::find(allowed.begin(), allowed.end(), m.key) == allowed.end()) {
        problems_.add(m.where, fmt::format("{}: unknown key '{}'", path, printable(m.key, 60)), join(allowed),
                      nearest_name(m.key, allowed));
        continue;
      }
      const auto inherited = merged.entries.find(m.key);
      if (inherited == merged.entries.end()) {
        merged.order.push_back(m.key);
        merged.entries[m.key] = {m.value, named};
        continue;
      }
      Merged::Entry& entry = inherited->second;
      entry.named = named;
      if (m.value.kind == NodeKind::map && entry.node.kind == NodeKind::map && !m.value.find("rule")) {
        overlay(entry.node, m.value);
      } else {
        entry.node = m.value;
      }
    }
    return merged;
  }

  const Merged* parent_of(const Member& extends, const std::string& path) {
    const Node& node = extends.value;
    if (node.kind == NodeKind::broken) return nullptr;
    if (node.kind == NodeKind::text) {
      for (const NamedStack& named : named_stacks())
        if (node.scalar == fmt::format("{}{}", kBuiltin, named.name)) return merge(named_member(named));
      if (const Member* parent = stacks_.find(node.scalar)) return merge(*parent);
    }
    problems_.add(node.where, fmt::format("{}.extends: {} is no stack of this file, and no named one", path, describe(node)),
                  "one of: " + join(names_), nearest_name(node.scalar, names_));
    return nullptr;
  }

  /// An entry without a rule of its own changes options of the inherited one.
  static void overlay(Node& base, const Node& changes) {
    base.where = changes.where;
    for (const Member& change : changes.members) {
      const auto it =
          std::find_if(base.members.begin(), base.members.end(), [&](const Member& m) { return m.key == change.key; });
      if (it == base.members.end()) {
        base.members.push_back(change);
      } else {
        *it = change;
      }
    }
  }

  std::optional<StackEntry> read_entry(const std::string& name, const Node& node, const std::string& path) {
    if (node.kind == NodeKind::broken) return std::nullopt;
    if (node.kind != NodeKind::map) {
      problems_.add(node.where, fmt::format("{}: {} is not a map", path, describe(node)),
                    "a map like {rule: adamw, lr: 3e-3}");
      return std::nullopt;
    }
    StackEntry entry{.name = name, .where = node.where, .options = {}, .broken = false};
    std::vector<json> chosen;
    if (const Member* rule = node.find("rule")) {
      chosen = read_values(rule->value, rule_field(), path + ".rule", problems_);
    } else {
      problems_.add(node.where, fmt::format("key '{}.rule' is missing", path), allowed_values(rule_field()));
    }
    if (chosen.empty()) return std::nullopt;  // what is allowed depends on the rule
    for (const Member& m : node.members) {
      if (m.key == "rule") {
        entry.options.push_back({"rule", std::vector<OptionValue>(chosen.begin(), chosen.end())});
        continue;
      }
      std::vector<StackOption> first;
      for (const json& rule : chosen) {
        std::vector<StackOption> options;
        const std::string rule_name = rule.get<std::string>();
        if (!read_option(m, fields_of(rule_name), path, "", "rule " + rule_name, options)) entry.broken = true;
        if (first.empty()) first = std::move(options);
      }
      for (StackOption& option : first) entry.options.push_back(std::move(option));
    }
    return entry;
  }

  static std::vector<Field> fields_of(const std::string& rule) {
    std::vector<Field> fields(common_fields().begin(), common_fields().end());
    const RuleInfo& info = find_rule(rule);
    fields.insert(fields.end(), info.fields.begin(), info.fields.end());
    return fields;
  }

  /// False where a problem was reported.
  bool read_option(const Member& m, std::span<const Field> fields, const std::string& path, const std::string& inner,
                   const std::string& owner, std::vector<StackOption>& out) {
    const Field* field = find_field(fields, m.key);
    if (!field) {
      const auto names = names_of(fields);
      problems_.add(m.where, fmt::format("{}: unknown option '{}' of {}", path, printable(m.key, 60), owner), join(names),
                    nearest_name(m.key, names));
      return false;
    }
    const std::string option = join_path(inner, m.key);
    if (field->kind == FieldKind::map && m.value.kind == NodeKind::map) {
      bool good = true;
      for (const Member& child : m.value.members)
        good = read_option(child, field->fields, join_path(path, m.key), option, owner, out) && good;
      return good;
    }
    const std::string own = join_path(path, m.key);
    std::vector<OptionValue> values;
    if (m.value.kind == NodeKind::map && m.value.members.size() == 1 && m.value.members[0].key == OptionValue::kKey) {
      if (json each = read_by_architecture(m.value.members[0].value, *field, own); !each.empty())
        values.push_back(OptionValue::by_architecture(std::move(each)));
    } else {
      for (json& value : read_values(m.value, *field, own, problems_)) values.emplace_back(std::move(value));
    }
    if (values.empty()) return false;
    out.push_back({option, std::move(values)});
    return true;
  }

  /// {qwen3: VALUE, ...}; empty where a problem was reported.
  json read_by_architecture(const Node& node, const Field& field, const std::string& path) {
    if (node.kind == NodeKind::broken) return {};
    const std::vector<std::string> names = architecture_names();
    const std::string own = join_path(path, OptionValue::kKey), allowed = "a value for each of: " + join(names);
    if (node.kind != NodeKind::map || node.members.empty()) {
      problems_.add(node.where, fmt::format("{}: {} is not a map of values", own, describe(node)), allowed);
      return {};
    }
    json values = json::object();
    bool good = true;
    for (const Member& m : node.members) {
      if (std::find(names.begin(), names.end(), m.key) == names.end()) {
        problems_.add(m.where, fmt::format("{}: unknown architecture '{}'", own, printable(m.key, 60)), allowed,
                      nearest_name(m.key, names));
        good = false;
        continue;
      }
      json value = read_value(m.value, field, join_path(own, m.key), problems_);
      good = good && !value.is_null();
      values[m.key] = std::move(value);
    }
    return good ? values : json();
  }

  const Node& stacks_;
  Problems& problems_;
  std::vector<std::string> names_, open_;
  std::map<std::string, Member> named_;  ///< nodes stay where they are: merge() keeps references
  std::map<std::string, std::optional<Merged>> done_;
};

}  // namespace

OptionValue OptionValue::by_architecture(json values) {
  OptionValue value(std::move(values));
  value.by_architecture_ = true;
  return value;
}

const json* OptionValue::value_for(std::string_view architecture) const {
  if (!by_architecture_) return &value_;
  const auto it = value_.find(architecture);
  return it == value_.end() ? nullptr : &*it;
}

json OptionValue::as_written() const { return by_architecture_ ? json{{kKey, value_}} : value_; }

std::vector<StackSpec> read_stacks(const Node& stacks, Problems& problems) {
  std::vector<StackSpec> result;
  StackReader reader(stacks, problems);
  for (const Member& member : stacks.members) result.push_back(reader.read(member));
  return result;
}

std::vector<NamedStackInfo> describe_named_stacks() {
  Problems problems;
  Node none;
  none.kind = NodeKind::map;
  StackReader reader(none, problems);
  std::vector<NamedStackInfo> all;
  for (const NamedStack& named : named_stacks()) all.push_back(reader.read_named(named));
  problems.throw_if_any();
  return all;
}

std::vector<const StackEntry*> used_entries(const StackSpec& stack, std::span<const Role> roles) {
  std::set<std::string_view> claiming;
  for (const Role role : roles)
    for (const std::string_view name : claims_on(role))
      if (std::any_of(stack.entries.begin(), stack.entries.end(), [&](const StackEntry& e) { return e.name == name; })) {
        claiming.insert(name);
        break;
      }
  std::vector<const StackEntry*> used;
  for (const StackEntry& entry : stack.entries)
    if (claiming.contains(entry.name)) used.push_back(&entry);
  return used;
}

std::int64_t count_variants(const StackEntry& entry, std::int64_t limit) {
  std::int64_t count = 1;
  for (const StackOption& option : entry.options)
    count = std::min(limit + 1, count * std::min<std::int64_t>(static_cast<std::int64_t>(option.values.size()), limit + 1));
  return count;
}

std::vector<EntryVariant> expand_entry(const StackSpec& stack, const StackEntry& entry, const std::string& architecture) {
  std::vector<EntryVariant> variants;
  std::vector<std::size_t> at(entry.options.size(), 0);
  const std::string context = fmt::format("stacks.{}.{}", stack.name, entry.name);
  Problems problems;
  for (const StackOption& option : entry.options)
    if (!option.values[0].value_for(architecture))
      problems.add(entry.where, fmt::format("{}.{}: no value for architecture {}", context, option.path, architecture),
                   fmt::format("{}: {{..., {}: VALUE}}", OptionValue::kKey, architecture));
  problems.throw_if_any();
  for (bool more = true; more;) {
    json given = json::object(), axes = json::object();
    for (std::size_t i = 0; i < at.size(); ++i) {
      const StackOption& option = entry.options[i];
      const json& value = *option.values[at[i]].value_for(architecture);
      json* target = &given;
      std::string_view path = option.path;
      for (std::size_t dot = path.find('.'); dot != path.npos; dot = path.find('.')) {
        target = &(*target)[std::string(path.substr(0, dot))];
        path.remove_prefix(dot + 1);
      }
      (*target)[std::string(path)] = value;
      if (option.values.size() > 1) axes[fmt::format("{}.{}", entry.name, option.path)] = value;
    }
    try {
      variants.push_back({complete_entry(given), std::move(axes)});
    } catch (const UsageError& e) {
      for (const Problem& p : e.problems())
        problems.add(entry.where, fmt::format("{}: {}", context, p.what), p.allowed, p.nearest);
      if (e.problems().empty()) problems.add(entry.where, fmt::format("{}: {}", context, e.what()));
    }
    more = false;
    for (std::size_t i = at.size(); i-- > 0 && !more;) {
      more = ++at[i] < entry.options[i].values.size();
      if (!more) at[i] = 0;
    }
  }
  problems.throw_if_any();
  return variants;
}

}  // namespace equisweep
