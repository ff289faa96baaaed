#include "core/database.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

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

/// Whether the file holds nothing yet; throws unless it is empty or ours.
bool check_identity(const fs::path& file, SQLite::Database& db) {
  const std::int64_t application = number(db, "PRAGMA application_id");
  const std::int64_t version = number(db, "PRAGMA user_version");
  const std::int64_t objects = number(db, "SELECT count(*) FROM sqlite_schema");
  if (application == 0 && version == 0 && objects == 0) return true;
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
  if (version != kSchemaVersion) {
    throw DatabaseError(file.string(), fmt::format("has schema {}, which no equisweep wrote; {}", version, kMoveAway));
  }
  return false;
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

/// Makes the name of a new file survive the loss of power; its content is SQLite's business.
void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems do not allow it, and none that matters needs it then
  ::fsync(fd);
  ::close(fd);
}

void create_schema(const fs::path& file, SQLite::Database& db) {
  WriteTransaction transaction(db, Durability::power_loss);
  if (!check_identity(file, db)) return;  // another process was faster
  db.exec(std::string(kSchemaText));
  db.exec(fmt::format("PRAGMA application_id = {}", kApplicationId));
  db.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
  transaction.commit();
  sync_folder(file.parent_path());
}

}  // namespace

void throw_database_error(const fs::path& file, const SQLite::Exception& error) {
  std::string what;
  switch (error.getErrorCode()) {
    case SQLITE_NOTADB:
      what = fmt::format("is not a database, or its beginning is damaged; {}", kMoveAway);
      break;
    case SQLITE_CORRUPT:
      what = fmt::format("is damaged ({}); {}", error.what(), kMoveAway);
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      what = fmt::format("has been locked by another process for {} s; find it with `fuser {}`", kBusyTimeoutMs / 1000,
                         file.string());
      break;
    case SQLITE_READONLY:
      what = "cannot be written; check the permissions of the file and of its folder";
      break;
    case SQLITE_CANTOPEN:
      what = "cannot be opened; it must be a plain file (no link) in a folder that exists and can be written";
      break;
    case SQLITE_FULL:
      what = "cannot be written: the disk or the quota is full; make room and run again";
      break;
    case SQLITE_IOERR:
      what = fmt::format("cannot be read or written ({}); check the disk", error.getErrorStr());
      break;
    default:
      what = fmt::format("{} (SQLite {})", printable(error.what(), 400), error.getExtendedErrorCode());
  }
  throw DatabaseError(file.string(), what);
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

std::unique_ptr<SQLite::Database> open_read_only(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw DatabaseError(path.string(), "does not exist; check the name of the sweep (`equisweep run FILE` makes it)");
  }
  return in_database(path, [&] {
    auto db = std::make_unique<SQLite::Database>(
        read_only_uri(path), SQLite::OPEN_READONLY | SQLite::OPEN_URI | SQLite::OPEN_NOFOLLOW, kBusyTimeoutMs);
    harden(*db);
    if (check_identity(path, *db)) {
      throw DatabaseError(path.string(), "is empty: the program that made it was stopped at its start; run the sweep again");
    }
    check_content(path, *db);
    return db;
  });
}

std::unique_ptr<SQLite::Database> open_writable(const fs::path& file) {
  return in_database(file, [&] {
    const fs::path name = resolved_folder(file);
    auto db = std::make_unique<SQLite::Database>(
        name.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_URI | SQLite::OPEN_NOFOLLOW,
        kBusyTimeoutMs);
    const bool empty = check_identity(file, *db);  // before the first write: a file of another program stays as it is
    harden(*db);
    if (!empty) check_content(file, *db);
    const std::string mode = db->execAndGet("PRAGMA journal_mode = WAL").getString();
    if (mode != "wal") {
      throw DatabaseError(file.string(),
                          fmt::format("its file system does not allow SQLite's write-ahead log (journal_mode is '{}'); "
                                      "put the results on a local disk",
                                      printable(mode)));
    }
    if (empty) create_schema(name, *db);
    return db;
  });
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
