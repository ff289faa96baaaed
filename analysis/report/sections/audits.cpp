// Audits that `equisweep audit --db` has added to the database of the sweep: rules x groups, and architectures x actions.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>

#include "analysis/audit/record.h"
#include "analysis/audit/shown.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

/// A table with a line a subject and a column each of `columns` (name, heading), where any of its cells has one.
template <class Row, class NameOf>
Table matrix_of(const std::vector<const Row*>& cells, const std::vector<std::pair<std::string, std::string>>& columns,
                NameOf action_of) {
  Table table;
  table.columns = {{.title = "Rule", .csv_name = "rule"}};
  std::vector<std::string> actions;
  for (const auto& [name, heading] : columns) {
    if (std::none_of(cells.begin(), cells.end(), [&](const Row* cell) { return action_of(*cell) == name; })) continue;
    actions.push_back(name);
    table.columns.push_back({.title = heading, .csv_name = name});
  }
  std::string subject;
  for (const Row* cell : cells) {
    if (table.rows.empty() || cell->subject != subject) {
      subject = cell->subject;
      table.rows.emplace_back(table.columns.size(), text("."));
      table.rows.back()[0] = text(subject);
    }
    const auto column = std::find(actions.begin(), actions.end(), action_of(*cell));
    if (column == actions.end()) continue;
    Value& value = table.rows.back()[static_cast<std::size_t>(column - actions.begin()) + 1];
    value = text(cell_text(*cell));
    // A spreadsheet would take the sign for a formula.
    if (value.shown == "=" || value.shown == "(=)") value.value = value.shown == "=" ? "exact" : "(exact)";
    value.strong = cell->failed();
  }
  return table;
}

std::string made_by(const AuditReport& report) { return fmt::format("Made by {}, seed {}.", report.program, report.seed); }

void add_rules(const AuditReport& report, Content& content) {
  std::vector<std::pair<std::string, std::string>> columns;
  for (const AuditColumn& column : audit_columns()) columns.emplace_back(column.name, column.heading);
  std::size_t claims = 0, failed = 0;
  for (const Finding& f : report.findings) claims += f.claimed ? 1 : 0, failed += f.failed() ? 1 : 0;
  const auto right =
      std::count_if(report.controls.begin(), report.controls.end(), [](const Control& c) { return c.as_it_must; });
  content.emplace_back(Paragraph{fmt::format(
      "Audit of the rules on single blocks: {} of {} claims hold and {} of {} controls are as they must be, each "
      "the worst of {} group elements. The tables show every rule with its default options. {}",
      claims - failed, claims, right, report.controls.size(), report.elements, made_by(report))});
  for (const char* precision : {"fp64", "fp32", "bf16"}) {
    std::vector<const Finding*> cells;
    for (const Finding& f : report.findings)
      if (f.precision == precision && f.view.empty() && f.subject.find(' ') == std::string::npos) cells.push_back(&f);
    if (cells.empty()) continue;
    Table table = matrix_of(cells, columns, [](const Finding& f) { return f.column; });
    table.id = fmt::format("audit-rules-{}", precision);
    table.caption = fmt::format("Rules and groups in {}: m units, n features.", precision);
    table.notes = {std::string(kCellLegend)};
    content.emplace_back(std::move(table));
  }
}

void add_models(const AuditReport& report, Content& content) {
  std::vector<std::pair<std::string, std::string>> columns;
  for (const auto& [name, heading] : model_columns()) columns.emplace_back(name, heading);
  std::vector<std::string> architectures;
  std::size_t failed = 0;
  for (const ModelFinding& f : report.models.findings) {
    failed += f.failed() ? 1 : 0;
    if (architectures.empty() || architectures.back() != f.architecture) architectures.push_back(f.architecture);
  }
  const std::int64_t elements = report.models.findings.at(0).cell.elements;  // older programs did not store it
  content.emplace_back(Paragraph{fmt::format(
      "Audit of whole models, trained in fp64 from theta and from g theta: {} of {} cells are as they must be{}. {}",
      report.models.findings.size() - failed, report.models.findings.size(),
      elements > 0 ? fmt::format(", each the worst of {} group elements", elements) : "", made_by(report))});
  for (const std::string& architecture : architectures) {
    std::vector<const ModelFinding*> cells;
    for (const ModelFinding& f : report.models.findings)
      if (f.architecture == architecture) cells.push_back(&f);
    Table table = matrix_of(cells, columns, [](const ModelFinding& f) { return f.action; });
    table.id = "audit-" + file_stem(architecture);
    table.caption = fmt::format("Training of {} under the actions of its symmetries.", visible(architecture));
    table.notes = {std::string(kModelCellLegend)};
    content.emplace_back(std::move(table));
  }
  Table breaks{.id = "audit-conditions",
               .caption = "Conditions under which an action is no symmetry, and by how much the audit sees it.",
               .columns = {{.title = "Architecture", .csv_name = "architecture"},
                           {.title = "Action", .csv_name = "action"},
                           {.title = "Is no symmetry with", .csv_name = "condition"},
                           {.title = "It", .csv_name = "effect"},
                           {.title = "By", .numeric = true, .csv_name = "relative_change"},
                           {.title = "Noticed", .csv_name = "as_it_must"}},
               .rows = {},
               .notes = {}};
  for (const ModelBreak& b : report.models.breaks) {
    Value noticed = text(b.as_it_must ? "yes" : "no");
    noticed.strong = !b.as_it_must;
    breaks.rows.push_back({text(b.architecture), text(b.action), text(b.condition),
                           text(b.in_training ? "parts the runs" : "changes the loss"),
                           Value{significant(b.change, 2), b.change}, noticed});
  }
  if (!breaks.rows.empty()) content.emplace_back(std::move(breaks));
}

}  // namespace

Content audit_tables(const ReportData& data) {
  Content content;
  // Audits are of the rules and not of a sweep: of several sweeps those of the first that has any.
  for (std::size_t sweep = 0; sweep < data.sweeps.size() && content.empty(); ++sweep) {
    const StoredAudits stored = read_newest_audits(data.db_of_sweep(sweep));
    if (stored.rules) add_rules(*stored.rules, content);
    if (stored.models) add_models(*stored.models, content);
  }
  return content;
}

}  // namespace equisweep
