#pragma once
// A field of a configuration: one row that the sweep-file reader, the resolved config, --help, the documentation and the
// JSON schema all come from, so that they cannot differ.

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

enum class FieldKind { boolean, integer, number, string, choice, number_list, name_list, map };

/// The name of a kind as error messages use it: "a number", "true or false", ...
std::string_view describe(FieldKind kind);

struct Field {
  std::string name;
  FieldKind kind = FieldKind::number;
  std::string default_json;  ///< JSON text of the default; empty: the field is required; "null": optional, absent means off
  std::string doc;           ///< one line, with the unit
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;                 ///< min itself is refused (x > min)
  std::vector<std::string> choices = {};  ///< for FieldKind::choice and name_list
  std::vector<Field> fields = {};         ///< for FieldKind::map: its own fields
  std::size_t length = 0;                 ///< for FieldKind::number_list: exact length, 0 means any
};

/// The names of the fields, for messages.
std::vector<std::string> names_of(std::span<const Field> fields);

/// The field called `name`, or nullptr.
const Field* find_field(std::span<const Field> fields, std::string_view name);

/// What is wrong with `value` as the value of `field`, or "" if nothing: kind, range, choice, length. Nested maps are
/// checked by check_fields.
std::string check_value(const Field& field, const nlohmann::json& value);

/// "a number > 0", "one of: cosine, linear": what `field` allows.
std::string allowed_values(const Field& field);

/// The complete object: every field of `fields` is present, with its default where `given` leaves it out (fields whose
/// default is null stay out). Throws UsageError listing every unknown, missing or wrong entry with the nearest name;
/// `context` begins each message, e.g. "rule muon".
nlohmann::json complete(std::span<const Field> fields, const nlohmann::json& given, std::string_view context);

}  // namespace equisweep
