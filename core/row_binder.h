#pragma once
// How a row of measurements becomes the values of an INSERT. For .cpp files that write a database.

#include <SQLiteCpp/Statement.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

namespace equisweep {

/// Binds one row after (run = 1, attempt) and keeps the mask of NaNs, which every such table has as its last column.
class RowBinder {
 public:
  RowBinder(SQLite::Statement& statement, std::int64_t attempt) : statement_(statement) {
    statement_.reset();
    statement_.clearBindings();
    integer(attempt);
  }
  RowBinder& integer(std::int64_t value) {
    statement_.bind(++index_, value);
    return *this;
  }
  RowBinder& text(const std::string& value) {
    statement_.bind(++index_, value);
    return *this;
  }
  RowBinder& real(double value) {
    if (std::isnan(value)) {
      nonfinite_ |= std::int64_t{1} << reals_;
      ++index_;  // stays NULL
    } else {
      statement_.bind(++index_, value);
    }
    ++reals_;
    return *this;
  }
  RowBinder& real(const std::optional<double>& value) {
    if (value) return real(*value);
    ++index_;
    ++reals_;
    return *this;
  }
  void insert() { statement_.exec(); }
  void insert_with_mask() {
    integer(nonfinite_);
    statement_.exec();
  }

 private:
  SQLite::Statement& statement_;
  std::int64_t nonfinite_ = 0;
  int index_ = 0, reals_ = 0;
};

}  // namespace equisweep
