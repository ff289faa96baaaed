#pragma once
// Which rows of a run count: of each step those of the newest attempt whose resume point is not after it.
//
// The views of core/schema.sql say the same in SQL, and a test compares the two. They look for newer attempts at every row;
// here the attempts of a run are read once, and what counts of a table are ranges of its primary key.

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace SQLite {
class Database;
class Statement;
}  // namespace SQLite

namespace equisweep {

/// Of this attempt the steps in (after, until] count, and the evaluations after the steps in [after, until] of which no
/// newer attempt has one.
struct LiveAttempt {
  std::int64_t attempt = 1, after = 0, until = std::numeric_limits<std::int64_t>::max();
};

/// The live attempts of every run by its number, by attempt (and so by step: a range begins where those before it have
/// ended).
std::map<std::int64_t, std::vector<LiveAttempt>> live_attempts(SQLite::Database& db);

using RowVisitor = std::function<void(SQLite::Statement& row)>;

/// Visits the rows that count of a table with a line a step. `sql` ends with the condition kLiveRows, which may be followed
/// by others, GROUP BY or ORDER BY; order holds within an attempt.
void visit_live(SQLite::Database& db, std::int64_t run, const std::vector<LiveAttempt>& live, const std::string& sql,
                const RowVisitor& visitor);

inline constexpr const char* kLiveRows = " WHERE run = ?1 AND attempt = ?2 AND step > ?3 AND step <= ?4 ";

}  // namespace equisweep
