// The JSON schema of sweep files, for editors.

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/role.h"
#include "models/models.h"
#include "optimizers/rules.h"
#include "sweeps/file/grammar.h"
#include "sweeps/file/spec.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

json reference(std::string_view name) { return {{"$ref", "#/$defs/" + std::string(name)}}; }

json with_bounds(json schema, const Field& field) {
  if (std::isfinite(field.min)) schema[field.above_min ? "exclusiveMinimum" : "minimum"] = field.min;
  if (std::isfinite(field.max)) schema["maximum"] = field.max;
  return schema;
}

json map_schema(std::span<const Field> fields, const std::string& path);

/// One value of `field`.
json value_schema(const Field& field, const std::string& path) {
  switch (field.kind) {
    case FieldKind::boolean:
      return {{"type", "boolean"}};
    case FieldKind::integer:
      return with_bounds({{"type", "integer"}}, field);
    case FieldKind::number:
      return with_bounds({{"type", "number"}}, field);
    case FieldKind::string:
      return {{"type", "string"}};
    case FieldKind::choice:
      return {{"enum", field.choices}};
    case FieldKind::number_list: {
      json schema = {{"type", "array"}, {"items", with_bounds({{"type", "number"}}, field)}};
      if (field.length > 0) schema["minItems"] = schema["maxItems"] = field.length;
      return schema;
    }
    case FieldKind::name_list:
      return {{"type", "array"},
              {"items", field.choices.empty() ? json({{"type", "string"}}) : json({{"enum", field.choices}})}};
    case FieldKind::map:
      return map_schema(field.fields, path);
  }
  return {};
}

json list_of(const json& value) { return {{"type", "array"}, {"items", value}, {"minItems", 1}, {"uniqueItems", true}}; }

/// One value or several: a list, or a rule that makes one of numbers.
json axis_schema(const Field& field, const std::string& path) {
  const json value = value_schema(field, path);
  json list = list_of(value);
  if (field.default_json == "[]") list.erase("minItems");
  json any = json::array({value, list});
  if (field.kind == FieldKind::number || field.kind == FieldKind::integer) any.push_back(reference("generator"));
  return {{"anyOf", any}};
}

json described(json schema, const Field& field) {
  schema["description"] = field.doc;
  if (!field.default_json.empty() && field.default_json != "null") schema["default"] = json::parse(field.default_json);
  return schema;
}

/// `exclude` and `include`: some values of axes; an axis of a stack is named by its path.
json rows_schema(const Field& field) {
  json row = map_schema(field.fields, field.name);
  row["minProperties"] = 1;
  row["patternProperties"] = {{"\\.", json::object()}};
  return {{"type", "array"}, {"minItems", 1}, {"items", row}};
}

json member_schema(const Field& field, const std::string& own) {
  if (own == "stacks")
    return {{"type", "object"},
            {"minProperties", 1},
            {"propertyNames", {{"pattern", "^[A-Za-z0-9_-]{1,60}$"}}},
            {"additionalProperties", reference("stack")}};
  if (own == "model") return reference("dimensions");
  if (own == "exclude" || own == "include") return rows_schema(field);
  if (own == "version") return {{"const", 1}};
  if (own == "name") return {{"type", "string"}, {"pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"}};
  if (!takes_list(own)) return value_schema(field, own);
  return own.starts_with("zip.") ? list_of(value_schema(field, own)) : axis_schema(field, own);
}

json map_schema(std::span<const Field> fields, const std::string& path) {
  json schema = {{"type", "object"}, {"properties", json::object()}, {"additionalProperties", false}};
  for (const Field& field : fields) {
    const std::string own = join_path(path, field.name);
    schema["properties"][field.name] = described(member_schema(field, own), field);
    // What gives the models can stand in several places.
    if (field.default_json.empty() && own != "grid" && own != "grid.model") schema["required"].push_back(field.name);
  }
  return schema;
}

/// An option of a stack entry: a value or an axis, or a value for each architecture.
json option_schema(const Field& field) {
  if (field.kind == FieldKind::map) {
    json schema = {{"type", "object"}, {"properties", json::object()}, {"additionalProperties", false}};
    for (const Field& inner : field.fields) schema["properties"][inner.name] = described(option_schema(inner), inner);
    return schema;
  }
  json each = {{"type", "object"}, {"minProperties", 1}, {"properties", json::object()}, {"additionalProperties", false}};
  for (const Architecture& a : architectures()) each["properties"][std::string(a.name)] = value_schema(field, "");
  json schema = axis_schema(field, "");
  schema["anyOf"].push_back({{"type", "object"},
                             {"properties", {{std::string(OptionValue::kKey), each}}},
                             {"required", {OptionValue::kKey}},
                             {"additionalProperties", false}});
  return schema;
}

/// An entry with a rule has the options of that rule; one without changes options of an inherited entry.
json entry_schema() {
  json cases = json::array();
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules()) {
    names.emplace_back(rule.name);
    json then = {{"properties", json::object()}, {"required", {"lr"}}, {"additionalProperties", false}};
    for (const auto& fields : {common_fields(), std::span<const Field>(rule.fields)})
      for (const Field& field : fields)
        then["properties"][field.name] = field.name == "rule" ? json::object() : described(option_schema(field), field);
    then["properties"]["rule"] = {{"description", rule.summary}};
    cases.push_back({{"if", {{"properties", {{"rule", {{"const", rule.name}}}}}, {"required", {"rule"}}}}, {"then", then}});
  }
  const json rule = {{"enum", names}};
  return {{"type", "object"}, {"properties", {{"rule", {{"anyOf", {rule, list_of(rule)}}}}}}, {"allOf", cases}};
}

json stack_schema() {
  json schema = {
      {"type", "object"},
      {"minProperties", 1},
      {"properties",
       {{"baseline", {{"type", "boolean"}, {"description", "the stack that the report compares the others with"}}},
        {"extends", {{"type", "string"}, {"description", "a stack of the file, or builtin/NAME"}}}}},
      {"additionalProperties", false}};
  for (const std::string& name : stack_entry_names()) schema["properties"][name] = reference("entry");
  return schema;
}

json generator_schema() {
  const auto rule = [](const char* name, int numbers) {
    const json list = {{"type", "array"}, {"items", {{"type", "number"}}}, {"minItems", numbers}, {"maxItems", numbers}};
    return json{{"type", "object"}, {"properties", {{name, list}}}, {"required", {name}}, {"additionalProperties", false}};
  };
  return {{"anyOf", {rule("log2", 2), rule("log", 3), rule("range", 2)}}};
}

json dimensions_schema() {
  json any = json::array();
  for (const Architecture& a : architectures()) {
    json schema = map_schema(a.fields, "dimensions");
    schema.erase("required");
    any.push_back(schema);
  }
  return {{"anyOf", any}};
}

}  // namespace

json sweep_file_schema() {
  json schema = map_schema(sweep_fields(), "");
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "A sweep of equisweep";
  schema["anyOf"] = {{{"required", {"grid"}}}, {{"required", {"zip"}}}, {{"required", {"init_from"}}}};
  schema["$defs"] = {{"stack", stack_schema()},
                     {"entry", entry_schema()},
                     {"generator", generator_schema()},
                     {"dimensions", dimensions_schema()}};
  return schema;
}

}  // namespace equisweep
