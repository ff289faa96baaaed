#pragma once
// The report of a sweep: index.html, report.md, tables, figures and a manifest, made from sweep.db alone.

#include <filesystem>
#include <string>

namespace equisweep {

struct ReportOptions {
  bool figures = true;  ///< off: no gnuplot is run, and the figures' data are tables only
};

/// Writes the report of `sweep_db` into the folder `out`, which is made if missing: index.html (self-contained), report.md,
/// tables/*.csv (full precision), figures/*.svg and *.pdf, manifest.json (sha256 of every file). Each file appears whole or
/// not at all; files that the last report listed in its manifest and this one no longer makes are removed; nothing else in
/// `out` is touched. The same database gives the same bytes. Reads one consistent snapshot, so a sweep may be running.
/// Throws DatabaseError, Error (gnuplot missing or failed, folder not writable, a link where a folder should be).
void write_report(const std::filesystem::path& sweep_db, const std::filesystem::path& out,
                  const ReportOptions& options = {});

/// The verdict and the main table as plain text for a terminal, `width` columns wide.
std::string report_summary(const std::filesystem::path& sweep_db, std::size_t width = 100);

}  // namespace equisweep
