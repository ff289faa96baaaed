#pragma once
// Test only: a folder with a made-up sweep.db, and the tables of a section by the names of their columns.

#include <gtest/gtest.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "analysis/report/section.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {

class SweepFolder : public ::testing::Test {
 protected:
  std::filesystem::path database(const testing::FixtureSweep& sweep, const std::string& sql = "") {
    std::filesystem::remove(folder_ / "sweep.db");
    testing::write_sweep(folder_ / "sweep.db", sweep);
    if (!sql.empty()) testing::change_sweep(folder_ / "sweep.db", sql);
    return folder_ / "sweep.db";
  }

  TempFolder folder_;
};

inline Content content_of(Content (*section)(const SectionInput&), const std::filesystem::path& sweep_db) {
  const ReportData data(sweep_db);
  const auto results = compare(data);
  return section({data, results});
}

/// The first table of `content`, or what its first paragraph says instead as an error.
inline Table table_of(const Content& content) {
  for (const Block& block : content)
    if (const auto* table = std::get_if<Table>(&block)) return *table;
  throw std::runtime_error("no table: " + (content.empty() ? "" : std::get<Paragraph>(content.front()).text));
}

inline const Value& value_at(const Table& table, std::size_t row, const std::string& csv_name) {
  for (std::size_t c = 0; c < table.columns.size(); ++c)
    if (table.columns[c].csv_name == csv_name) return table.rows.at(row).at(c);
  throw std::runtime_error("no column " + csv_name);
}

inline double number_at(const Table& table, std::size_t row, const std::string& csv_name) {
  const auto& value = value_at(table, row, csv_name).value;
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
  return std::get<double>(value);
}

inline std::string shown_at(const Table& table, std::size_t row, const std::string& csv_name) {
  return value_at(table, row, csv_name).shown;
}

}  // namespace equisweep
