#include "analysis/report/live.h"

#include <SQLiteCpp/SQLiteCpp.h>

#include <algorithm>

namespace equisweep {

std::map<std::int64_t, std::vector<LiveAttempt>> live_attempts(SQLite::Database& db) {
  std::map<std::int64_t, std::vector<LiveAttempt>> all;
  SQLite::Statement query(db, "SELECT run, attempt, resume_step FROM attempts ORDER BY run, attempt");
  while (query.executeStep())
    all[query.getColumn(0).getInt64()].push_back(
        {.attempt = query.getColumn(1).getInt64(), .after = query.getColumn(2).getInt64()});
  for (auto& [run, attempts] : all) {
    for (std::size_t i = attempts.size(); i-- > 1;) attempts[i - 1].until = std::min(attempts[i].until, attempts[i].after);
    std::erase_if(attempts, [](const LiveAttempt& a) { return a.until < a.after; });
  }
  return all;
}

void visit_live(SQLite::Database& db, std::int64_t run, const std::vector<LiveAttempt>& live, const std::string& sql,
                const RowVisitor& visitor) {
  SQLite::Statement query(db, sql);
  for (const LiveAttempt& a : live) {
    query.reset();
    query.bind(1, run);
    query.bind(2, a.attempt);
    query.bind(3, a.after);
    query.bind(4, a.until);
    while (query.executeStep()) visitor(query);
  }
}

}  // namespace equisweep
