#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/report/escape.h"
#include "analysis/report/writers.h"

namespace equisweep {
namespace {

std::string field(const Datum& value) {
  struct Visitor {
    std::string operator()(std::monostate) const { return ""; }
    std::string operator()(std::int64_t x) const { return fmt::format("{}", x); }
    std::string operator()(double x) const { return std::isnan(x) ? "" : fmt::format("{}", x); }
    std::string operator()(const std::string& s) const { return csv_text(visible(s, 4096)); }
  };
  return std::visit(Visitor{}, value);
}

std::size_t width_of(const std::string& s) {
  return static_cast<std::size_t>(
      std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string write_csv(const Table& table) {
  std::string out;
  for (const Column& column : table.columns) out.append(out.empty() ? "" : ",").append(column.csv_name);
  out += "\n";
  for (const auto& row : table.rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out.append(i == 0 ? "" : ",").append(field(row[i].value));
    out += "\n";
  }
  return out;
}

void Rows::add(std::initializer_list<Datum> row) {
  bool first = true;
  for (const Datum& value : row) {
    lines.append(first ? "" : ",").append(field(value));
    first = false;
  }
  lines += "\n";
  ++size;
}

std::string write_csv(Rows&& rows) {
  std::string head;
  for (const std::string& column : rows.columns) head.append(head.empty() ? "" : ",").append(column);
  std::string lines = std::move(rows.lines);
  return lines.insert(0, head + "\n");
}

std::string rows_note(const Table& table, bool with_csv) {
  if (table.rows.size() <= kShownRows) return "";
  return fmt::format("Rows 1 to {} of {}; {}.", kShownRows, table.rows.size(),
                     with_csv ? "tables/" + table.id + ".csv has all" : "the table as CSV has all");
}

std::string write_text(const Table& table) {
  std::vector<std::size_t> widths(table.columns.size(), 0);
  for (std::size_t c = 0; c < widths.size(); ++c) {
    widths[c] = width_of(table.columns[c].title);
    for (const auto& row : table.rows) widths[c] = std::max(widths[c], width_of(row[c].shown));
  }
  std::string out;
  const auto line = [&](auto&& cell) {
    std::string text;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      if (table.columns[c].hidden) continue;
      const std::string shown = cell(c);
      const std::string padding(widths[c] - width_of(shown), ' ');
      text.append(text.empty() ? "" : "  ").append(table.columns[c].numeric ? padding + shown : shown + padding);
    }
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  line([&](std::size_t c) { return table.columns[c].title; });
  for (const auto& row : table.rows) line([&](std::size_t c) { return row[c].shown; });
  return out;
}

}  // namespace equisweep
