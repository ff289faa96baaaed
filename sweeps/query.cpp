#include "sweeps/query.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <memory>

#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

// A connection that is read-only still lets ATTACH open other files, VACUUM INTO write them, and PRAGMA change settings.
int allow_reading(void* denied, int action, const char*, const char*, const char*, const char*) {
  if (action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_FUNCTION || action == SQLITE_RECURSIVE)
    return SQLITE_OK;
  *static_cast<bool*>(denied) = true;
  return SQLITE_DENY;
}

UsageError refused_statement(const std::string& why) {
  return UsageError(
      {Problem{{}, "the statement: " + why, "one SELECT; docs/database.md has the tables and ten examples", ""}});
}

std::string hex_of(const SQLite::Column& column) {
  const auto* bytes = static_cast<const unsigned char*>(column.getBlob());
  std::string text;
  for (int i = 0; i < column.getBytes(); ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

QueryValue value_of(const SQLite::Column& column) {
  switch (column.getType()) {
    case SQLITE_INTEGER:
      return column.getInt64();
    case SQLITE_FLOAT:
      return column.getDouble();
    case SQLITE_TEXT:
      return column.getString();
    case SQLITE_BLOB:
      return hex_of(column);
    default:
      return std::monostate{};
  }
}

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

}  // namespace

QueryResult query(const std::filesystem::path& database, const std::string& sql) {
  const auto db = open_read_only(database);
  bool denied = false;
  sqlite3_set_authorizer(db->getHandle(), allow_reading, &denied);
  {  // what follows the first statement is not looked at by SQLiteCpp
    sqlite3_stmt* raw = nullptr;
    const char* rest = nullptr;
    const int code = sqlite3_prepare_v2(db->getHandle(), sql.c_str(), static_cast<int>(sql.size()), &raw, &rest);
    const std::unique_ptr<sqlite3_stmt, Finalize> first(raw);
    if (denied) throw refused_statement("does more than read");
    if (code != SQLITE_OK) throw refused_statement(printable(sqlite3_errmsg(db->getHandle()), 400));
    if (!first) throw refused_statement("there is none");
    sqlite3_stmt* another = nullptr;
    const int second = sqlite3_prepare_v2(db->getHandle(), rest, -1, &another, nullptr);
    const std::unique_ptr<sqlite3_stmt, Finalize> more(another);
    if (second != SQLITE_OK || more || sqlite3_bind_parameter_count(first.get()) > 0)
      throw refused_statement(second != SQLITE_OK || more ? "there are several"
                                                          : "has a parameter, for which there is no value");
  }
  try {
    QueryResult result;
    SQLite::Statement statement(*db, sql);
    for (int c = 0; c < statement.getColumnCount(); ++c) result.columns.emplace_back(statement.getColumnName(c));
    while (statement.executeStep()) {
      auto& row = result.rows.emplace_back();
      for (int c = 0; c < statement.getColumnCount(); ++c) row.push_back(value_of(statement.getColumn(c)));
    }
    return result;
  } catch (const SQLite::Exception& e) {
    if (denied) throw refused_statement("does more than read");  // VACUUM INTO asks only when it runs
    throw refused_statement(printable(e.what(), 400));
  }
}

}  // namespace equisweep
