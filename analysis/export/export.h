#pragma once
// A sweep.db for other programs: CSV or JSON lines for everything that reads tables, event files for TensorBoard.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

namespace equisweep {

enum class ExportFormat { csv, jsonl, tensorboard };

struct ExportCounts {
  std::int64_t files = 0, rows = 0, bytes = 0;
};

/// Hears now and then what is being written. It may throw, which ends the export without a trace.
using ExportProgress = std::function<void(std::string_view doing, const ExportCounts& so_far)>;

/// Writes everything that `sweep_db` says of its runs, from one consistent snapshot, into the folder `out`, which must not
/// exist or be empty; it appears whole or not at all. The same database gives the same bytes. Memory does not grow with the
/// number of steps. docs/export.md says what is in the files.
///   csv          TABLE.csv (UTF-8, RFC 4180) for each table, and columns.csv: type, unit and meaning of each column
///   jsonl        TABLE.jsonl, an object a line, and columns.jsonl
///   tensorboard  a folder with an event file for each run that has started and is still in the sweep, and runs.csv
/// Throws UsageError (a folder that is not empty, a link), DatabaseError, Error (cannot be written).
ExportCounts export_sweep(const std::filesystem::path& sweep_db, const std::filesystem::path& out, ExportFormat format,
                          const ExportProgress& progress = {});

}  // namespace equisweep
