#pragma once
// What the columns of a database mean, read from the comments of core/schema.sql, which is the one place that says it.

#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

struct ColumnInfo {
  std::string name = {};
  std::string type = {};  ///< INTEGER, REAL, TEXT; empty for a computed column of a view
  std::string unit = {};  ///< "s", "nats/token", "JSON", ...; empty: none
  std::string meaning = {};
  std::string source = {};  ///< the column that it is a part of, where it is a value inside JSON
  bool key = false;         ///< of the primary key
};

struct TableInfo {
  std::string name = {};
  bool view = false;
  bool masked = false;  ///< its last column, `nonfinite`, was taken off; set by who does
  std::vector<ColumnInfo> columns = {};
  bool has(std::string_view column) const;
};

/// Every table, then every view of our schema, in its order. A column without a comment means what the one of that name
/// means where it comes first.
std::vector<TableInfo> schema_tables();

}  // namespace equisweep
