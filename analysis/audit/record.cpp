#include "analysis/audit/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/database.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

nlohmann::json number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

nlohmann::json to_json(const Cell& cell) {
  return {{"verdict", name_of(cell.verdict)}, {"error", number(cell.error)}, {"floor", number(cell.floor)},
          {"ratio", number(cell.ratio)},      {"elements", cell.elements},   {"samples", cell.samples},
          {"decided", cell.decided},          {"worst", cell.worst},         {"least_error", number(cell.least_error)}};
}

constexpr const char* kTables = R"sql(
CREATE TABLE IF NOT EXISTS audits (
  audit    INTEGER PRIMARY KEY,
  made_at  TEXT NOT NULL,
  program  TEXT NOT NULL,
  seed     TEXT NOT NULL,     -- unsigned 64-bit number in decimal digits
  elements INTEGER NOT NULL,
  passed   INTEGER NOT NULL CHECK (passed IN (0, 1))
) STRICT;
CREATE TABLE IF NOT EXISTS audit_cells (
  audit     INTEGER NOT NULL REFERENCES audits,
  subject   TEXT NOT NULL,
  precision TEXT NOT NULL,
  view      TEXT NOT NULL,
  action    TEXT NOT NULL,
  claimed   INTEGER NOT NULL CHECK (claimed IN (0, 1)),
  verdict   TEXT NOT NULL,
  error     REAL, floor REAL, ratio REAL,
  elements  INTEGER NOT NULL, samples INTEGER NOT NULL, decided INTEGER NOT NULL,
  worst     TEXT NOT NULL, note TEXT NOT NULL,
  failed    INTEGER CHECK (failed IN (0, 1)),
  PRIMARY KEY (audit, subject, precision, view, action)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit_controls (
  audit       INTEGER NOT NULL REFERENCES audits,
  name        TEXT NOT NULL,
  precision   TEXT NOT NULL,
  must_hold   INTEGER NOT NULL CHECK (must_hold IN (0, 1)),
  as_it_must  INTEGER NOT NULL CHECK (as_it_must IN (0, 1)),
  verdict     TEXT NOT NULL,
  error       REAL, floor REAL, ratio REAL, least_error REAL,
  worst       TEXT NOT NULL,
  PRIMARY KEY (audit, name, precision)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit_models (
  audit        INTEGER NOT NULL REFERENCES audits,
  architecture TEXT NOT NULL,
  subject      TEXT NOT NULL,
  action       TEXT NOT NULL,
  claimed      INTEGER NOT NULL CHECK (claimed IN (0, 1)),
  must_fail    INTEGER NOT NULL CHECK (must_fail IN (0, 1)),
  failed       INTEGER NOT NULL CHECK (failed IN (0, 1)),
  loss_change  REAL, error REAL,
  verdict      TEXT NOT NULL,
  floor        REAL, ratio REAL,
  worst        TEXT NOT NULL,
  elements     INTEGER,
  PRIMARY KEY (audit, architecture, subject, action)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit_breaks (
  audit        INTEGER NOT NULL REFERENCES audits,
  architecture TEXT NOT NULL,
  action       TEXT NOT NULL,
  condition    TEXT NOT NULL,
  in_training  INTEGER NOT NULL CHECK (in_training IN (0, 1)),
  change       REAL,
  as_it_must   INTEGER NOT NULL CHECK (as_it_must IN (0, 1)),
  PRIMARY KEY (audit, architecture, action, condition)
) STRICT, WITHOUT ROWID;
)sql";

/// Columns that were added since; NULL in rows from before.
constexpr std::array<std::array<const char*, 3>, 2> kAddedColumns = {
    {{"audit_cells", "failed", "INTEGER CHECK (failed IN (0, 1))"}, {"audit_models", "elements", "INTEGER"}}};

bool has_column(SQLite::Database& db, const std::string& table, const std::string& column) {
  SQLite::Statement query(db, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?");
  query.bind(1, table);
  query.bind(2, column);
  return query.executeStep();
}

void make_tables(SQLite::Database& db) {
  db.exec(kTables);
  for (const auto& [table, column, type] : kAddedColumns)
    if (!has_column(db, table, column)) db.exec(fmt::format("ALTER TABLE {} ADD COLUMN {} {}", table, column, type));
}

/// A column of `table`, or NULL in its place where an older program made the table without it.
std::string column_or_null(SQLite::Database& db, const char* table, const char* column) {
  return has_column(db, table, column) ? column : "NULL";
}

void bind_all(SQLite::Statement& statement, int) { statement.exec(); }

template <typename First, typename... Rest>
void bind_all(SQLite::Statement& statement, int index, const First& first, const Rest&... rest) {
  statement.bind(index, first);
  bind_all(statement, index + 1, rest...);
}

template <typename... Values>
void insert(SQLite::Database& db, const char* sql, const Values&... values) {
  SQLite::Statement statement(db, sql);
  bind_all(statement, 1, values...);
}

double real_in(const SQLite::Column& column) {
  return column.isNull() ? std::numeric_limits<double>::quiet_NaN() : column.getDouble();
}

Verdict verdict_from(const std::string& name) {
  for (const Verdict verdict : {Verdict::exact, Verdict::holds, Verdict::undecided, Verdict::inspect, Verdict::broken})
    if (name_of(verdict) == name) return verdict;
  throw SQLite::Exception("'" + name + "' is no verdict of an audit");
}

/// The columns verdict, error, floor and ratio, of which `first` is the number of the first.
void read_verdict(SQLite::Statement& query, int first, Cell& cell) {
  cell.verdict = verdict_from(query.getColumn(first).getString());
  cell.error = real_in(query.getColumn(first + 1));
  cell.floor = real_in(query.getColumn(first + 2));
  cell.ratio = real_in(query.getColumn(first + 3));
}

/// The newest audit with rows in some table.
struct Head {
  std::int64_t audit = 0;
  bool passed = false;
  AuditReport report;
};

std::optional<Head> newest_with(SQLite::Database& db, const char* table) {
  SQLite::Statement query(
      db, fmt::format("SELECT audit, seed, elements, program, passed FROM audits WHERE audit = (SELECT max(audit) FROM {})",
                      table));
  if (!query.executeStep()) return std::nullopt;
  Head head;
  AuditReport& report = head.report;
  const std::string seed = query.getColumn(1).getString();
  std::from_chars(seed.data(), seed.data() + seed.size(), report.seed);
  report.elements = query.getColumn(2).getInt64();
  report.program = query.getColumn(3).getString();
  head.audit = query.getColumn(0).getInt64();
  head.passed = query.getColumn(4).getInt() == 1;
  return head;
}

AuditReport read_rules(SQLite::Database& db, Head head) {
  AuditReport& report = head.report;
  SQLite::Statement cells(
      db, fmt::format("SELECT subject, precision, view, action, claimed, verdict, error, floor, ratio, elements, samples, "
                      "decided, worst, note, {} FROM audit_cells WHERE audit = ? ORDER BY subject, precision, view, action",
                      column_or_null(db, "audit_cells", "failed")));
  cells.bind(1, head.audit);
  while (cells.executeStep()) {
    Finding& f = report.findings.emplace_back();
    f.subject = cells.getColumn(0).getString();
    f.precision = cells.getColumn(1).getString();
    f.view = cells.getColumn(2).getString();
    f.column = cells.getColumn(3).getString();
    f.claimed = cells.getColumn(4).getInt() == 1;
    read_verdict(cells, 5, f.cell);
    f.cell.elements = cells.getColumn(9).getInt64();
    f.cell.samples = cells.getColumn(10).getInt64();
    f.cell.decided = cells.getColumn(11).getInt64();
    f.cell.worst = cells.getColumn(12).getString();
    f.note = cells.getColumn(13).getString();
    if (const SQLite::Column failed = cells.getColumn(14); !failed.isNull())
      f.judged = failed.getInt() == 1;
    else
      f.must_decide = !head.passed && f.precision != "bf16";
  }
  SQLite::Statement controls(db,
                             "SELECT name, precision, must_hold, as_it_must, verdict, error, floor, ratio, least_error, "
                             "worst FROM audit_controls WHERE audit = ? ORDER BY name, precision");
  controls.bind(1, head.audit);
  while (controls.executeStep()) {
    Control& c = report.controls.emplace_back();
    c.name = controls.getColumn(0).getString();
    c.precision = controls.getColumn(1).getString();
    c.must_hold = controls.getColumn(2).getInt() == 1;
    c.as_it_must = controls.getColumn(3).getInt() == 1;
    read_verdict(controls, 4, c.cell);
    c.cell.least_error = real_in(controls.getColumn(8));
    c.cell.worst = controls.getColumn(9).getString();
  }
  return std::move(report);
}

AuditReport read_models(SQLite::Database& db, Head head) {
  AuditReport& report = head.report;
  SQLite::Statement cells(
      db, fmt::format("SELECT architecture, subject, action, claimed, must_fail, loss_change, error, verdict, floor, ratio, "
                      "worst, failed, {} FROM audit_models WHERE audit = ? ORDER BY architecture, subject, action",
                      column_or_null(db, "audit_models", "elements")));
  cells.bind(1, head.audit);
  while (cells.executeStep()) {
    ModelFinding& f = report.models.findings.emplace_back();
    f.architecture = cells.getColumn(0).getString();
    f.subject = cells.getColumn(1).getString();
    f.action = cells.getColumn(2).getString();
    f.claimed = cells.getColumn(3).getInt() == 1;
    f.must_fail = cells.getColumn(4).getInt() == 1;
    f.loss_change = real_in(cells.getColumn(5));
    f.error = real_in(cells.getColumn(6));
    f.cell.verdict = verdict_from(cells.getColumn(7).getString());
    f.cell.floor = real_in(cells.getColumn(8));
    f.cell.ratio = real_in(cells.getColumn(9));
    f.cell.worst = cells.getColumn(10).getString();
    f.judged = cells.getColumn(11).getInt() == 1;
    f.cell.elements = cells.getColumn(12).getInt64();  // 0: an older program did not say
  }
  SQLite::Statement breaks(db,
                           "SELECT architecture, action, condition, in_training, change, as_it_must FROM audit_breaks WHERE "
                           "audit = ? ORDER BY architecture, action, condition");
  breaks.bind(1, head.audit);
  while (breaks.executeStep()) {
    ModelBreak& b = report.models.breaks.emplace_back();
    b.architecture = breaks.getColumn(0).getString();
    b.action = breaks.getColumn(1).getString();
    b.condition = breaks.getColumn(2).getString();
    b.in_training = breaks.getColumn(3).getInt() == 1;
    b.change = real_in(breaks.getColumn(4));
    b.as_it_must = breaks.getColumn(5).getInt() == 1;
  }
  return std::move(report);
}

}  // namespace

StoredAudits read_newest_audits(SQLite::Database& db) {
  StoredAudits stored;
  if (!db.tableExists("audits")) return stored;
  if (auto rules = newest_with(db, "audit_cells")) stored.rules = read_rules(db, *std::move(rules));
  if (auto models = newest_with(db, "audit_models")) stored.models = read_models(db, *std::move(models));
  return stored;
}

bool AuditReport::passed() const {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& finding) { return finding.failed(); }) &&
         std::all_of(controls.begin(), controls.end(), [](const Control& control) { return control.as_it_must; }) &&
         models.passed();
}

nlohmann::json to_json(const AuditReport& report) {
  nlohmann::json out = {{"seed", report.seed},
                        {"elements", report.elements},
                        {"program", report.program},
                        {"passed", report.passed()},
                        {"cells", nlohmann::json::array()},
                        {"controls", nlohmann::json::array()},
                        {"models", nlohmann::json::array()},
                        {"breaks", nlohmann::json::array()}};
  for (const Finding& finding : report.findings) {
    nlohmann::json cell = to_json(finding.cell);
    cell.update({{"subject", finding.subject},
                 {"precision", finding.precision},
                 {"view", finding.view},
                 {"action", finding.column},
                 {"claimed", finding.claimed},
                 {"failed", finding.failed()},
                 {"note", finding.note}});
    out["cells"].push_back(std::move(cell));
  }
  for (const Control& control : report.controls) {
    nlohmann::json cell = to_json(control.cell);
    cell.update({{"name", control.name},
                 {"precision", control.precision},
                 {"must_hold", control.must_hold},
                 {"as_it_must", control.as_it_must}});
    out["controls"].push_back(std::move(cell));
  }
  for (const ModelFinding& finding : report.models.findings) {
    nlohmann::json cell = to_json(finding.cell);
    cell.erase("least_error");
    cell.update({{"architecture", finding.architecture},
                 {"subject", finding.subject},
                 {"action", finding.action},
                 {"claimed", finding.claimed},
                 {"must_fail", finding.must_fail},
                 {"failed", finding.failed()},
                 {"loss_change", number(finding.loss_change)},
                 {"error", number(finding.error)}});
    out["models"].push_back(std::move(cell));
  }
  for (const ModelBreak& b : report.models.breaks)
    out["breaks"].push_back({{"architecture", b.architecture},
                             {"action", b.action},
                             {"condition", b.condition},
                             {"in_training", b.in_training},
                             {"change", number(b.change)},
                             {"as_it_must", b.as_it_must}});
  return out;
}

void prepare_database(const std::filesystem::path& file) {
  const auto db = open_writable(file);
  in_database(file, [&] {
    WriteTransaction transaction(*db, Durability::process_death);
    make_tables(*db);
    transaction.commit();
  });
}

void write_database(const AuditReport& report, const std::filesystem::path& file) {
  const auto db = open_writable(file);
  in_database(file, [&] {
    WriteTransaction transaction(*db, Durability::power_loss);
    make_tables(*db);
    insert(*db, "INSERT INTO audits (made_at, program, seed, elements, passed) VALUES (?, ?, ?, ?, ?)", utc_now(),
           report.program, std::to_string(report.seed), report.elements, report.passed() ? 1 : 0);
    const std::int64_t audit = db->getLastInsertRowid();
    for (const Finding& f : report.findings)
      insert(*db, "INSERT INTO audit_cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, f.subject,
             f.precision, f.view, f.column, f.claimed ? 1 : 0, std::string(name_of(f.cell.verdict)), f.cell.error,
             f.cell.floor, f.cell.ratio, f.cell.elements, f.cell.samples, f.cell.decided, f.cell.worst, f.note,
             f.failed() ? 1 : 0);
    for (const Control& c : report.controls)
      insert(*db, "INSERT INTO audit_controls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, c.name, c.precision,
             c.must_hold ? 1 : 0, c.as_it_must ? 1 : 0, std::string(name_of(c.cell.verdict)), c.cell.error, c.cell.floor,
             c.cell.ratio, c.cell.least_error, c.cell.worst);
    for (const ModelFinding& f : report.models.findings)
      insert(*db, "INSERT INTO audit_models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, f.architecture,
             f.subject, f.action, f.claimed ? 1 : 0, f.must_fail ? 1 : 0, f.failed() ? 1 : 0, f.loss_change, f.error,
             std::string(name_of(f.cell.verdict)), f.cell.floor, f.cell.ratio, f.cell.worst, f.cell.elements);
    for (const ModelBreak& b : report.models.breaks)
      insert(*db, "INSERT INTO audit_breaks VALUES (?, ?, ?, ?, ?, ?, ?)", audit, b.architecture, b.action, b.condition,
             b.in_training ? 1 : 0, b.change, b.as_it_must ? 1 : 0);
    transaction.commit();
  });
}

}  // namespace equisweep
