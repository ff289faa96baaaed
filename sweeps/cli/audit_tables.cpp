// The audit on the terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "analysis/audit/layouts.h"
#include "analysis/audit/shown.h"
#include "sweeps/cli/audit.h"
#include "sweeps/cli/text_table.h"

namespace equisweep {

std::string text_of(const Finding& finding) {
  const Cell& cell = finding.cell;
  return fmt::format("{} {}{}{}: {}, error {:.2g}, floor {:.2g}, ratio {:.3g}, {}{}", finding.subject, finding.precision,
                     finding.view.empty() ? " " : " " + finding.view + " ", finding.column, name_of(cell.verdict),
                     cell.error, cell.floor, cell.ratio, cell.worst, finding.note.empty() ? "" : ", " + finding.note);
}

void print_matrix(const AuditReport& report, const std::string& precision) {
  std::vector<std::string> header = {precision};
  for (const AuditColumn& column : audit_columns()) header.emplace_back(column.heading);
  std::vector<std::vector<std::string>> rows;
  const Finding* worst = nullptr;
  for (const Finding& finding : report.findings) {
    if (finding.precision != precision || !finding.view.empty()) continue;
    if (rows.empty() || rows.back()[0] != finding.subject) rows.push_back({finding.subject});
    rows.back().push_back(cell_text(finding));
    if (finding.claimed && (worst == nullptr || finding.cell.ratio > worst->cell.ratio)) worst = &finding;
  }
  fmt::print("{}", text_table(header, rows));
  if (worst != nullptr) fmt::print("worst claim: {}\n", text_of(*worst));
  fmt::print("\n");
}

void print_views(const AuditReport& report) {
  std::vector<std::string> header = {"through views"};
  for (const auto& [action, column] : layout_actions()) header.emplace_back(column.heading);
  std::vector<std::string> views;
  for (const Finding& finding : report.findings)
    if (!finding.view.empty() && std::find(views.begin(), views.end(), finding.view) == views.end())
      views.push_back(finding.view);
  std::vector<std::vector<std::string>> rows;
  for (const std::string& view : views) {
    rows.push_back({view});
    for (const auto& [action, column] : layout_actions()) {
      const Finding *claimed = nullptr, *other = nullptr;
      for (const Finding& finding : report.findings) {
        if (finding.view != view || finding.column != column.name) continue;
        const Finding*& worst = finding.claimed ? claimed : other;
        const bool worse = worst == nullptr || finding.cell.ratio > worst->cell.ratio;
        if (finding.claimed ? worse : worst == nullptr || finding.cell.error < worst->cell.error) worst = &finding;
      }
      rows.back().push_back(claimed != nullptr ? cell_text(*claimed) : other != nullptr ? cell_text(*other) : ".");
    }
  }
  if (!rows.empty()) fmt::print("{}\n", text_table(header, rows));
}

void print_controls(const AuditReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const Control& control : report.controls)
    rows.push_back({control.name, control.precision, control.must_hold ? "hold" : "fail",
                    control.must_hold ? fmt::format("ratio {:.2g}", control.cell.ratio)
                                      : fmt::format("error {:.2g}", control.cell.least_error),
                    control.as_it_must ? "yes" : "NO"});
  fmt::print("{}\n", text_table({"control", "precision", "must", "found", "as it must"}, rows));
}

void print_models(const ModelReport& report) {
  std::vector<std::string> architectures;
  for (const ModelFinding& finding : report.findings)
    if (architectures.empty() || architectures.back() != finding.architecture) architectures.push_back(finding.architecture);
  const auto columns = model_columns();
  for (const std::string& architecture : architectures) {
    std::vector<std::string> header = {architecture + " fp64"};
    for (const auto& [name, heading] : columns) header.emplace_back(heading);
    std::vector<std::vector<std::string>> rows;
    const ModelFinding* worst = nullptr;
    for (const ModelFinding& finding : report.findings) {
      if (finding.architecture != architecture) continue;
      if (rows.empty() || rows.back()[0] != finding.subject) {
        rows.push_back({finding.subject});
        rows.back().resize(header.size(), ".");
      }
      const auto column =
          std::find_if(columns.begin(), columns.end(), [&](const auto& c) { return c.first == finding.action; });
      rows.back()[static_cast<std::size_t>(column - columns.begin()) + 1] = cell_text(finding);
      if (finding.claimed && (worst == nullptr || finding.cell.ratio > worst->cell.ratio)) worst = &finding;
    }
    fmt::print("{}", text_table(header, rows));
    if (worst != nullptr) fmt::print("worst claim: {}\n", text_of(*worst));
    fmt::print("\n");
  }
  std::vector<std::vector<std::string>> rows;
  for (const ModelBreak& b : report.breaks)
    rows.push_back({b.architecture, b.action, b.condition, b.in_training ? "parts the runs" : "changes the loss",
                    fmt::format("{:.2g}", b.change), b.as_it_must ? "yes" : "NO"});
  if (!rows.empty())
    fmt::print("{}\n", text_table({"architecture", "action", "is no symmetry with", "it", "by", "as it must"}, rows));
}

std::string text_of(const ModelFinding& finding) {
  return fmt::format(
      "{} {} {}: {}{}{}, error {:.2g}, loss changed by {:.2g}, worst weight: error {:.2g}, floor {:.2g}, "
      "ratio {:.3g}, {}",
      finding.architecture, finding.subject, finding.action, name_of(finding.cell.verdict),
      finding.claimed ? ", claimed" : "", finding.must_fail ? ", must fail" : "", finding.error, finding.loss_change,
      finding.cell.error, finding.cell.floor, finding.cell.ratio, finding.cell.worst);
}

}  // namespace equisweep
