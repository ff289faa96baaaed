// Tables as JSON lines. JSON has no NaN and no infinity: they are the strings "nan", "inf" and "-inf"; null was never
// measured.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/export/formats.h"
#include "core/document.h"

namespace equisweep {
namespace {

using nlohmann::json;

std::string json_text(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string value_text(const RowValue& value, bool document) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *whole);
  if (const auto* real = std::get_if<double>(&value))
    return std::isfinite(*real) ? json_text(*real) : '"' + real_text(*real) + '"';
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    if (document)
      if (const auto parsed = document_of(*text)) return json_text(*parsed);
    return json_text(*text);
  }
  return "null";
}

}  // namespace

void export_jsonl(const SweepReader& reader, const std::filesystem::path& folder, ExportMeter& meter) {
  std::string meanings;
  for (const TableInfo& table : reader.tables()) {
    meter.begin(table.name);
    const std::string name = table.name + ".jsonl";
    std::vector<std::string> heads;
    for (const ColumnInfo& column : table.columns) {
      heads.push_back(fmt::format("{}{}:", heads.empty() ? "{" : ",", json_text(column.name)));
      nlohmann::ordered_json meaning = {{"file", name}, {"column", column.name}, {"type", column.type}};
      if (!column.unit.empty()) meaning["unit"] = column.unit;
      meaning["meaning"] = column.meaning;
      meanings += meaning.dump() + "\n";
    }
    ExportFile file(folder / name, meter);
    std::string line;
    reader.each_row(table, [&](std::span<const RowValue> row) {
      line.clear();
      for (std::size_t c = 0; c < heads.size(); ++c)
        line.append(heads[c]).append(value_text(row[c], table.columns[c].unit == "JSON"));
      file.append(line.append("}\n"));
      meter.row();
    });
    file.close();
  }
  ExportFile file(folder / "columns.jsonl", meter);
  file.append(meanings);
  file.close();
}

}  // namespace equisweep
