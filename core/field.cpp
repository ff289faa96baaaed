#include "core/field.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/error.h"

namespace equisweep {
namespace {

using nlohmann::json;

constexpr double kLargestExactInteger = 9007199254740992.0;  // 2^53

std::string show(const json& value) {
  switch (value.type()) {
    case json::value_t::string:
      return fmt::format("'{}'", printable(value.get_ref<const std::string&>()));
    case json::value_t::object:
      return "a map";
    case json::value_t::array:
      return "a list";
    case json::value_t::number_float:
      return fmt::format("{}", value.get<double>());
    case json::value_t::number_integer:
      return fmt::format("{}", value.get<std::int64_t>());
    case json::value_t::number_unsigned:
      return fmt::format("{}", value.get<std::uint64_t>());
    case json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    default:
      return "null";
  }
}

std::string bounds(const Field& field) {
  std::string text;
  if (std::isfinite(field.min)) text += fmt::format(" {} {}", field.above_min ? ">" : ">=", field.min);
  if (field.max < std::numeric_limits<double>::max()) {
    const char* before = text.empty() ? "" : " and";
    const double above = std::nextafter(field.max, std::numeric_limits<double>::infinity());
    const bool open = field.kind != FieldKind::integer && above == std::rint(above) && field.max != std::rint(field.max);
    text += open ? fmt::format("{} < {}", before, above) : fmt::format("{} <= {}", before, field.max);
  }
  return text;
}

std::string check_number(const Field& field, const json& value) {
  if (!value.is_number()) return show(value) + " is not a number";
  const double number = value.get<double>();
  if (!std::isfinite(number)) return show(value) + " is not finite";
  const bool low = field.above_min ? number <= field.min : number < field.min;
  return low || number > field.max ? show(value) + " is out of range" : "";
}

std::string check_integer(const Field& field, const json& value) {
  if (!value.is_number()) return show(value) + " is not an integer";
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!std::isfinite(number)) return show(value) + " is not finite";
    if (number != std::trunc(number)) return show(value) + " is not an integer";
    if (std::abs(number) > kLargestExactInteger)
      return show(value) + " is not an exact integer; write it without an exponent or a point";
  } else if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
    return show(value) + " does not fit in 64 bits";
  }
  return check_number(field, value);
}

std::string check_list(const Field& field, const json& value) {
  if (!value.is_array()) return show(value) + " is not a list of numbers";
  if (field.length > 0 && value.size() != field.length) {
    return fmt::format("a list of {} is given where {} belong", value.size(), field.length);
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const auto wrong = check_number(field, value[i]);
    if (!wrong.empty()) return fmt::format("entry {}: {}", i + 1, wrong);
  }
  return "";
}

std::string check_names(const Field& field, const json& value) {
  if (!value.is_array()) return show(value) + " is not a list of names";
  std::set<std::string> seen;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string()) return fmt::format("entry {}: {} is not a name", i + 1, show(value[i]));
    const auto& name = value[i].get_ref<const std::string&>();
    if (std::find(field.choices.begin(), field.choices.end(), name) == field.choices.end())
      return fmt::format("entry {}: {} is unknown", i + 1, show(value[i]));
    if (!seen.insert(name).second) return fmt::format("entry {}: {} stands in the list twice", i + 1, show(value[i]));
  }
  return "";
}

// One spelling for equal values (1 and 1.0, -0.0 and 0.0), so that equal configurations have equal JSON.
json normal_form(FieldKind kind, const json& value) {
  switch (kind) {
    case FieldKind::integer:
      return value.is_number_float() ? json(static_cast<std::int64_t>(value.get<double>())) : value;
    case FieldKind::number:
      return value.get<double>() + 0.0;
    case FieldKind::number_list: {
      json list = json::array();
      for (const auto& entry : value) list.push_back(entry.get<double>() + 0.0);
      return list;
    }
    default:
      return value;
  }
}

class Completion {
 public:
  explicit Completion(std::string_view context) : context_(context) {}

  json complete(std::span<const Field> fields, const json& given, const std::string& path) {
    if (!given.is_object()) {
      complain(path, show(given) + " is not a map", "");
      return {};
    }
    const auto names = names_of(fields);
    for (const auto& [key, value] : given.items()) {
      if (find_field(fields, key) == nullptr) {
        complain(path, fmt::format("unknown key '{}'", printable(key)), fields.empty() ? "no keys" : join(names),
                 nearest_name(key, names));
      }
    }
    json result = json::object();
    for (const auto& field : fields) {
      const auto entry = given.find(field.name);
      const bool optional = field.default_json == "null";
      if (entry != given.end() && !(optional && entry->is_null())) {
        result[field.name] = checked(field, *entry, path);
      } else if (field.default_json.empty()) {
        complain(path, fmt::format("key '{}' is missing", field.name), allowed_values(field));
      } else if (!optional) {
        result[field.name] = default_of(field);
      }
    }
    return result;
  }

  std::vector<Problem> take_problems() { return std::move(problems_); }

 private:
  json checked(const Field& field, const json& value, const std::string& path) {
    const std::string own_path = path.empty() ? field.name : path + "." + field.name;
    const auto wrong = check_value(field, value);
    if (!wrong.empty()) {
      const bool misspelt = field.kind == FieldKind::choice && value.is_string();
      complain(own_path, wrong, allowed_values(field),
               misspelt ? nearest_name(value.get_ref<const std::string&>(), field.choices) : "");
      return {};
    }
    return field.kind == FieldKind::map ? complete(field.fields, value, own_path) : normal_form(field.kind, value);
  }

  static json default_of(const Field& field) {
    Completion own(field.name);
    json value = own.checked(field, json::parse(field.default_json), "");
    if (!own.problems_.empty()) throw std::logic_error("wrong default: " + to_string(own.problems_.front()));
    return value;
  }

  void complain(const std::string& path, const std::string& what, std::string allowed, std::string nearest = "") {
    std::string text(context_);
    if (!text.empty()) text += ": ";
    if (!path.empty()) text += path + ": ";
    problems_.emplace_back(SourcePosition{}, text + what, std::move(allowed), std::move(nearest));
  }

  std::string_view context_;
  std::vector<Problem> problems_;
};

}  // namespace

std::string_view describe(FieldKind kind) {
  switch (kind) {
    case FieldKind::boolean:
      return "true or false";
    case FieldKind::integer:
      return "an integer";
    case FieldKind::number:
      return "a number";
    case FieldKind::string:
      return "a string";
    case FieldKind::choice:
      return "a name";
    case FieldKind::number_list:
      return "a list of numbers";
    case FieldKind::name_list:
      return "a list of names";
    case FieldKind::map:
      return "a map";
  }
  throw std::logic_error("not a kind of field");
}

std::vector<std::string> names_of(std::span<const Field> fields) {
  std::vector<std::string> names;
  for (const auto& field : fields) names.push_back(field.name);
  return names;
}

const Field* find_field(std::span<const Field> fields, std::string_view name) {
  for (const auto& field : fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

std::string check_value(const Field& field, const json& value) {
  const auto unless = [&](bool right) {
    return right ? "" : fmt::format("{} is not {}", show(value), describe(field.kind));
  };
  switch (field.kind) {
    case FieldKind::boolean:
      return unless(value.is_boolean());
    case FieldKind::string:
      return unless(value.is_string());
    case FieldKind::map:
      return unless(value.is_object());
    case FieldKind::integer:
      return check_integer(field, value);
    case FieldKind::number:
      return check_number(field, value);
    case FieldKind::number_list:
      return check_list(field, value);
    case FieldKind::name_list:
      return check_names(field, value);
    case FieldKind::choice: {
      if (!value.is_string()) return unless(false);
      const auto& name = value.get_ref<const std::string&>();
      const bool known = std::find(field.choices.begin(), field.choices.end(), name) != field.choices.end();
      return known ? "" : show(value) + " is unknown";
    }
  }
  throw std::logic_error("not a kind of field");
}

std::string allowed_values(const Field& field) {
  switch (field.kind) {
    case FieldKind::choice:
      return "one of: " + join(field.choices);
    case FieldKind::integer:
    case FieldKind::number:
      return std::string(describe(field.kind)) + bounds(field);
    case FieldKind::number_list:
      return (field.length > 0 ? fmt::format("a list of {} numbers", field.length) : std::string(describe(field.kind))) +
             bounds(field);
    case FieldKind::name_list:
      return "a list of: " + join(field.choices);
    case FieldKind::map:
      return "a map with the keys: " + join(names_of(field.fields));
    default:
      return std::string(describe(field.kind));
  }
}

json complete(std::span<const Field> fields, const json& given, std::string_view context) {
  Completion completion(context);
  json result = completion.complete(fields, given, "");
  auto problems = completion.take_problems();
  if (!problems.empty()) throw UsageError(std::move(problems));
  return result;
}

}  // namespace equisweep
