// The matrices of audits in the report: what the audit has stored is what the section shows.
#include <SQLiteCpp/SQLiteCpp.h>

#include <limits>

#include "analysis/audit/record.h"
#include "core/run_store.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_audits {

class ReportAudits : public SweepFolder {
 protected:
  std::filesystem::path sweep() {
    testing::FixtureSweep sweep;
    sweep.runs = {{.stack = "base", .baseline = true, .evals = {{0, 6}, {100, 4}}}};
    return database(sweep);
  }
};

Finding finding(const std::string& subject, const std::string& column, bool claimed, Verdict verdict, double error,
                double ratio) {
  Finding f;
  f.subject = subject;
  f.precision = "fp32";
  f.column = column;
  f.claimed = claimed;
  f.cell.verdict = verdict;
  f.cell.error = error;
  f.cell.ratio = ratio;
  f.cell.samples = f.cell.decided = 20;
  return f;
}

AuditReport rules_report(double row_norm_error) {
  AuditReport report;
  report.seed = std::numeric_limits<std::uint64_t>::max();
  report.elements = 20;
  report.program = "equisweep test";
  report.findings = {
      finding("adamw", "rows.permutation", true, Verdict::exact, 0, 0),
      finding("adamw", "rows.orthogonal", false, Verdict::broken, 0.52, 1e7),
      finding("row_norm", "rows.orthogonal", true, Verdict::broken, row_norm_error, std::numeric_limits<double>::infinity()),
      finding("row_norm", "features.orthogonal", true, Verdict::holds, 1e-7, 1.25),
      finding("row_norm centered", "rows.orthogonal", false, Verdict::broken, 1, 9e6)};
  report.controls = {{.name = "adamw rotated", .precision = "fp32", .must_hold = false, .cell = {}, .as_it_must = true}};
  return report;
}

AuditReport models_report() {
  AuditReport report;
  report.program = "equisweep test";
  ModelFinding holds;
  holds.architecture = "qwen3";
  holds.subject = "muon";
  holds.action = "residual";
  holds.claimed = true;
  holds.cell.verdict = Verdict::holds;
  holds.cell.ratio = 1.5;
  holds.cell.elements = 4;
  ModelFinding control = holds;
  control.subject = "adamw";
  control.claimed = false;
  control.must_fail = true;
  control.error = 0.53;
  control.cell.verdict = Verdict::broken;
  report.models.findings = {control, holds};
  report.models.breaks = {
      {.architecture = "qwen3", .action = "head_shift", .condition = "softcap", .change = 0.02, .as_it_must = true}};
  return report;
}

std::vector<Table> tables_of(const Content& content) {
  std::vector<Table> tables;
  for (const Block& block : content)
    if (const auto* table = std::get_if<Table>(&block)) tables.push_back(*table);
  return tables;
}

TEST_F(ReportAudits, ShowTheNewestMatricesOfRulesAndOfModels) {
  const auto path = sweep();
  write_database(rules_report(0.25), path);
  write_database(models_report(), path);
  write_database(rules_report(0.5), path);  // the newest of rules; that of models stays the one before
  const Content content = content_of(equivariance_section, path);
  const auto tables = tables_of(content);
  ASSERT_EQ(tables.size(), 3U);
  EXPECT_NE(std::get<Paragraph>(content[0]).text.find("during training"), std::string::npos) << "none were recorded";
  EXPECT_NE(std::get<Paragraph>(content[1]).text.find("2 of 3 claims hold and 1 of 1 controls"), std::string::npos)
      << std::get<Paragraph>(content[1]).text;
  EXPECT_NE(std::get<Paragraph>(content[1]).text.find("18446744073709551615"), std::string::npos);

  const Table& rules = tables[0];
  EXPECT_EQ(rules.id, "audit-rules-fp32");
  ASSERT_EQ(rules.rows.size(), 2U) << "default options alone";
  ASSERT_EQ(rules.columns.size(), 4U) << "columns without a cell are left out";
  EXPECT_EQ(shown_at(rules, 0, "rows.permutation"), "=");
  EXPECT_EQ(shown_at(rules, 0, "rows.orthogonal"), "x0.52");
  EXPECT_EQ(std::get<std::string>(value_at(rules, 0, "rows.permutation").value), "exact");
  EXPECT_FALSE(value_at(rules, 0, "rows.orthogonal").strong);
  EXPECT_EQ(shown_at(rules, 1, "rows.permutation"), ".");
  EXPECT_EQ(shown_at(rules, 1, "rows.orthogonal"), "BROKEN 0.5");
  EXPECT_TRUE(value_at(rules, 1, "rows.orthogonal").strong);
  EXPECT_EQ(shown_at(rules, 1, "features.orthogonal"), "1.2");

  EXPECT_EQ(tables[1].id, "audit-qwen3");
  EXPECT_EQ(shown_at(tables[1], 0, "rule"), "adamw");
  EXPECT_EQ(shown_at(tables[1], 0, "residual"), "X0.53");
  EXPECT_EQ(shown_at(tables[1], 1, "residual"), "1.5");
  EXPECT_EQ(number_at(tables[2], 0, "relative_change"), 0.02);
  EXPECT_EQ(shown_at(tables[2], 0, "as_it_must"), "yes");
}

TEST_F(ReportAudits, AreReadAsTheyWereWritten) {
  const auto path = sweep();
  const AuditReport rules = rules_report(0.25), models = models_report();
  write_database(rules, path);
  const StoredAudits before = read_newest_audits(*open_read_only(path));
  EXPECT_TRUE(before.rules && !before.models);
  write_database(models, path);
  const StoredAudits stored = read_newest_audits(*open_read_only(path));
  ASSERT_TRUE(stored.rules && stored.models);
  EXPECT_EQ(stored.rules->seed, rules.seed);
  ASSERT_EQ(stored.rules->findings.size(), rules.findings.size());
  std::size_t found = 0;
  for (const Finding& f : rules.findings)
    for (const Finding& g : stored.rules->findings)
      found += f.subject == g.subject && f.column == g.column && f.claimed == g.claimed &&
                       f.cell.verdict == g.cell.verdict && f.cell.error == g.cell.error && f.cell.ratio == g.cell.ratio
                   ? 1
                   : 0;
  EXPECT_EQ(found, rules.findings.size());
  EXPECT_EQ(stored.rules->passed(), rules.passed());
  EXPECT_EQ(stored.models->models.findings.size(), 2U);
  EXPECT_EQ(stored.models->passed(), models.passed());
}

/// A claim that fails although rounding decides its samples: its rule computes in fp32 and may not leave everything to it.
AuditReport undecided_report() {
  AuditReport report = rules_report(0);
  report.findings = {finding("hybrid", "rows.orthogonal", true, Verdict::undecided, 0.9, 2),
                     finding("muon", "rows.orthogonal", true, Verdict::undecided, 0.9, 2)};
  report.findings[0].must_decide = true;  // muon's products are in bf16
  for (Finding& f : report.findings) f.cell.decided = 0;
  return report;
}

TEST_F(ReportAudits, AClaimThatFailedUndecidedFailsInTheReport) {
  const auto path = sweep();
  const AuditReport report = undecided_report();
  ASSERT_FALSE(report.passed());
  write_database(report, path);
  const StoredAudits stored = read_newest_audits(*open_read_only(path));
  ASSERT_TRUE(stored.rules);
  EXPECT_FALSE(stored.rules->passed());
  const Content content = content_of(equivariance_section, path);
  EXPECT_NE(std::get<Paragraph>(content[1]).text.find("1 of 2 claims hold"), std::string::npos)
      << std::get<Paragraph>(content[1]).text;
  const Table rules = tables_of(content).at(0);
  EXPECT_EQ(shown_at(rules, 0, "rows.orthogonal"), "UNDECIDED");
  EXPECT_TRUE(value_at(rules, 0, "rows.orthogonal").strong);
  EXPECT_EQ(shown_at(rules, 1, "rows.orthogonal"), "?");
}

/// The file as it was before a cell said whether it failed: the columns are gone.
void make_older(const std::filesystem::path& path) {
  SQLite::Database db(path.string(), SQLite::OPEN_READWRITE);
  db.exec("ALTER TABLE audit_cells DROP COLUMN failed");
  db.exec("ALTER TABLE audit_models DROP COLUMN elements");
}

TEST_F(ReportAudits, AnOlderAuditIsReadAndAddedTo) {
  const auto path = sweep();
  write_database(undecided_report(), path);
  make_older(path);
  // It did not pass, and nothing says in which cell: each that may have failed counts.
  EXPECT_FALSE(read_newest_audits(*open_read_only(path)).rules->passed());
  EXPECT_TRUE(read_newest_audits(*open_read_only(path)).rules->findings[1].failed());
  SQLite::Database(path.string(), SQLite::OPEN_READWRITE).exec("UPDATE audits SET passed = 1");
  EXPECT_TRUE(read_newest_audits(*open_read_only(path)).rules->passed());

  write_database(models_report(), path);
  write_database(undecided_report(), path);
  const StoredAudits stored = read_newest_audits(*open_read_only(path));
  ASSERT_TRUE(stored.rules && stored.models);
  EXPECT_TRUE(stored.rules->findings[0].failed());
  EXPECT_FALSE(stored.rules->findings[1].failed());
  EXPECT_EQ(stored.models->models.findings[0].cell.elements, 4);
}

// A stored cell is not judged again: another version of the program may have other thresholds.
TEST_F(ReportAudits, ModelCellsFailAsTheyDidWhenTheyWereJudged) {
  const auto path = sweep();
  write_database(models_report(), path);
  SQLite::Database(path.string(), SQLite::OPEN_READWRITE).exec("UPDATE audit_models SET failed = 1 WHERE must_fail");
  const StoredAudits stored = read_newest_audits(*open_read_only(path));
  ASSERT_TRUE(stored.models);
  EXPECT_FALSE(stored.models->passed());
  std::int64_t failed = 0;
  for (const ModelFinding& f : stored.models->models.findings) failed += f.failed() ? 1 : 0;
  EXPECT_EQ(failed, 1);
}

}  // namespace test_report_audits
}  // namespace equisweep
