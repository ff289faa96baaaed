#pragma once
// The report of a sweep: index.html, report.md, tables, figures and a manifest, made from sweep.db alone.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "analysis/report/source.h"
#include "analysis/statistics/bootstrap.h"

namespace equisweep {

enum class ReportFormat { html, markdown, csv, latex };

struct ReportOptions {
  std::set<ReportFormat> formats = {ReportFormat::html, ReportFormat::markdown, ReportFormat::csv, ReportFormat::latex};
  bool figures = true;            ///< off: no gnuplot is run, and the figures' data are tables only
  std::size_t gnuplots = 0;       ///< that run at a time; 0: one a core. No file depends on it
  IntervalMethod intervals = {};  ///< of losses and of their differences
};

/// Writes the report of `source` into the folder `out`, which is made if missing: index.html (self-contained), report.md,
/// tables/*.csv (full precision) and *.tex (of tables short enough for a paper), figures/*.svg and *.pdf (not for CSV
/// alone), manifest.json (sha256 of every file). Each file appears whole or not at all; files that the last report listed in
/// its manifest and this one no longer makes are removed; nothing else in `out` is touched. The same database gives the same
/// bytes. Reads one consistent snapshot, so a sweep may be running. Throws DatabaseError, Error (gnuplot missing or failed,
/// folder not writable, a link where a folder should be).
void write_report(const ReportSource& source, const std::filesystem::path& out, const ReportOptions& options = {});

/// What keeps the sweep from a claim that holds: a line for each question of the fairness checklist that fails. Empty where
/// the report can be relied on.
std::vector<std::string> report_objections(const ReportSource& source);

/// The verdict and the main table as plain text for a terminal, `width` columns wide.
std::string report_summary(const ReportSource& source, std::size_t width = 100, const IntervalMethod& intervals = {});

}  // namespace equisweep
