// Databases that no equisweep wrote, or that are damaged: a report of what can be read, or an error that says which file it
// is and what to do; never the end of the process.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "analysis/report/report.h"
#include "core/error.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_damage {

class DamagedReport : public SweepFolder {};

std::string nested(const std::string& open, const std::string& inner, const std::string& close) {
  std::string out;
  for (int i = 0; i < 200'000; ++i) out += open;
  out += inner;
  for (int i = 0; i < 200'000; ++i) out += close;
  return out;
}

TEST_F(DamagedReport, TextsOfAnyDepthAreNoDocuments) {
  const std::string arrays = R"({"data":)" + nested("[", "", "]") + "}", objects = nested(R"({"a":)", "1", "}");
  const testing::FixtureSweep sweep = testing::realistic_sweep(1);
  for (const std::string& deep : {arrays, objects}) {
    std::string sql;
    for (const auto& [before, after] : {std::pair("UPDATE runs SET config = '", "' WHERE run = 1;"),
                                        {"UPDATE runs SET corpus = '", "' WHERE run = 1;"},
                                        {"UPDATE cells SET axes = '", "' WHERE cell = 2;"},
                                        {"UPDATE attempts SET environment = '", "' WHERE run = 1;"},
                                        {"INSERT INTO meta VALUES ('report', '", "');"},
                                        {"INSERT INTO meta VALUES ('set', '", "');"}})
      sql += before + deep + after;
    const auto db = database(sweep, sql);
    write_report(db, folder_ / "report", {.formats = {ReportFormat::markdown}, .figures = false});
    std::ifstream page(folder_ / "report" / "report.md");
    EXPECT_NE(std::string(std::istreambuf_iterator<char>(page), {}).find("runs have a result"), std::string::npos);
    EXPECT_FALSE(report_objections(db).empty());
    EXPECT_FALSE(report_summary(db).empty());
  }
}

TEST_F(DamagedReport, AnErrorOfSqliteNamesTheFileAndEndsAsOneOfADatabase) {
  for (const std::string table : {"evals", "steps", "equivariance", "router_stats", "block_stats"}) {
    SCOPED_TRACE(table);
    const auto db = database(testing::realistic_sweep(1), "DROP TABLE " + table);
    try {
      write_report(db, folder_ / "report", {.figures = false});
      ADD_FAILURE() << "a report of half a database";
    } catch (const DatabaseError& error) {
      EXPECT_EQ(error.code(), ExitCode::database);
      EXPECT_EQ(std::string(error.what()), db.string() + ": no such table: " + table + " (SQLite 1)");
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "report" / "index.html"));
  }
}

}  // namespace test_report_damage
}  // namespace equisweep
