#include "analysis/audit/record.h"

#include <algorithm>
#include <cmath>
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

}  // namespace

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

void write_database(const AuditReport& report, const std::filesystem::path& file) {
  const auto db = open_writable(file);
  in_database(file, [&] {
    WriteTransaction transaction(*db, Durability::power_loss);
    db->exec(kTables);
    insert(*db, "INSERT INTO audits (made_at, program, seed, elements, passed) VALUES (?, ?, ?, ?, ?)", utc_now(),
           report.program, std::to_string(report.seed), report.elements, report.passed() ? 1 : 0);
    const std::int64_t audit = db->getLastInsertRowid();
    for (const Finding& f : report.findings)
      insert(*db, "INSERT INTO audit_cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, f.subject,
             f.precision, f.view, f.column, f.claimed ? 1 : 0, std::string(name_of(f.cell.verdict)), f.cell.error,
             f.cell.floor, f.cell.ratio, f.cell.elements, f.cell.samples, f.cell.decided, f.cell.worst, f.note);
    for (const Control& c : report.controls)
      insert(*db, "INSERT INTO audit_controls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, c.name, c.precision,
             c.must_hold ? 1 : 0, c.as_it_must ? 1 : 0, std::string(name_of(c.cell.verdict)), c.cell.error, c.cell.floor,
             c.cell.ratio, c.cell.least_error, c.cell.worst);
    for (const ModelFinding& f : report.models.findings)
      insert(*db, "INSERT INTO audit_models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", audit, f.architecture,
             f.subject, f.action, f.claimed ? 1 : 0, f.must_fail ? 1 : 0, f.failed() ? 1 : 0, f.loss_change, f.error,
             std::string(name_of(f.cell.verdict)), f.cell.floor, f.cell.ratio, f.cell.worst);
    for (const ModelBreak& b : report.models.breaks)
      insert(*db, "INSERT INTO audit_breaks VALUES (?, ?, ?, ?, ?, ?, ?)", audit, b.architecture, b.action, b.condition,
             b.in_training ? 1 : 0, b.change, b.as_it_must ? 1 : 0);
    transaction.commit();
  });
}

}  // namespace equisweep
