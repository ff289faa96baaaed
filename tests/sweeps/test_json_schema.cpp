// The JSON schema that editors get: it accepts what the reader accepts, and refuses single wrong values as the reader does.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "sweeps/file/grammar.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_json_schema {

using nlohmann::json;

/// JSON Schema as far as the schema goes; an unknown keyword fails the test.
class Validator {
 public:
  explicit Validator(json schema) : root_(std::move(schema)) {}
  bool accepts(const json& value) { return valid(root_, value); }

 private:
  bool valid(const json& schema, const json& value) {
    if (schema.is_boolean()) return schema.get<bool>();
    return std::all_of(schema.items().begin(), schema.items().end(),
                       [&](const auto& item) { return keyword(item.key(), item.value(), schema, value); });
  }

  bool keyword(const std::string& key, const json& own, const json& schema, const json& value) {
    const auto each = [&](auto test) { return std::all_of(own.begin(), own.end(), test); };
    if (key == "$schema" || key == "$defs" || key == "title" || key == "description" || key == "default") return true;
    if (key == "then" || key == "properties" || key == "patternProperties")
      return key != "properties" || properties(schema, value);
    if (key == "$ref") return valid(root_.at(json::json_pointer(own.get<std::string>().substr(1))), value);
    if (key == "type") return has_type(own, value);
    if (key == "enum") return std::find(own.begin(), own.end(), value) != own.end();
    if (key == "const") return value == own;
    if (key == "anyOf") return std::any_of(own.begin(), own.end(), [&](const json& s) { return valid(s, value); });
    if (key == "allOf") return each([&](const json& s) { return valid(s, value); });
    if (key == "if") return !valid(own, value) || valid(schema.at("then"), value);
    if (key == "required")
      return each([&](const json& name) { return !value.is_object() || value.contains(name.get<std::string>()); });
    if (key == "additionalProperties") return additional(schema, own, value);
    if (key == "minProperties") return value.size() >= own;
    if (key == "propertyNames") {
      for (const auto& [name, inner] : value.items())
        if (!valid(own, name)) return false;
      return true;
    }
    if (key == "pattern") return std::regex_search(value.get<std::string>(), std::regex(own.get<std::string>()));
    if (key == "minimum") return !value.is_number() || value >= own;
    if (key == "exclusiveMinimum") return !value.is_number() || value > own;
    if (key == "maximum") return !value.is_number() || value <= own;
    if (key == "minItems") return !value.is_array() || value.size() >= own;
    if (key == "maxItems") return !value.is_array() || value.size() <= own;
    if (key == "items") {
      return !value.is_array() || std::all_of(value.begin(), value.end(), [&](const json& v) { return valid(own, v); });
    }
    if (key == "uniqueItems") {
      for (const json& v : value)
        if (value.is_array() && std::count(value.begin(), value.end(), v) > 1) return false;
      return true;
    }
    ADD_FAILURE() << "unknown keyword " << key;
    return false;
  }

  static bool has_type(const std::string& type, const json& v) {
    if (type == "integer") return v.is_number() && v.get<double>() == std::floor(v.get<double>());
    return type == "object"    ? v.is_object()
           : type == "array"   ? v.is_array()
           : type == "string"  ? v.is_string()
           : type == "boolean" ? v.is_boolean()
           : type == "number"  ? v.is_number()
                               : throw std::logic_error(type);
  }

  bool properties(const json& schema, const json& value) {
    if (!value.is_object()) return true;
    const json& own = schema.at("properties");
    for (const auto& [name, inner] : value.items())
      if (own.contains(name) && !valid(own.at(name), inner)) return false;
    return true;
  }

  bool additional(const json& schema, const json& own, const json& value) {
    if (!value.is_object()) return true;
    for (const auto& [name, inner] : value.items()) {
      bool known = schema.contains("properties") && schema.at("properties").contains(name);
      if (schema.contains("patternProperties"))
        for (const auto& [pattern, s] : schema.at("patternProperties").items())
          known = known || std::regex_search(name, std::regex(pattern));
      if (!known && !valid(own, inner)) return false;
    }
    return true;
  }

  json root_;
};

json json_of(const Node& node) {
  if (node.kind == NodeKind::sequence) {
    json list = json::array();
    for (const Node& item : node.items) list.push_back(json_of(item));
    return list;
  }
  if (node.kind != NodeKind::map) return scalar_to_json(node);
  json map = json::object();
  for (const Member& m : node.members) map[m.key] = json_of(m.value);
  return map;
}

bool schema_accepts(const std::string& text) {
  static Validator validator(sweep_file_schema());
  Problems problems;
  const json value = json_of(read_yaml(text, "f", problems));
  EXPECT_TRUE(problems.empty()) << text;
  return validator.accepts(value);
}

TEST(JsonSchema, AcceptsEveryExampleAndEveryNamedStack) {
  const std::filesystem::path sweeps = std::filesystem::path(EQUISWEEP_SOURCE_DIR) / "sweeps";
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(sweeps / "examples")) {
    EXPECT_TRUE(schema_accepts(read_text(file.path()))) << file.path();
    ++files;
  }
  EXPECT_GE(files, 3);
  const std::string head = kSmallSweep.substr(0, kSmallSweep.find("stacks:"));
  for (const auto& file : std::filesystem::directory_iterator(sweeps / "stacks")) {
    std::string text = head + "stacks:\n  s:\n", line;
    std::istringstream in(read_text(file.path()));
    while (std::getline(in, line))
      if (!line.starts_with("summary:") && !line.starts_with("#")) text += "    " + line + "\n";
    EXPECT_TRUE(schema_accepts(text)) << file.path();
  }
}

struct SchemaCase {
  const char* name;
  std::string from, to;
  bool accepted;
};

void PrintTo(const SchemaCase& c, std::ostream* out) { *out << c.name; }

class Schema : public ::testing::TestWithParam<SchemaCase> {};

// Single values alone are judged here, so the reader must agree.
TEST_P(Schema, AgreesWithTheReader) {
  const std::string text = changed(GetParam().from, GetParam().to);
  EXPECT_EQ(schema_accepts(text), GetParam().accepted);
  EXPECT_EQ(errors_of(text).empty(), GetParam().accepted) << errors_of(text);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Schema,
    ::testing::Values(SchemaCase{"plain", "x", "x", true}, SchemaCase{"unknown_key", "data:", "date:", false},
                      SchemaCase{"version", "version: 1", "version: 2", false}, SchemaCase{"name", "small", "a/b", false},
                      SchemaCase{"missing_key", "steps: 10, ", "", false}, SchemaCase{"low", "steps: 10", "steps: 0", false},
                      SchemaCase{"kind", "steps: 10", "steps: ten", false},
                      SchemaCase{"choice", "steps: 10", "steps: 10, precision: fp8", false},
                      SchemaCase{"fraction", "steps: 10", "steps: 2.5", false},
                      SchemaCase{"nested", "every: 5", "evry: 5", false},
                      SchemaCase{"generator", "lr_scale: [1, 2]", "lr_scale: {log2: [1, 8]}", true},
                      SchemaCase{"generator_name", "lr_scale: [1, 2]", "lr_scale: {log3: [1, 8]}", false},
                      SchemaCase{"empty_list", "seed: [0, 1]", "seed: []", false},
                      SchemaCase{"twice", "seed: [0, 1]", "seed: [0, 0]", false},
                      SchemaCase{"axis", "lr: 0.02", "lr: [0.02, 0.04]", true},
                      SchemaCase{"rate", "lr: 0.02", "lr: 0", false},
                      SchemaCase{"by_architecture", "lr: 0.02", "lr: {by_architecture: {qwen3: 0.02, olmoe: 0.01}}", true},
                      SchemaCase{"architecture", "lr: 0.02", "lr: {by_architecture: {qwen: 0.02}}", false},
                      SchemaCase{"rule", "rule: muon", "rule: moun", false},
                      SchemaCase{"option_of_another_rule", "lr: 0.02", "lr: 0.02, betas: [0.9, 0.95]", false},
                      SchemaCase{"nested_option", "lr: 0.02", "lr: 0.02, polar: {stpes: 3}", false},
                      SchemaCase{"list_option", "lr: 3e-3}}", "lr: 3e-3, betas: [0.9]}}", false},
                      SchemaCase{"role", "matrix:", "matrices:", false},
                      SchemaCase{"inherited", "  muon:\n    default: {rule: adamw, lr: 3e-3}",
                                 "  muon:\n    extends: adamw\n    default: {lr: 1}", true},
                      SchemaCase{"exclude", "stacks:", "exclude: [{stack: muon, seed: 1}]\nstacks:", true},
                      SchemaCase{"zip", ", seed: [0, 1]}", "}\nzip: {seed: [3, 4]}", true},
                      SchemaCase{"zip_of_one_value", ", seed: [0, 1]}", "}\nzip: {seed: 3}", false},
                      SchemaCase{"dimension", "stacks:", "model: {layers: 3}\nstacks:", true},
                      SchemaCase{"many_layers", "stacks:", "model: {layers: 4097}\nstacks:", false},
                      SchemaCase{"dimension_name", "stacks:", "model: {layer: 3}\nstacks:", false},
                      SchemaCase{"tune", ", seed: [0, 1]}", "}\ntune: {seeds: {range: [0, 2]}, confirm_seeds: 9}", true},
                      SchemaCase{"tags", "stacks:", "tags: [a, b]\nstacks:", true},
                      SchemaCase{"no_tags", "stacks:", "tags: []\nstacks:", true},
                      SchemaCase{"retry_on_nothing", "stacks:", "retry: {on: []}\nstacks:", false},
                      SchemaCase{"retry", "stacks:", "retry: {on: [done]}\nstacks:", false}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace test_json_schema
}  // namespace equisweep
