// docs/database.md against the schema: it names every table, view and column, and its queries answer what they say.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_database_docs {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string documentation() {
  std::ostringstream text;
  text << std::ifstream(std::string(EQUISWEEP_SOURCE_DIR) + "/docs/database.md").rdbuf();
  return text.str();
}

std::vector<std::string> queries() {
  std::vector<std::string> found;
  const std::string text = documentation(), fence = "```sql\n";
  for (std::size_t at = text.find(fence); at != text.npos; at = text.find(fence, at)) {
    at += fence.size();
    found.push_back(text.substr(at, text.find("```", at) - at));
  }
  return found;
}

std::vector<std::string> rows(SQLite::Database& db, const std::string& sql) {
  std::vector<std::string> result;
  SQLite::Statement statement(db, sql);
  while (statement.executeStep()) {
    std::string& row = result.emplace_back();
    for (int i = 0; i < statement.getColumnCount(); ++i) row += (i ? "," : "") + statement.getColumn(i).getString();
  }
  return result;
}

/// Two stacks, two scales, one seed; the scaled muon run diverged. Losses are round numbers, so that answers are known.
class DatabaseDocs : public ::testing::Test {
 protected:
  void SetUp() override {
    SweepStore sweep(path_);
    std::vector<CellRow> cells;
    for (const char* stack : {"adamw", "muon"})
      for (const double scale : {1.0, 2.0})
        cells.push_back({.job = std::string(15, 'a') + static_cast<char>('0' + cells.size()),
                         .model = "qwen3-nano",
                         .stack = stack,
                         .baseline = cells.size() < 2,
                         .lr_scale = scale,
                         .config = R"({"stack":{"default":{"lr":0.003}},"train":{"steps":2}})"});
    sweep.set_plan(cells);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto run_db = folder_ / cells[i].job;
      const bool diverged = i == 3;
      RunStore run(run_db, cells[i].job, cells[i].config, {.attempt = 1, .started_at = "S"});
      run.add_blocks({{.block = 0,
                       .name = "w",
                       .role = "mlp_up",
                       .layer = 0,
                       .shape = "[2,2]",
                       .entry = "default",
                       .rule = cells[i].stack}});
      run.add(EvalRow{.step = 0, .loss = 5});
      for (std::int64_t step = 1; step <= 2; ++step) {
        run.add(StepRow{.step = step,
                        .tokens = 10 * step,
                        .seconds = static_cast<double>(step),
                        .loss = 4,
                        .step_seconds = 1,
                        .optimizer_seconds = 0.25});
        run.add(BlockStatsRow{.step = step, .block = 0, .spectral_norm = 2 * static_cast<double>(step), .stable_rank = 1});
      }
      if (!diverged) run.add(EvalRow{.step = 2, .tokens = 20, .loss = 3 - 0.5 * static_cast<double>(i)});
      run.finish({.state = diverged ? RunState::diverged : RunState::done, .message = diverged ? "loss nan" : ""});
      sweep.ingest(run_db);
    }
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "sweep.db";
};

TEST_F(DatabaseDocs, NameEveryTableViewAndColumn) {
  const auto db = open_read_only(path_);
  const std::string text = documentation();
  for (const std::string& name : rows(*db, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")) {
    const std::size_t at = text.find("| `" + name + "` |");
    ASSERT_NE(at, text.npos) << "docs/database.md does not describe " << name;
    const std::string line = text.substr(at, text.find('\n', at) - at);
    const bool table = rows(*db, "SELECT type FROM sqlite_schema WHERE name = '" + name + "'").front() == "table";
    if (!table) continue;
    for (const std::string& column : rows(*db, "SELECT name FROM pragma_table_info('" + name + "')"))
      EXPECT_THAT(line, HasSubstr("`" + column + "`"));
  }
}

TEST_F(DatabaseDocs, QueriesAnswer) {
  const auto db = open_read_only(path_);
  const auto all = queries();
  ASSERT_EQ(all.size(), 10u);
  for (const std::string& sql : all) EXPECT_FALSE(rows(*db, sql).empty()) << sql;
  EXPECT_THAT(rows(*db, all[0]),
              ElementsAre("qwen3-nano,adamw,1.0,0,done,3.0", "qwen3-nano,adamw,2.0,0,done,2.5",
                          "qwen3-nano,muon,1.0,0,done,2.0", HasSubstr("qwen3-nano,muon,2.0,0,diverged,")));
  EXPECT_THAT(rows(*db, all[1]), ElementsAre("qwen3-nano,adamw,2.0,1,0,2.5", "qwen3-nano,muon,1.0,1,0,2.0"));
  EXPECT_THAT(rows(*db, all[2]), ElementsAre("qwen3-nano,muon,1.0,0,-1.0"));
  EXPECT_THAT(rows(*db, all[4]), ElementsAre(HasSubstr("adamw,1.0,0,2"), HasSubstr("adamw,2.0,0,2"),
                                             HasSubstr("muon,1.0,0,2"), "qwen3-nano,muon,2.0,0,"));
  EXPECT_THAT(rows(*db, all[5]), ::testing::Each(HasSubstr("2.0,10.0,0.25")));
  EXPECT_THAT(rows(*db, all[8]), ElementsAre("aaaaaaaaaaaaaaa3,1,diverged,,loss nan,"));
}

}  // namespace test_database_docs
}  // namespace equisweep
