// Exports as CSV and JSON lines: every value of the database, read back by other code, and names that stay data.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "analysis/export/export.h"
#include "analysis/export/schema.h"
#include "core/error.h"
#include "core/run_store.h"
#include "tests/analysis/export_fixture.h"
#include "tests/support/csv.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_export {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Rows = std::vector<std::map<std::string, std::string>>;  // by column

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("no " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

Rows read_csv(const fs::path& path) {
  const auto lines = testing::parse_csv(read(path));
  Rows rows;
  for (std::size_t i = 1; i < lines.size(); ++i)
    for (std::size_t c = 0; c < lines[0].size(); ++c) {
      if (c == 0) rows.emplace_back();
      EXPECT_TRUE(rows.back().emplace(lines[0][c], lines[i][c]).second) << "two columns " << lines[0][c];
    }
  return rows;
}

std::vector<json> read_lines(const fs::path& path) {
  std::vector<json> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

std::vector<std::string> values(const Rows& rows, const std::string& column) {
  std::vector<std::string> out;
  for (const auto& row : rows) out.push_back(row.at(column));
  return out;
}

class Export : public ::testing::Test {
 protected:
  fs::path csv() { return export_to(ExportFormat::csv, "csv"); }
  fs::path jsonl() { return export_to(ExportFormat::jsonl, "jsonl"); }
  fs::path export_to(ExportFormat format, const std::string& name) {
    export_sweep(database(), folder_ / name, format);
    return folder_ / name;
  }
  fs::path database() const { return folder_ / "sweep.db"; }
  std::string complaint(const fs::path& sweep_db, const fs::path& out) {
    try {
      export_sweep(sweep_db, out, ExportFormat::csv);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  }
  /// Names in the folder, but for those that SQLite leaves beside a database that it has read.
  std::vector<std::string> left() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (const std::string name = entry.path().filename().string(); !name.starts_with("sweep.db-")) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }
  const TempFolder folder_{memory_root()};
};

TEST_F(Export, EveryColumnOfEveryTableIsExplained) {
  write_eventful_sweep(database());
  const fs::path out = csv();
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::string>> columns;
  for (const auto& row : read_csv(out / "columns.csv")) {
    EXPECT_NE(row.at("meaning"), "") << row.at("file") << " " << row.at("column");
    columns[{row.at("file"), row.at("column")}] = row;
  }
  const auto db = open_read_only(database());
  std::size_t tables = 0;
  SQLite::Statement names(*db, "SELECT name FROM sqlite_schema WHERE type = 'table'");
  for (; names.executeStep(); ++tables) {
    const std::string file = names.getColumn(0).getString() + ".csv";
    const auto head = testing::parse_csv(read(out / file)).at(0);
    for (const std::string& column : head) EXPECT_TRUE(columns.contains({file, column})) << file << " " << column;
    SQLite::Statement info(*db, "SELECT name FROM pragma_table_info(?) WHERE name != 'nonfinite'");
    info.bind(1, names.getColumn(0).getString());
    while (info.executeStep()) {
      const std::string column = info.getColumn(0).getString();
      EXPECT_TRUE(std::any_of(head.begin(), head.end(),
                              [&](const std::string& h) { return h == column || h.starts_with(column + "."); }))
          << file << " lacks " << column;
    }
  }
  EXPECT_GE(tables, 15U);
  EXPECT_EQ(columns.at({"steps.csv", "seconds"}).at("unit"), "s");
  EXPECT_EQ(columns.at({"steps.csv", "loss"}).at("unit"), "nats/token");
  EXPECT_EQ(columns.at({"steps.csv", "loss"}).at("type"), "REAL");
  EXPECT_EQ(columns.at({"attempts.csv", "peak_rss_bytes"}).at("unit"), "bytes");
  EXPECT_EQ(columns.at({"final_losses.csv", "val_loss"}).at("unit"), "nats/token");
  EXPECT_EQ(columns.at({"block_stats.csv", "run"}).at("meaning"), columns.at({"runs.csv", "run"}).at("meaning"));
  EXPECT_EQ(columns.at({"attempts.csv", "exit_status"}).at("meaning"), R"("exit 1", "signal 9")");

  for (const json& line : read_lines(jsonl() / "columns.jsonl")) EXPECT_NE(line.at("meaning"), "") << line;
}

TEST_F(Export, EachStepOnceAsItCounts) {
  write_eventful_sweep(database());
  const Rows steps = read_csv(csv() / "steps.csv");
  EXPECT_THAT(values(steps, "run"), ElementsAre("1", "1", "1", "1", "1", "2"));
  EXPECT_THAT(values(steps, "attempt"), ElementsAre("1", "1", "2", "2", "2", "1"));
  EXPECT_THAT(values(steps, "step"), ElementsAre("1", "2", "3", "4", "5", "1"));
  EXPECT_THAT(values(steps, "loss"), ElementsAre("6", "5.9", "5.8", "nan", "inf", "0.1"));
  EXPECT_THAT(values(steps, "grad_norm"), ElementsAre("1.5", "1.4", "1.3", "", "-inf", "1e+300"));
  EXPECT_THAT(values(read_csv(folder_ / "csv/evals.csv"), "loss"), ElementsAre("6", "5.5", "5.25", "6.25", "0.1"));
  const Rows stats = read_csv(folder_ / "csv/block_stats.csv");
  EXPECT_THAT(values(stats, "spectral_norm"), ElementsAre("1.25", "1.5", "2.5"));
  EXPECT_THAT(values(stats, "gradient_norm"), ElementsAre("0.3", "nan", "0.4"));
}

// Number by number: what was written, read as a double, is the double of the database.
TEST_F(Export, EveryNumberIsThatOfTheDatabase) {
  write_eventful_sweep(database());
  const fs::path tables = csv(), lines = jsonl();
  const auto db = open_read_only(database());
  for (const TableInfo& table : schema_tables()) {
    if (table.view || table.name == "steps" || table.name == "evals" || table.name == "block_stats") continue;
    const Rows rows = read_csv(tables / (table.name + ".csv"));
    const auto objects = read_lines(lines / (table.name + ".jsonl"));
    SQLite::Statement query(*db, "SELECT * FROM " + table.name + " ORDER BY 1, 2");
    std::size_t i = 0;
    for (; query.executeStep(); ++i) {
      for (int c = 0; c < query.getColumnCount(); ++c) {
        const std::string name = query.getColumnName(c);
        if (name == "nonfinite") continue;
        const SQLite::Column value = query.getColumn(c);
        const json& found = objects.at(i).at(name);
        if (value.isInteger()) {
          EXPECT_EQ(rows.at(i).at(name), std::to_string(value.getInt64())) << table.name << "." << name;
          EXPECT_EQ(found, value.getInt64());
        } else if (value.isFloat()) {
          EXPECT_EQ(std::strtod(rows.at(i).at(name).c_str(), nullptr), value.getDouble()) << table.name << "." << name;
          EXPECT_EQ(found.get<double>(), value.getDouble());
        } else if (value.isNull()) {
          EXPECT_EQ(rows.at(i).at(name), "");
          EXPECT_TRUE(found.is_null());
        }
      }
    }
    EXPECT_GT(i, 0U) << table.name << " has no row in this test";
    EXPECT_EQ(rows.size(), i) << table.name;
    EXPECT_EQ(objects.size(), i) << table.name;
  }
}

TEST_F(Export, ConfigsAndOtherDocumentsBecomeColumns) {
  write_eventful_sweep(database());
  testing::change_sweep(database(),
                        R"(UPDATE runs SET config = '{"a.b":1,"a":{"b":2,"c":[1,2],"d":true,"e":null,"f":{}}}' WHERE run = 3;
                           UPDATE attempts SET environment = 'no JSON' WHERE run = 2)");
  const Rows runs = read_csv(csv() / "runs.csv");
  EXPECT_THAT(values(runs, "config.stack.default.lr"), ElementsAre("0.003", "0.00030000000000000003", ""));
  EXPECT_THAT(values(runs, "config.data.corpus"), ElementsAre("kjv", "kjv", ""));
  EXPECT_THAT(values(runs, "corpus.unigram_entropy"), ElementsAre("5.0", "5.0", "5.0"));
  EXPECT_FALSE(runs[0].contains("config"));
  EXPECT_EQ((std::set<std::string>{runs[2].at("config.a.b"), runs[2].at("config.a.b#")}), (std::set<std::string>{"1", "2"}));
  EXPECT_EQ(runs[2].at("config.a.c"), "[1,2]");
  EXPECT_EQ(runs[2].at("config.a.d"), "true");
  EXPECT_EQ(runs[2].at("config.a.e"), "");
  EXPECT_EQ(runs[2].at("config.a.f"), "{}");
  EXPECT_THAT(values(read_csv(folder_ / "csv/attempts.csv"), "environment"), ElementsAre("", "{}", "no JSON"));
  EXPECT_THAT(values(read_csv(folder_ / "csv/final_losses.csv"), "axes.matrix.lr"), ElementsAre("", "0.02", ""));

  const auto objects = read_lines(jsonl() / "runs.jsonl");
  EXPECT_EQ(objects[0]["config"]["stack"]["default"]["lr"], 0.003);
  EXPECT_EQ(objects[2]["config"]["a"]["c"], json({1, 2}));
  EXPECT_EQ(read_lines(folder_ / "jsonl/attempts.jsonl")[2]["environment"], "no JSON");
}

TEST_F(Export, WhatIsNotFiniteHasANameInJSON) {
  write_eventful_sweep(database());
  const auto steps = read_lines(jsonl() / "steps.jsonl");
  ASSERT_EQ(steps.size(), 6U);
  EXPECT_EQ(steps[3]["loss"], "nan");
  EXPECT_TRUE(steps[3]["grad_norm"].is_null());
  EXPECT_EQ(steps[4]["loss"], "inf");
  EXPECT_EQ(steps[4]["grad_norm"], "-inf");
  EXPECT_EQ(steps[3]["diagnostics_seconds"], "nan");
}

TEST_F(Export, HostileNamesStayData) {
  const std::vector<std::string> names = {"=cmd|' /C calc'!A0",
                                          "+1+1",
                                          "-2+3",
                                          "@SUM(1)",
                                          "a\nb,\"c\"\r\nd",
                                          "../../etc/passwd",
                                          "\x1b[31mred",
                                          "\tx",
                                          std::string("nul\0nul", 7),
                                          "\xff\xfe",
                                          std::string(300, 'x'),
                                          "<script>",
                                          "\xE2\x80\xAE"
                                          "txt",
                                          "'; DROP TABLE runs",
                                          "%x|y"};
  testing::FixtureSweep sweep;
  for (const std::string& name : names)
    sweep.runs.push_back({.model = name, .stack = name, .evals = {{0, 1.0}}, .message = name});
  testing::write_sweep(database(), sweep);
  testing::change_sweep(database(), "UPDATE runs SET config = json_object(message, message) WHERE run < 5");
  const Rows cells = read_csv(csv() / "cells.csv");
  ASSERT_EQ(cells.size(), names.size());
  EXPECT_EQ(cells[0].at("stack"), "'=cmd|' /C calc'!A0");
  EXPECT_EQ(cells[4].at("stack"), "a\\x0ab,\"c\"\\x0d\\x0ad");
  EXPECT_EQ(cells[5].at("stack"), "../../etc/passwd");
  EXPECT_EQ(cells[10].at("stack"), std::string(300, 'x'));
  for (const auto& entry : fs::directory_iterator(folder_ / "csv")) {
    const std::string text = read(entry.path());
    for (const auto& row : testing::parse_csv(text))
      for (const std::string& field : row)
        EXPECT_TRUE(field.empty() || std::string("=+@\t").find(field[0]) == std::string::npos) << field;
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n' || c < 0 || c >= 0x20; }));
  }
  const auto lines = read_lines(jsonl() / "cells.jsonl");
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i == 9) continue;  // not UTF-8, which JSON has to be
    EXPECT_EQ(lines[i]["stack"], names[i]);
  }
}

TEST_F(Export, EmptyAndRunningSweepsAreExported) {
  testing::write_sweep(database(), {.runs = {}});
  for (const auto& entry : fs::directory_iterator(csv()))
    EXPECT_GE(testing::parse_csv(read(entry.path())).size(), 1U) << entry.path();
  EXPECT_TRUE(read_csv(folder_ / "csv/steps.csv").empty());
  EXPECT_TRUE(read_lines(jsonl() / "runs.jsonl").empty());

  fs::remove(database());
  testing::write_sweep(database(), {.runs = {{.state = "running", .evals = {{0, 6.0}}}, {.state = "queued"}}});
  SweepStore writer(database());  // as a supervisor holds it
  export_sweep(database(), folder_ / "running", ExportFormat::csv);
  EXPECT_THAT(values(read_csv(folder_ / "running/runs.csv"), "state"), ElementsAre("running", "queued"));
}

TEST_F(Export, TheSameDatabaseGivesTheSameBytes) {
  write_eventful_sweep(database());
  for (const ExportFormat format : {ExportFormat::csv, ExportFormat::jsonl, ExportFormat::tensorboard}) {
    const fs::path first = export_to(format, "first"), second = export_to(format, "second");
    std::size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(first)) {
      if (!entry.is_regular_file()) continue;
      EXPECT_EQ(read(entry.path()), read(second / fs::relative(entry.path(), first))) << entry.path();
      ++files;
    }
    EXPECT_GE(files, 3U);
    fs::remove_all(first), fs::remove_all(second);
  }
}

TEST_F(Export, AnEmptyFolderIsFilledAndNoOtherIsTouched) {
  write_eventful_sweep(database());
  fs::create_directory(folder_ / "empty");
  EXPECT_EQ(complaint(database(), folder_ / "empty/"), "none");
  EXPECT_TRUE(fs::exists(folder_ / "empty/steps.csv"));
  EXPECT_EQ(complaint(database(), folder_ / "new/inner"), "none");
  EXPECT_THAT(complaint(database(), folder_ / "empty"),
              HasSubstr("exists and is not empty; delete it first or choose another"));
  std::ofstream(folder_ / "file") << "keep";
  EXPECT_THAT(complaint(database(), folder_ / "file"), HasSubstr("exists and is no folder"));
  fs::create_directory(folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", folder_ / "link");
  EXPECT_THAT(complaint(database(), folder_ / "link"), HasSubstr("is a link"));
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
  EXPECT_EQ(read(folder_ / "file"), "keep");
  EXPECT_THAT(left(), ElementsAre("elsewhere", "empty", "file", "link", "new", "sweep.db"));
}

TEST_F(Export, WhatEndsEarlyLeavesNothing) {
  write_eventful_sweep(database());
  int heard = 0;
  EXPECT_THROW(export_sweep(database(), folder_ / "out", ExportFormat::jsonl,
                            [&](std::string_view, const ExportCounts&) {
                              if (++heard == 5) throw Error("stopped");
                            }),
               Error);
  EXPECT_EQ(heard, 5);
  EXPECT_THAT(left(), ElementsAre("sweep.db"));
}

TEST_F(Export, DatabasesFromElsewhereAreRefusedBeforeAnythingIsWritten) {
  write_eventful_sweep(database());
  const std::string good = read(database());
  const fs::path other = folder_ / "other.db";
  const auto refused = [&](const std::string& why) {
    EXPECT_THAT(complaint(other, folder_ / "out"), HasSubstr(why));
    EXPECT_FALSE(fs::exists(folder_ / "out"));
    for (const std::string& name : left()) EXPECT_FALSE(name.starts_with(".")) << name;
    for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(other.string() + suffix);
  };
  refused("does not exist");
  std::ofstream(other, std::ios::binary) << std::string(5000, 'x');
  refused("is not a database");
  SQLite::Database(other.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("CREATE TABLE runs (x)");
  refused("of another program");
  std::ofstream(other, std::ios::binary) << good;
  SQLite::Database(other.string(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  refused("written by a newer equisweep");
  std::ofstream(other, std::ios::binary) << good;
  SQLite::Database(other.string(), SQLite::OPEN_READWRITE).exec("CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END");
  refused("holds triggers");
  std::ofstream(other, std::ios::binary) << good;
  SQLite::Database(other.string(), SQLite::OPEN_READWRITE).exec("DROP TABLE logit_stats");
  refused("no such table");
  std::string damaged = good;
  for (std::size_t at = 4096 + 8; at < damaged.size(); at += 512) damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
  std::ofstream(other, std::ios::binary) << damaged;
  refused("damaged");
}

}  // namespace test_export
}  // namespace equisweep
