#include "analysis/export/reader.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <SQLiteCpp/VariadicBind.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <limits>

#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

std::string quoted_name(const std::string& name) { return '"' + name + '"'; }  // a name of our schema: no quote is in it

std::string column_list(const TableInfo& table, const std::string& prefix) {
  std::string list;
  for (const ColumnInfo& column : table.columns)
    list.append(list.empty() ? "" : ", ").append(prefix).append(quoted_name(column.name));
  return list;
}

std::string key_order(const TableInfo& table) {
  std::string list;
  for (const ColumnInfo& column : table.columns)
    if (column.key) list.append(list.empty() ? "ORDER BY t." : ", t.").append(quoted_name(column.name));
  return list;
}

/// Reads rows of `table` whose columns come first in the statement, and after them the mask, if it has one.
class RowReader {
 public:
  explicit RowReader(const TableInfo& table) : mask_(table.masked ? static_cast<int>(table.columns.size()) : -1) {
    int reals = 0;
    for (const ColumnInfo& column : table.columns) bits_.push_back(column.type == "REAL" ? reals++ : -1);
  }

  std::span<const RowValue> read(SQLite::Statement& row) {
    const std::int64_t mask = mask_ < 0 ? 0 : row.getColumn(mask_).getInt64();
    values_.clear();
    hex_.clear();
    for (int c = 0; c < row.getColumnCount(); ++c) {
      if (c == mask_) continue;
      const SQLite::Column column = row.getColumn(c);
      const auto bit = static_cast<std::size_t>(c) < bits_.size() ? bits_[static_cast<std::size_t>(c)] : -1;
      values_.push_back(value(column, bit >= 0 && bit < 63 && (mask >> bit & 1) != 0));
    }
    return values_;
  }

 private:
  RowValue value(const SQLite::Column& column, bool was_nan) {
    switch (column.getType()) {
      case SQLITE_INTEGER:
        return column.getInt64();
      case SQLITE_FLOAT:
        return column.getDouble();
      case SQLITE_TEXT: {
        const char* text = column.getText();
        return std::string_view(text, static_cast<std::size_t>(column.getBytes()));
      }
      case SQLITE_BLOB: {
        const auto* bytes = static_cast<const unsigned char*>(column.getBlob());
        std::string& text = *hex_.emplace_back(std::make_unique<std::string>());
        for (int i = 0; i < column.getBytes(); ++i) text += fmt::format("{:02x}", bytes[i]);
        return std::string_view(text);
      }
      default:
        if (was_nan) return std::numeric_limits<double>::quiet_NaN();
        return std::monostate{};
    }
  }

  int mask_;
  std::vector<int> bits_;  // of the mask, by column; -1: none
  std::vector<RowValue> values_;
  std::vector<std::unique_ptr<std::string>> hex_;
};

}  // namespace

bool is_measured(const TableInfo& table) {
  return !table.view && table.name != "events" && table.has("run") && table.has("attempt") && table.has("step");
}

SweepReader::SweepReader(const std::filesystem::path& sweep_db) : file_(sweep_db), db_(open_read_only(sweep_db)) {
  for (TableInfo& table : schema_tables())
    if (!table.view || table.name == "final_losses") tables_.push_back(std::move(table));
  in_database(file_, [&] {
    db_->exec("BEGIN");  // one snapshot for every table, also while a sweep runs
    SQLite::Statement query(*db_,
                            "SELECT l.run, l.attempt, l.after_step, l.until_step, CAST(strftime('%s', a.started_at) AS "
                            "INTEGER) FROM live_attempts l JOIN attempts a USING (run, attempt) ORDER BY l.run, l.attempt");
    while (query.executeStep())
      attempts_.push_back(
          {.run = query.getColumn(0).getInt64(),
           .attempt = query.getColumn(1).getInt64(),
           .after = query.getColumn(2).getInt64(),
           .until = query.isColumnNull(3) ? std::numeric_limits<std::int64_t>::max() : query.getColumn(3).getInt64(),
           .started = query.getColumn(4).getInt64()});
  });
  for (TableInfo& table : tables_)
    table.masked = std::erase_if(table.columns, [](const ColumnInfo& c) { return c.name == "nonfinite"; }) > 0;
}

SweepReader::~SweepReader() = default;

const TableInfo& SweepReader::table(std::string_view name) const {
  const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const TableInfo& t) { return t.name == name; });
  if (found == tables_.end()) throw std::logic_error(fmt::format("the schema has no table {}", name));
  return *found;
}

void SweepReader::each_row(const TableInfo& table, const RowVisitor& visit) const {
  if (table.name == "evals") {
    std::int64_t last = -1;
    for (const LiveAttempt& attempt : attempts_) {
      if (attempt.run != last) each_evaluation(table, attempt.run, [&](auto row) { visit(row.first(row.size() - 1)); });
      last = attempt.run;
    }
  } else if (is_measured(table)) {
    for (const LiveAttempt& attempt : attempts_) each_row(table, attempt, visit);
  } else {
    in_database(file_, [&] {
      SQLite::Statement query(*db_, fmt::format("SELECT {} FROM {} t {}", column_list(table, "t."), quoted_name(table.name),
                                                table.view ? "ORDER BY 1" : key_order(table)));
      RowReader reader(table);
      while (query.executeStep()) visit(reader.read(query));
    });
  }
}

void SweepReader::each_row(const TableInfo& table, const LiveAttempt& attempt, const RowVisitor& visit,
                           const std::vector<std::string>& extra, const std::string& join) const {
  in_database(file_, [&] {
    std::string columns = column_list(table, "t.");
    if (table.masked) columns += ", t.nonfinite";
    for (const std::string& expression : extra) columns += ", " + expression;
    SQLite::Statement query(
        *db_, fmt::format("SELECT {} FROM {} t {} WHERE t.run = ? AND t.attempt = ? AND t.step > ? AND t.step <= ? {}",
                          columns, quoted_name(table.name), join, key_order(table)));
    SQLite::bind(query, attempt.run, attempt.attempt, attempt.after, attempt.until);
    RowReader reader(table);
    while (query.executeStep()) visit(reader.read(query));
  });
}

void SweepReader::each_evaluation(const TableInfo& evals, std::int64_t run, const RowVisitor& visit) const {
  in_database(file_, [&] {
    SQLite::Statement query(*db_, fmt::format("SELECT {}, nonfinite, attempt FROM eval_curve WHERE run = ? ORDER BY step",
                                              column_list(evals, "")));
    query.bind(1, run);
    RowReader reader(evals);
    while (query.executeStep()) visit(reader.read(query));
  });
}

}  // namespace equisweep
