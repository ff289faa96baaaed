// Databases of older versions: brought to ours whole or not at all, with every row, and readable until then.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_migration {

namespace fs = std::filesystem;

constexpr const char* kOldJob = "0123456789abcdef";

std::string file_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<std::string> lines(SQLite::Database& db, const std::string& sql) {
  std::vector<std::string> result;
  SQLite::Statement query(db, sql);
  while (query.executeStep()) {
    std::string& line = result.emplace_back();
    for (int i = 0; i < query.getColumnCount(); ++i)
      line += query.getColumn(i).isNull() ? "NULL|" : query.getColumn(i).getString() + "|";
  }
  return result;
}

/// A file as the first version left it, with a row in every table; a sweep's, or a run's.
void make_version_1(const fs::path& path, bool sweep) {
  SQLite::Database db(path.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec("PRAGMA journal_mode = WAL");
  db.exec(file_text(fs::path(EQUISWEEP_SOURCE_DIR) / "tests/core/schema-1.sql"));
  db.exec("PRAGMA application_id = " + std::to_string(kApplicationId));
  db.exec("PRAGMA user_version = 1");
  db.exec(
      "INSERT INTO runs VALUES (1, '0123456789abcdef', '{}', 'done', 'm', 1, 7, '{}');"
      "INSERT INTO attempts VALUES (1, 1, 0, 'done', 'm', 'S', 'E', 'exit 0', 'cpu', 2, 5, NULL, '{}');"
      "INSERT INTO steps VALUES (1, 1, 1, 10, 0.1, NULL, 3e-3, 9e999, 0.5, 0.25, 0.125, 2);"
      "INSERT INTO evals VALUES (1, 1, 0, 0, 0.0, 2.5, NULL, 99, 0);"
      "INSERT INTO blocks VALUES (1, 0, 'w', 'mlp_up', 0, '[2,2]', 'default', 'muon');"
      "INSERT INTO block_stats VALUES (1, 1, 1, 0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0);"
      "INSERT INTO equivariance VALUES (1, 1, 1, 0, 'orthogonal', 1.0, 2.0, 3.0, 4.0, 5.0, 0);"
      "INSERT INTO router_stats VALUES (1, 1, 1, 0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0);"
      "INSERT INTO expert_load VALUES (1, 1, 1, 0, 3, 17);"
      "INSERT INTO events VALUES (1, 1, 1, 'T', 1, 'start', 'x')");
  if (!sweep) return;
  db.exec(
      "INSERT INTO meta VALUES ('name', 'old');"
      "INSERT INTO cells VALUES (1, '0123456789abcdef', 'm', 's', 1, 0.5, 3, '{\"a\":1}', 1);"
      "INSERT INTO cells VALUES (2, '0123456789abcdef', 'm', 's', 1, 0.5, 3, '{\"a\":1}', 0);"
      "CREATE TABLE audits (audit INTEGER PRIMARY KEY, command TEXT); INSERT INTO audits VALUES (3, 'mine')");
}

/// Every row of every table, in the columns that the first version had.
std::vector<std::string> old_rows(SQLite::Database& db) {
  SQLite::Database first(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  first.exec(file_text(fs::path(EQUISWEEP_SOURCE_DIR) / "tests/core/schema-1.sql"));
  std::vector<std::string> all;
  for (const std::string& table : lines(first, "SELECT name FROM sqlite_schema WHERE type = 'table'")) {
    const std::string name = table.substr(0, table.size() - 1);
    std::string columns;
    for (const std::string& column : lines(first, "SELECT name FROM pragma_table_info('" + name + "')"))
      columns += (columns.empty() ? "\"" : ", \"") + column.substr(0, column.size() - 1) + '"';
    for (const std::string& row : lines(db, "SELECT " + columns + " FROM " + name + " ORDER BY 1, 2"))
      all.push_back(name + ": " + row);
  }
  return all;
}

std::vector<std::string> old_rows(const fs::path& path) { return old_rows(*open_as_it_is(path)); }

std::vector<std::string> schema(SQLite::Database& db) {
  return lines(db, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'audits' ORDER BY name");
}

TEST(Migration, GivesTheSchemaOfANewFileAndKeepsEveryRow) {
  const TempFolder folder;
  make_version_1(folder / "old.db", true);
  const auto before = old_rows(folder / "old.db");
  ASSERT_EQ(before.size(), 13u);
  { SweepStore store(folder / "old.db"); }
  { SweepStore store(folder / "new.db"); }
  EXPECT_EQ(old_rows(folder / "old.db"), before);
  const auto db = open_as_it_is(folder / "old.db");
  EXPECT_EQ(schema(*db), schema(*open_as_it_is(folder / "new.db")));
  EXPECT_EQ(db->execAndGet("PRAGMA user_version").getInt(), kSchemaVersion);
  EXPECT_EQ(db->execAndGet("PRAGMA integrity_check").getString(), "ok");
  EXPECT_EQ(lines(*db, "PRAGMA foreign_key_check").size(), 0u);
  EXPECT_EQ(lines(*db, "SELECT command FROM audits"), std::vector<std::string>{"mine|"});  // a table of another part
  EXPECT_EQ(lines(*db, "SELECT DISTINCT phase FROM cells"), std::vector<std::string>{"|"});
}

TEST(Migration, KilledAtAnyWriteLeavesOneVersionOrTheOther) {
  const TempFolder folder;
  make_version_1(folder / "old.db", true);
  const auto before = old_rows(folder / "old.db");
  int seen[3] = {};
  std::int64_t k = 1;
  for (bool killed = true; killed; ++k) {
    const fs::path path = folder / (std::to_string(k) + ".db");
    fs::copy(folder / "old.db", path);
    const pid_t child = ::fork();
    if (child == 0) {
      set_disk_fault(DiskFault::kill, k);
      try {
        SweepStore store(path);
        ::_exit(0);
      } catch (...) {
        ::_exit(2);
      }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    killed = WIFSIGNALED(status);
    ASSERT_TRUE(killed || status == 0);
    const auto version = open_as_it_is(path)->execAndGet("PRAGMA user_version").getInt();
    ASSERT_TRUE(version == 1 || version == kSchemaVersion) << version;
    ++seen[version == 1 ? 1 : 2];
    EXPECT_EQ(old_rows(path), before);
    { SweepStore store(path); }
    EXPECT_EQ(old_rows(path), before);
    EXPECT_EQ(open_as_it_is(path)->execAndGet("PRAGMA user_version").getInt(), kSchemaVersion);
    if (HasFailure()) FAIL() << "killed at write " << k;
  }
  EXPECT_GT(seen[1], 5);
  EXPECT_GT(seen[2], 0);
}

TEST(Migration, ReadersSeeOurSchemaAndLeaveTheFile) {
  const TempFolder folder;
  make_version_1(folder / "old.db", true);
  const std::string before = file_text(folder / "old.db");
  {
    const auto db = open_read_only(folder / "old.db");
    EXPECT_EQ(lines(*db, "SELECT model, phase, val_loss FROM final_losses"), std::vector<std::string>{"m||2.5|"});
    EXPECT_EQ(old_rows(*db), old_rows(folder / "old.db"));
    EXPECT_THROW(db->exec("DELETE FROM steps"), SQLite::Exception);
  }
  EXPECT_EQ(file_text(folder / "old.db"), before);
}

TEST(Migration, RunsOfTheOldVersionAreTakenInAndContinued) {
  const TempFolder folder;
  make_version_1(folder / "run.db", false);
  SQLite::Database(folder / "run.db", SQLite::OPEN_READWRITE)  // a result would not be continued
      .exec("UPDATE runs SET state = 'failed'; UPDATE attempts SET state = 'failed'");
  SweepStore sweep(folder / "sweep.db");
  sweep.set_plan({{.job = kOldJob, .model = "m", .stack = "s", .config = "{}"}});
  EXPECT_EQ(sweep.ingest(folder / "run.db"), 9);  // all but the run itself
  EXPECT_EQ(sweep.state(kOldJob), RunState::failed);
  EXPECT_EQ(sweep.ingest(folder / "run.db"), 0);
  {
    RunStore run(folder / "run.db", kOldJob, "{}", {.attempt = 2, .resume_step = 1, .started_at = "S"});
    run.add(StepRow{.step = 2});
  }
  EXPECT_EQ(sweep.ingest(folder / "run.db"), 2);
}

TEST(Migration, RefusesAnOldFileThatItCannotCopyAndLeavesIt) {
  const TempFolder folder;
  make_version_1(folder / "old.db", true);
  SQLite::Database(folder / "old.db", SQLite::OPEN_READWRITE)
      .exec(
          "DROP TABLE expert_load; CREATE TABLE expert_load (run, attempt, step, layer, expert, tokens); "
          "INSERT INTO expert_load VALUES (1, 1, 1, 1, 1, 'many')");
  const auto before = old_rows(folder / "old.db");
  EXPECT_THROW(SweepStore(folder / "old.db"), DatabaseError);
  EXPECT_THROW(open_read_only(folder / "old.db"), DatabaseError);
  EXPECT_EQ(old_rows(folder / "old.db"), before);
}

}  // namespace test_migration
}  // namespace equisweep
