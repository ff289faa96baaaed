#pragma once
// The rows of a sweep.db that an export writes, one at a time from one consistent snapshot: no memory grows with the steps.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "analysis/export/schema.h"

namespace SQLite {
class Database;
}

namespace equisweep {

/// NULL, INTEGER, REAL (NaN where the row says that it was one) or TEXT; a text lives until the next row. A BLOB, which no
/// table of ours holds, is its bytes in hexadecimal.
using RowValue = std::variant<std::monostate, std::int64_t, double, std::string_view>;

class SweepReader {
 public:
  /// Throws DatabaseError, as open_read_only does.
  explicit SweepReader(const std::filesystem::path& sweep_db);
  ~SweepReader();
  SweepReader(const SweepReader&) = delete;
  SweepReader& operator=(const SweepReader&) = delete;

  /// The tables that an export hands out, with their columns: every table of the schema, and the view final_losses.
  /// `nonfinite` is left out, since its NaNs are in the values.
  const std::vector<TableInfo>& tables() const { return tables_; }
  const TableInfo& table(std::string_view name) const;

  /// One start of a job, with the steps for which it counts (the view live_attempts): after < step <= until.
  struct LiveAttempt {
    std::int64_t run = 0, attempt = 0, after = 0, until = 0;
    std::int64_t started = 0;  ///< seconds since 1970; 0 where the database has no readable time
  };
  const std::vector<LiveAttempt>& attempts() const { return attempts_; }  ///< by run and attempt

  using RowVisitor = std::function<void(std::span<const RowValue>)>;

  /// Each row of `table`, by its primary key, as `columns` of it. Of tables with a row a step, the rows that count.
  void each_row(const TableInfo& table, const RowVisitor& visit) const;

  /// The rows of a table with a row a step that count for one attempt, by step. After the columns of `table` come `extra`
  /// (expressions of SQL in which `t` is the table), joined by `join`.
  void each_row(const TableInfo& table, const LiveAttempt& attempt, const RowVisitor& visit,
                const std::vector<std::string>& extra = {}, const std::string& join = "") const;

  /// Evaluations of a run that count, by step; the last column is the number of the attempt that made it.
  void each_evaluation(const TableInfo& evals, std::int64_t run, const RowVisitor& visit) const;

  SQLite::Database& db() const { return *db_; }
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;
  std::unique_ptr<SQLite::Database> db_;
  std::vector<TableInfo> tables_;
  std::vector<LiveAttempt> attempts_;
};

/// Whether `table` has a row a step, of which an attempt that was superseded may have written some.
bool is_measured(const TableInfo& table);

}  // namespace equisweep
