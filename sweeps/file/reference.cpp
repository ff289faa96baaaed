// The tables of docs/sweep-file.md.

#include <fmt/format.h>

#include "sweeps/file/grammar.h"

namespace equisweep {

namespace {

std::string in_table(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string default_of(const Field& field) {
  if (field.default_json.empty()) return "required";
  if (field.default_json == "null") return "none";
  return fmt::format("`{}`", field.default_json);
}

void add_rows(std::string& out, std::span<const Field> fields, const std::string& path) {
  for (const Field& field : fields) {
    const bool map = field.kind == FieldKind::map;
    const std::string own = join_path(path, field.name);
    const bool rows = own == "exclude" || own == "include";
    std::string values = rows                    ? "a list of maps"
                         : map                   ? "a map"
                         : field.name == "model" ? "a name that `equisweep models` lists"  // too many for a table
                                                 : in_table(allowed_values(field));
    if (takes_list(own)) values += own.starts_with("zip.") ? ", in a list" : ", or a list";
    out += fmt::format("| `{}` | {} | {} | {} |\n", own, values,
                       map && field.default_json == "{}" ? "see its keys" : default_of(field), in_table(field.doc));
    add_rows(out, field.fields, own);
  }
}

}  // namespace

std::string sweep_file_reference() {
  std::string out = "| key | value | default | meaning |\n|---|---|---|---|\n";
  add_rows(out, sweep_fields(), "");
  return out;
}

}  // namespace equisweep
