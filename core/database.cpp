#include "core/database.h"

#include <SQLiteCpp/Backup.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <set>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

constexpr int kBusyTimeoutMs = 10'000;
// Reading every page of a file of this size takes a fraction of a second; larger files are checked page by page as they are
// read.
constexpr std::uintmax_t kCheckedSize = std::uintmax_t{256} << 20;

const char* const kMoveAway =
    "move it away and run the sweep again: a lost run.db is trained again, a lost sweep.db is rebuilt from runs/*/run.db";

std::int64_t number(SQLite::Database& db, const char* sql) { return db.execAndGet(sql).getInt64(); }

/// The schema version of the file, 0 if it holds nothing yet; throws unless it is empty or ours.
std::int64_t check_identity(const fs::path& file, SQLite::Database& db) {
  const std::int64_t application = number(db, "PRAGMA application_id");
  const std::int64_t version = number(db, "PRAGMA user_version");
  const std::int64_t objects = number(db, "SELECT count(*) FROM sqlite_schema");
  if (application == 0 && version == 0 && objects == 0) return 0;
  if (application != kApplicationId) {
    throw DatabaseError(file.string(),
                        fmt::format("is a SQLite database of another program (application_id {:#x}, expected {:#x}); "
                                    "name another file or folder",
                                    application, kApplicationId));
  }
  if (version > kSchemaVersion) {
    throw DatabaseError(file.string(),
                        fmt::format("has schema {}, written by a newer equisweep; this program knows up to {}: update "
                                    "equisweep",
                                    version, kSchemaVersion));
  }
  if (version < 1) {
    throw DatabaseError(file.string(), fmt::format("has schema {}, which no equisweep wrote; {}", version, kMoveAway));
  }
  return version;
}

void check_content(const fs::path& file, SQLite::Database& db) {
  // A trigger or a view in the place of a table could make a read run code that we did not write.
  const std::int64_t foreign = number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'");
  if (foreign != 0)
    throw DatabaseError(file.string(), fmt::format("holds triggers, which equisweep never makes; {}", kMoveAway));
  std::error_code ignored;
  const std::uintmax_t size = fs::file_size(file, ignored);
  if (ignored || size > kCheckedSize) return;
  const std::string verdict = db.execAndGet("PRAGMA quick_check(1)").getString();
  if (verdict != "ok") throw DatabaseError(file.string(), fmt::format("is damaged ({}); {}", printable(verdict), kMoveAway));
}

void harden(SQLite::Database& db) {
  db.exec("PRAGMA trusted_schema = OFF");
  db.exec("PRAGMA cell_size_check = ON");
  db.exec("PRAGMA foreign_keys = ON");
}

/// Where the locks and the shared memory of a write-ahead log are not to be relied on, what the system calls it; else "".
std::string_view network_file_system(const fs::path& folder) {
  struct Kind {
    std::uint32_t number;  ///< statfs(2)
    std::string_view name;
  };
  constexpr Kind kKinds[] = {{0x6969, "NFS"},     {0x517B, "SMB"},     {0xFF534D42, "SMB"}, {0xFE534D42, "SMB"},
                             {0x5346414F, "AFS"}, {0x6B414653, "AFS"}, {0x73757245, "Coda"}};
  struct statfs disk = {};
  if (::statfs(folder.c_str(), &disk) != 0) return "";  // opening says what is wrong
  for (const Kind& kind : kKinds)
    if (kind.number == static_cast<std::uint32_t>(disk.f_type)) return kind.name;
  return "";
}

void create_schema(const fs::path& file, SQLite::Database& db) {
  WriteTransaction transaction(db, Durability::power_loss);
  if (check_identity(file, db) != 0) return;  // another process was faster
  db.exec(std::string(kSchemaText));
  db.exec(fmt::format("PRAGMA application_id = {}", kApplicationId));
  db.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
  transaction.commit();
  sync_names(file.parent_path());  // of the new file; its content is SQLite's business
}

std::vector<std::string> names_of(SQLite::Database& db, const std::string& type) {
  std::vector<std::string> names;
  SQLite::Statement query(db,
                          "SELECT name FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' "
                          "ESCAPE '!' ORDER BY rowid");
  query.bind(1, type);
  while (query.executeStep()) names.push_back(query.getColumn(0).getString());
  return names;
}

std::string quoted(std::string name) {
  for (std::size_t at = name.find('"'); at != std::string::npos; at = name.find('"', at + 2)) name.insert(at, 1, '"');
  return '"' + name + '"';
}

std::set<std::string> columns_of(SQLite::Database& db, const std::string& table) {
  std::set<std::string> columns;
  SQLite::Statement query(db, "SELECT name FROM pragma_table_info(?)");
  query.bind(1, table);
  while (query.executeStep()) columns.insert(query.getColumn(0).getString());
  return columns;
}

/// Puts the tables and views of our schema in the place of those of an older one, and copies the rows: every column that
/// both have.
void replace_tables(SQLite::Database& db) {
  for (const char* type : {"view", "index"})
    for (const std::string& name : names_of(db, type)) db.exec(fmt::format("DROP {} {}", type, quoted(name)));
  const auto old = [](const std::string& table) { return quoted("old " + table); };
  const std::vector<std::string> before = names_of(db, "table");
  for (const std::string& table : before) db.exec(fmt::format("ALTER TABLE {} RENAME TO {}", quoted(table), old(table)));
  db.exec(std::string(kSchemaText));
  for (const std::string& table : before) {
    const std::set<std::string> now = columns_of(db, table), then = columns_of(db, "old " + table);
    if (now.empty()) {  // of no table of ours; it stays as it is
      db.exec(fmt::format("ALTER TABLE {} RENAME TO {}", old(table), quoted(table)));
      continue;
    }
    std::vector<std::string> both;
    for (const std::string& column : then)
      if (now.contains(column)) both.push_back(quoted(column));
    if (!both.empty())
      db.exec(fmt::format("INSERT INTO {0} ({1}) SELECT {1} FROM {2}", quoted(table), join(both), old(table)));
    db.exec(fmt::format("DROP TABLE {}", old(table)));
  }
}

/// Brings a checked database of an older schema to ours.
void migrate(const fs::path& file, SQLite::Database& db) {
  db.exec("PRAGMA foreign_keys = OFF");  // they point at tables that are replaced; no row is lost
  WriteTransaction transaction(db, Durability::power_loss);
  if (check_identity(file, db) < kSchemaVersion) {  // else another process was faster
    replace_tables(db);
    db.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
  }
  transaction.commit();
  db.exec("PRAGMA foreign_keys = ON");
}

}  // namespace

std::string database_problem(const fs::path& file, const SQLite::Exception& error) {
  switch (error.getErrorCode()) {
    case SQLITE_NOTADB:
      return fmt::format("is not a database, or its beginning is damaged; {}", kMoveAway);
    case SQLITE_CORRUPT:
      return fmt::format("is damaged ({}); {}", error.what(), kMoveAway);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fmt::format("has been locked by another process for {} s; find it with `fuser {}`", kBusyTimeoutMs / 1000,
                         file.string());
    case SQLITE_READONLY:
      return "cannot be written; check the permissions of the file and of its folder";
    case SQLITE_CANTOPEN:
      return "cannot be opened; it must be a plain file (no link) in a folder that exists and can be written";
    case SQLITE_FULL:
      return "cannot be written: the disk or the quota is full; make room and run again";
    case SQLITE_IOERR:
      return fmt::format("cannot be read or written ({}); check the disk", error.getErrorStr());
    default:
      return fmt::format("{} (SQLite {})", printable(error.what(), 400), error.getExtendedErrorCode());
  }
}

void throw_database_error(const fs::path& file, const SQLite::Exception& error) {
  throw DatabaseError(file.string(), database_problem(file, error));
}

fs::path resolved_folder(const fs::path& file) {
  std::error_code ignored;
  const fs::path absolute = fs::absolute(file);
  const fs::path folder = fs::weakly_canonical(absolute.parent_path(), ignored);
  return ignored ? absolute : folder / absolute.filename();
}

std::string read_only_uri(const fs::path& file) {
  std::string uri = "file://";
  const std::string name = resolved_folder(file).string();
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '.' ||
                       c == '-' || c == '_';
    if (plain) {
      uri += c;
    } else {
      uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  uri += "?mode=ro";
  // A log cannot be made beside a file on a read-only disk; without one nobody is writing, and the file can be read as it
  // is.
  std::error_code ignored;
  if (::access(fs::path(name).parent_path().c_str(), W_OK) != 0 && !fs::exists(name + "-wal", ignored))
    uri += "&immutable=1";
  return uri;
}

bool is_unborn(const fs::path& file) {
  return in_database(file, [&] {
    SQLite::Database db(read_only_uri(file), SQLite::OPEN_READONLY | SQLite::OPEN_URI | SQLite::OPEN_NOFOLLOW,
                        kBusyTimeoutMs);
    for (const char* sql : {"PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema"})
      if (number(db, sql) != 0) return false;
    return true;
  });
}

std::unique_ptr<SQLite::Database> open_as_it_is(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw DatabaseError(path.string(), "does not exist; check the name of the sweep (`equisweep run FILE` makes it)");
  }
  return in_database(path, [&] {
    auto db = std::make_unique<SQLite::Database>(
        read_only_uri(path), SQLite::OPEN_READONLY | SQLite::OPEN_URI | SQLite::OPEN_NOFOLLOW, kBusyTimeoutMs);
    harden(*db);
    if (check_identity(path, *db) == 0) {
      throw DatabaseError(path.string(), "is empty: the program that made it was stopped at its start; run the sweep again");
    }
    check_content(path, *db);
    return db;
  });
}

std::unique_ptr<SQLite::Database> open_read_only(const fs::path& path) {
  auto db = open_as_it_is(path);
  return in_database(path, [&] {
    if (number(*db, "PRAGMA user_version") == kSchemaVersion) return std::move(db);
    auto copy = std::make_unique<SQLite::Database>(":memory:", SQLite::OPEN_READWRITE);
    SQLite::Backup(*copy, *db).executeStep();
    harden(*copy);
    migrate(path, *copy);
    copy->exec("PRAGMA query_only = ON");
    return copy;
  });
}

std::unique_ptr<SQLite::Database> open_writable(const fs::path& file) {
  return in_database(file, [&] {
    const fs::path name = resolved_folder(file);
    if (const auto kind = network_file_system(name.parent_path()); !kind.empty())
      throw DatabaseError(file.string(), fmt::format("lies on a network file system ({}), where a database that several "
                                                     "processes use is not safe; put the results on a local disk",
                                                     kind));
    auto db = std::make_unique<SQLite::Database>(
        name.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_URI | SQLite::OPEN_NOFOLLOW,
        kBusyTimeoutMs);
    const std::int64_t version = check_identity(file, *db);  // before the first write: another program's stays as it is
    harden(*db);
    if (version != 0) check_content(file, *db);
    const std::string mode = db->execAndGet("PRAGMA journal_mode = WAL").getString();
    if (mode != "wal") {
      throw DatabaseError(file.string(),
                          fmt::format("its file system does not allow SQLite's write-ahead log (journal_mode is '{}'); "
                                      "put the results on a local disk",
                                      printable(mode)));
    }
    if (version == 0) create_schema(name, *db);
    if (version != 0 && version < kSchemaVersion) migrate(file, *db);
    return db;
  });
}

bool is_locked(SQLite::Database& db) {
  db.setBusyTimeout(0);
  const int code = db.tryExec("BEGIN IMMEDIATE");
  if (code == SQLITE_OK) db.tryExec("ROLLBACK");
  db.setBusyTimeout(kBusyTimeoutMs);
  return code == SQLITE_BUSY;
}

namespace {

SQLite::Database& with_durability(SQLite::Database& db, Durability durability) {
  db.exec(durability == Durability::power_loss ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
  return db;
}

}  // namespace

WriteTransaction::WriteTransaction(SQLite::Database& db, Durability durability)
    : transaction_(with_durability(db, durability), SQLite::TransactionBehavior::IMMEDIATE) {}

}  // namespace equisweep
