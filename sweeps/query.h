#pragma once
// Questions of a user to a database that nobody may change by asking.

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace equisweep {

/// NULL, INTEGER, REAL or TEXT; a BLOB is its bytes in hexadecimal.
using QueryValue = std::variant<std::monostate, std::int64_t, double, std::string>;

struct QueryResult {
  std::vector<std::string> columns;
  std::vector<std::vector<QueryValue>> rows;
};

/// The answer to one SELECT (also with WITH, VALUES or EXPLAIN). Whatever else a statement could do is refused before it
/// runs: no other file is opened or written, no setting changed. Throws UsageError on such a statement, on none, on several,
/// and on one that SQLite does not understand, with its words; DatabaseError where the database cannot be read.
QueryResult query(const std::filesystem::path& database, const std::string& sql);

}  // namespace equisweep
