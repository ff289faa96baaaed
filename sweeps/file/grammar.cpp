#include "sweeps/file/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace equisweep {

using nlohmann::json;

namespace {

/// Keys of the specification that this version does not have, and what there is instead.
constexpr auto kUnsupported =
    std::to_array<std::pair<std::string_view, std::string_view>>({{"resources.ranks", "one process a job: leave it out"}});

/// Fields of one value that may also be a list of values.
constexpr auto kLists = std::to_array<std::string_view>({"tags", "tune.seeds", "tune.confirm_seeds", "retry.on"});

json read_list(const Node& node, Problems& problems, const std::string& path) {
  json list = json::array();
  for (const Node& item : node.items) {
    if (item.kind == NodeKind::broken) return nullptr;
    if (item.kind == NodeKind::sequence || item.kind == NodeKind::map) {
      problems.add(item.where, fmt::format("{}: {} cannot stand in a list", path, describe(item)), "a list of values");
      return nullptr;
    }
    list.push_back(scalar_to_json(item));
  }
  return list;
}

}  // namespace

bool takes_list(std::string_view path) {
  return path.starts_with("grid.") || path.starts_with("zip.") ||
         std::find(kLists.begin(), kLists.end(), path) != kLists.end();
}

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void check_keys(const Node& map, std::span<const Field> fields, const std::string& path, Problems& problems) {
  const auto names = names_of(fields);
  for (const Member& member : map.members) {
    if (find_field(fields, member.key) || problems.full()) continue;
    const std::string prefix = path.empty() ? "" : path + ": ", own = join_path(path, member.key);
    const auto known = std::find_if(kUnsupported.begin(), kUnsupported.end(), [&](const auto& k) { return k.first == own; });
    if (known != kUnsupported.end()) {
      problems.add(member.where, fmt::format("{}'{}' is not supported by this version", prefix, member.key),
                   std::string(known->second));
    } else {
      problems.add(member.where, fmt::format("{}unknown key '{}'", prefix, printable(member.key, 60)),
                   names.empty() ? "no keys" : join(names), nearest_name(member.key, names));
    }
  }
}

json read_value(const Node& node, const Field& field, const std::string& path, Problems& problems) {
  if (node.kind == NodeKind::broken) return nullptr;
  if (field.kind == FieldKind::map) {
    if (node.kind != NodeKind::map) {
      problems.add(node.where, fmt::format("{}: {} is not a map", path, describe(node)), allowed_values(field));
      return nullptr;
    }
    check_keys(node, field.fields, path, problems);
    json result = json::object();
    for (const Field& f : field.fields)
      if (json value = read_member(node, f, path, problems); !value.is_null()) result[f.name] = std::move(value);
    return result;
  }
  const bool list = field.kind == FieldKind::number_list || field.kind == FieldKind::name_list;
  if (node.kind == NodeKind::map || (node.kind == NodeKind::sequence && !list)) {
    problems.add(node.where, fmt::format("{}: {} is not {}", path, describe(node), describe(field.kind)),
                 allowed_values(field));
    return nullptr;
  }
  const json value = node.kind == NodeKind::sequence ? read_list(node, problems, path) : scalar_to_json(node);
  if (value.is_null()) return nullptr;
  if (const std::string wrong = check_value(field, value); !wrong.empty()) {
    const bool misspelt = field.kind == FieldKind::choice && value.is_string();
    const bool unquoted = field.kind == FieldKind::string && !value.is_string();
    problems.add(
        node.where, fmt::format("{}: {}", path, wrong),
        allowed_values(field) + (unquoted ? fmt::format("; in quotes, '{}' is one", printable(node.scalar, 60)) : ""),
        misspelt ? nearest_name(node.scalar, field.choices) : "");
    return nullptr;
  }
  // The one spelling of equal values that complete() gives.
  return complete({&field, 1}, json{{field.name, value}}, path).at(field.name);
}

json read_member(const Node& map, const Field& field, const std::string& path, Problems& problems) {
  const std::string own = join_path(path, field.name);
  const bool list = takes_list(own);
  if (const Member* member = map.find(field.name)) {
    if (!list) return read_value(member->value, field, own, problems);
    // The default, written out.
    if (field.default_json == "[]" && member->value.kind == NodeKind::sequence && member->value.items.empty())
      return json::array();
    std::vector<json> values = read_values(member->value, field, own, problems);
    return values.empty() ? json() : json(std::move(values));
  }
  if (field.default_json.empty()) {
    problems.add(map.where, fmt::format("key '{}' is missing", own), allowed_values(field));
    return nullptr;
  }
  if (field.default_json == "null") return nullptr;
  if (list) return json::parse(field.default_json);
  if (field.kind == FieldKind::map) {
    Node empty;
    empty.kind = NodeKind::map;
    empty.where = map.where;
    return read_value(empty, field, own, problems);
  }
  return complete({&field, 1}, json::object(), path).at(field.name);
}

}  // namespace equisweep
