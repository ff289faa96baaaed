// Tables as CSV. A column that holds JSON objects becomes a column for each value in them.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "analysis/export/formats.h"
#include "core/document.h"

namespace equisweep {
namespace {

using nlohmann::json;

using Leaves = std::map<std::string, json>;  // by path

void collect_leaves(const json& value, const std::string& path, Leaves& leaves) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, inner] : value.items()) collect_leaves(inner, path + "." + key, leaves);
    return;
  }
  std::string name = path;  // {"a.b": 1, "a": {"b": 2}} has two values of one path
  while (leaves.contains(name)) name += "#";
  leaves.emplace(name, value);
}

/// The values of a JSON object by path, beginning with `column`; nothing for a text that is no object, or an empty one.
Leaves leaves_of(const std::string& column, const RowValue& value) {
  Leaves leaves;
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr || !text->starts_with('{')) return leaves;
  const auto document = document_of(*text);
  if (document && document->is_object() && !document->empty()) collect_leaves(*document, column, leaves);
  return leaves;
}

std::string leaf_field(const json& leaf) {
  if (leaf.is_null()) return "";
  if (leaf.is_number() || leaf.is_boolean()) return leaf.dump();
  return csv_field(leaf.is_string() ? leaf.get<std::string>() : leaf.dump(-1, ' ', false, json::error_handler_t::replace));
}

std::string value_field(const RowValue& value) {
  struct Visitor {
    std::string operator()(std::monostate) const { return ""; }
    std::string operator()(std::int64_t x) const { return fmt::format("{}", x); }
    std::string operator()(double x) const { return real_text(x); }
    std::string operator()(std::string_view text) const { return csv_field(text); }
  };
  return std::visit(Visitor{}, value);
}

/// A column of the table, or the paths of its JSON objects.
struct CsvColumn {
  const ColumnInfo* info = nullptr;
  bool whole = true;                 ///< the column itself is written
  std::set<std::string> paths = {};  ///< and then these
};

std::vector<CsvColumn> csv_columns(const SweepReader& reader, const TableInfo& table) {
  std::vector<CsvColumn> columns;
  bool documents = false;
  for (const ColumnInfo& column : table.columns) {
    columns.push_back({.info = &column});
    documents = documents || column.unit == "JSON";
  }
  if (!documents) return columns;
  std::vector<bool> whole(columns.size(), false);
  reader.each_row(table, [&](std::span<const RowValue> row) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      if (columns[c].info->unit != "JSON") continue;
      const Leaves leaves = leaves_of(columns[c].info->name, row[c]);
      for (const auto& [path, leaf] : leaves) columns[c].paths.insert(path);
      const auto* text = std::get_if<std::string_view>(&row[c]);
      if (leaves.empty() && (text == nullptr || *text != "{}")) whole[c] = true;
    }
  });
  for (std::size_t c = 0; c < columns.size(); ++c) columns[c].whole = columns[c].paths.empty() || whole[c];
  return columns;
}

}  // namespace

void export_csv(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter) {
  std::string meanings = fmt::format("file,column,type,unit,meaning{}", kCsvLineEnd);
  for (const TableInfo& table : reader.tables()) {
    meter.begin(table.name);
    const std::string name = table.name + ".csv";
    ExportFile file(folder / name, meter);
    const std::vector<CsvColumn> columns = csv_columns(reader, table);
    std::string line;
    const auto add = [&line](const std::string& field) { line.append(line.empty() ? "" : ",").append(field); };
    const auto explain = [&](const ColumnInfo& info, const std::string& column, const std::string& what) {
      add(csv_field(column));
      meanings += fmt::format("{},{},{},{},{}{}", name, csv_field(column), info.type, csv_field(info.unit), csv_field(what),
                              kCsvLineEnd);
    };
    for (const CsvColumn& column : columns) {
      if (column.whole) explain(*column.info, column.info->name, column.info->meaning);
      for (const std::string& path : column.paths) {
        ColumnInfo info = *column.info;
        info.type = info.unit = "";
        explain(info, path, fmt::format("a value of the column {}: {}", column.info->name, column.info->meaning));
      }
    }
    file.append(line.append(kCsvLineEnd));
    reader.each_row(table, [&](std::span<const RowValue> row) {
      line.clear();
      bool first = true;
      const auto put = [&](const std::string& field) { line.append(std::exchange(first, false) ? "" : ",").append(field); };
      for (std::size_t c = 0; c < columns.size(); ++c) {
        const Leaves leaves = columns[c].paths.empty() ? Leaves{} : leaves_of(columns[c].info->name, row[c]);
        if (columns[c].whole) put(leaves.empty() ? value_field(row[c]) : "");
        for (const std::string& path : columns[c].paths) {
          const auto leaf = leaves.find(path);
          put(leaf == leaves.end() ? "" : leaf_field(leaf->second));
        }
      }
      file.append(line.append(kCsvLineEnd));
      meter.row();
    });
    file.close();
  }
  ExportFile file(folder / "columns.csv", meter);
  file.append(meanings);
  file.close();
}

}  // namespace equisweep
