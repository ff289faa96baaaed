#pragma once
// An audit on disk: JSON, and rows of a SQLite database (docs/audit.md describes both).

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "analysis/audit/controls.h"
#include "analysis/audit/model_audit.h"

namespace SQLite {
class Database;
}

namespace equisweep {

struct AuditReport {
  std::uint64_t seed = 0;
  std::int64_t elements = 0;  ///< of the audit of blocks; cells have their own
  std::string program;        ///< version and commit of what made it
  std::vector<Finding> findings;
  std::vector<Control> controls;
  ModelReport models;

  /// Every claim holds, and every control is as it must be.
  bool passed() const;
};

/// Infinite numbers are written as null.
nlohmann::json to_json(const AuditReport& report);

/// Makes `file` ready for write_database: what that would throw is thrown before an audit of minutes, not after it.
void prepare_database(const std::filesystem::path& file);

/// Adds one row to `audits` and one a cell, control, model cell and condition to `audit_cells`, `audit_controls`,
/// `audit_models` and `audit_breaks`, in one transaction; tables, and columns that older programs did not write, are made
/// where they are missing. `file` is a database of equisweep, or is made. Throws DatabaseError.
void write_database(const AuditReport& report, const std::filesystem::path& file);

/// The newest audit of rules in a database, and the newest of models, which may be the same; nothing where there is neither.
/// A cell fails as it did when it was made (judged). Older programs did not store that: such a cell is judged again, and if
/// its audit did not pass, a claim that is undecided in fp64 or fp32 counts as one that fails. What else is not stored keeps
/// its default: of model cells the error of the worst weight.
struct StoredAudits {
  std::optional<AuditReport> rules, models;
};
StoredAudits read_newest_audits(SQLite::Database& db);

}  // namespace equisweep
