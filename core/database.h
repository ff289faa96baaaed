#pragma once
// How every database file of equisweep is opened, checked and written; the stores build on it.
//
// Rules (SQLite's own advice for files with one writer): busy_timeout before anything else, write-ahead log and the answer
// checked, BEGIN IMMEDIATE for every transaction that writes, trusted_schema off. The write-ahead log makes a committed
// transaction survive the death of the process; to survive the loss of power it must also be synchronised, which
// Durability::power_loss does for one transaction.

#include <SQLiteCpp/SQLiteCpp.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace equisweep {

/// application_id of our files: "EqSw". `file` and SQLite show it.
inline constexpr int kApplicationId = 0x45715377;

/// The text of core/schema.sql.
extern const std::string_view kSchemaText;

/// What happened to `file`, and what to do about it.
std::string database_problem(const std::filesystem::path& file, const SQLite::Exception& error);

/// Rethrows an error of SQLite as DatabaseError: the file, database_problem().
[[noreturn]] void throw_database_error(const std::filesystem::path& file, const SQLite::Exception& error);

/// Runs `body`; an error of SQLite leaves it as DatabaseError that names `file`.
template <typename Body>
decltype(auto) in_database(const std::filesystem::path& file, Body&& body) {
  try {
    return body();
  } catch (const SQLite::Exception& error) {
    throw_database_error(file, error);
  }
}

/// `file` with links of its folder resolved; the file itself is left alone, so that a link planted in its place is refused.
std::filesystem::path resolved_folder(const std::filesystem::path& file);

/// "file:///results/x/run.db?mode=ro", with everything unusual escaped.
std::string read_only_uri(const std::filesystem::path& file);

/// Whether `file` holds nothing yet: the program that made it was killed before it had written the schema.
bool is_unborn(const std::filesystem::path& file);

/// Opens `file` read-only as open_read_only does (core/run_store.h), but leaves it at the schema that it has.
std::unique_ptr<SQLite::Database> open_as_it_is(const std::filesystem::path& file);

/// Opens `file` for writing, creates it with the schema where it is missing or empty, and brings it to our schema where it
/// has an older one, in one transaction. Throws DatabaseError, as open_read_only does, and on a network file system.
std::unique_ptr<SQLite::Database> open_writable(const std::filesystem::path& file);

/// Whether another connection holds the lock for writing at this moment; does not wait for it.
bool is_locked(SQLite::Database& db);

enum class Durability { process_death, power_loss };

/// A transaction that writes: BEGIN IMMEDIATE now, rolled back unless commit() is reached.
class WriteTransaction {
 public:
  WriteTransaction(SQLite::Database& db, Durability durability);
  void commit() { transaction_.commit(); }

 private:
  SQLite::Transaction transaction_;
};

}  // namespace equisweep
