#include "analysis/export/schema.h"

#include <SQLiteCpp/SQLiteCpp.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "core/database.h"

namespace equisweep {
namespace {

using Comments = std::map<std::string, std::string>;  // by column

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::string_view first_word(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('"')) text.remove_prefix(1);
  const auto end = std::find_if(text.begin(), text.end(),
                                [](char c) { return !(std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'); });
  return text.substr(0, static_cast<std::size_t>(end - text.begin()));
}

/// The comments of the columns of each table and view, in the text of the schema as it is laid out: one column a line, or,
/// in a view, the last name after AS of a line.
std::map<std::string, Comments> comments_of(std::string_view schema) {
  std::map<std::string, Comments> comments;
  Comments* table = nullptr;
  bool view = false;
  std::string column;
  while (!schema.empty()) {
    const std::size_t end = std::min(schema.find('\n'), schema.size());
    std::string_view line = schema.substr(0, end);
    schema.remove_prefix(std::min(end + 1, schema.size()));
    const std::size_t dashes = line.find("--");
    const std::string_view comment = dashes == line.npos ? "" : trimmed(line.substr(dashes + 2));
    line = trimmed(line.substr(0, dashes));
    if (line.starts_with("CREATE ")) {
      view = line.starts_with("CREATE VIEW ");
      table = &comments[std::string(first_word(line.substr(view ? 12 : 13)))];
      column.clear();
      continue;
    }
    if (table == nullptr || line.empty()) continue;
    if (view) {
      const std::size_t as = line.rfind(" AS ");
      column = as == line.npos ? "" : first_word(line.substr(as + 4));
    } else if (const std::string_view word = first_word(line);
               !word.empty() && std::islower(static_cast<unsigned char>(word.front())) != 0) {
      column = word;  // else a line that goes on with the column before
    }
    if (!comment.empty() && !column.empty()) (*table)[column] = comment;
    if (line.ends_with(';')) table = nullptr;
  }
  return comments;
}

void explain(ColumnInfo& column, std::string_view comment) {
  if (comment.starts_with('[')) {
    const std::size_t end = comment.find(']');
    column.unit = comment.substr(1, end - 1);
    comment = trimmed(comment.substr(end + 1));
  }
  column.meaning = comment;
}

}  // namespace

bool TableInfo::has(std::string_view column) const {
  return std::any_of(columns.begin(), columns.end(), [&](const ColumnInfo& c) { return c.name == column; });
}

std::vector<TableInfo> schema_tables() {
  SQLite::Database db(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec(std::string(kSchemaText));
  const auto comments = comments_of(kSchemaText);
  std::vector<TableInfo> tables;
  Comments first;  // by name of column alone
  SQLite::Statement names(
      db,
      "SELECT name, type = 'view' FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' "
      "ESCAPE '!' ORDER BY type, rowid");
  while (names.executeStep()) {
    TableInfo& table = tables.emplace_back();
    table.name = names.getColumn(0).getString();
    table.view = names.getColumn(1).getInt() == 1;
    SQLite::Statement columns(db, "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid");
    columns.bind(1, table.name);
    const auto own = comments.find(table.name);
    while (columns.executeStep()) {
      ColumnInfo& column = table.columns.emplace_back();
      column.name = columns.getColumn(0).getString();
      column.type = columns.getColumn(1).getString();
      column.key = columns.getColumn(2).getInt() > 0;
      std::string comment;
      if (own != comments.end() && own->second.contains(column.name)) comment = own->second.at(column.name);
      if (!comment.empty()) first.emplace(column.name, comment);
      if (comment.empty() && first.contains(column.name)) comment = first.at(column.name);
      explain(column, comment);
    }
  }
  return tables;
}

}  // namespace equisweep
