// The sections on equivariance and routing against rows written by hand.
#include "analysis/report/figure.h"
#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_diagnostics {

using testing::FixtureSweep;

class ReportDiagnostics : public SweepFolder {};

FixtureSweep two_runs() {
  FixtureSweep sweep;
  sweep.runs = {{.stack = "base", .baseline = true, .evals = {{0, 6}, {100, 4}}},
                {.stack = "new", .evals = {{0, 6}, {100, 3}}}};
  return sweep;
}

const Figure* figure_of(const Content& content, const std::string& id) {
  for (const Block& block : content) {
    const auto* figure = std::get_if<Figure>(&block);
    if (figure != nullptr && figure->id == id) return figure;
  }
  return nullptr;
}

TEST_F(ReportDiagnostics, EquivarianceShowsTheWorstVerdictTheMedianErrorAndWhatWasClaimed) {
  const auto path = database(
      two_runs(),
      "INSERT INTO blocks VALUES (1, 0, 'e', 'embedding', -1, '[]', 'default', 'adamw'), (2, 0, 'e', 'embedding', -1, '[]', "
      "'default', 'row_norm');"
      "INSERT INTO equivariance (run, attempt, step, block, \"group\", claimed, verdict, error, floor, ratio, "
      "horizontality) "
      "VALUES (1, 1, 50, 0, 'rows.orthogonal', 0, 'broken', 0.5, 1e-3, 500, 0.25), (2, 1, 50, 0, 'rows.permutation', 1, "
      "'exact', "
      "0, 1e-7, 0, 0), (2, 1, 60, 0, 'rows.permutation', 1, 'holds', 2e-7, 1e-7, 2, 0.125), (2, 1, 70, 0, "
      "'rows.permutation', 1, "
      "'exact', 1e-7, 1e-7, 1, 0);"
      // An attempt that came to nothing after step 40: what it says of step 55 does not count.
      "INSERT INTO attempts (run, attempt, resume_step, state, started_at) VALUES (2, 2, 0, 'done', '');"
      "UPDATE equivariance SET attempt = 2 WHERE run = 2; UPDATE evals SET attempt = 2 WHERE run = 2;"
      "INSERT INTO equivariance (run, attempt, step, block, \"group\", claimed, verdict, error, floor, ratio) VALUES (2, 1, "
      "55, 0, "
      "'rows.permutation', 1, 'broken', 1, 1, 1e9)");
  const Content content = content_of(equivariance_section, path);
  const Table table = table_of(content);
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(shown_at(table, 0, "stack"), "base (baseline)");
  EXPECT_EQ(shown_at(table, 0, "worst_verdict"), "broken");
  EXPECT_EQ(shown_at(table, 0, "claimed"), "no");
  EXPECT_FALSE(value_at(table, 0, "worst_verdict").strong) << "nothing was claimed";
  EXPECT_EQ(number_at(table, 0, "worst_ratio"), 500);
  EXPECT_EQ(number_at(table, 0, "worst_horizontality"), 0.25);
  EXPECT_EQ(shown_at(table, 1, "worst_verdict"), "holds");
  EXPECT_EQ(number_at(table, 1, "median_relative_error"), 1e-7);
  EXPECT_EQ(number_at(table, 1, "worst_ratio"), 2);
  EXPECT_EQ(number_at(table, 1, "audits"), 3);
  EXPECT_EQ(number_at(table, 1, "mean_val_loss_nats"), 3);
  const Figure* figure = figure_of(content, "equivariance-m");
  ASSERT_NE(figure, nullptr);
  EXPECT_EQ(figure->data.size, 4U);
}

TEST_F(ReportDiagnostics, MediansAreOfWhatWasMeasuredAndOfTwoInTheMiddleTheMean) {
  const auto path = database(
      two_runs(),
      "INSERT INTO blocks VALUES (1, 0, 'e', 'mlp_up', 0, '[]', 'default', 'adamw');"
      "INSERT INTO equivariance (run, attempt, step, block, \"group\", claimed, verdict, error, floor, ratio) VALUES "
      "(1, 1, 10, 0, 'rows.orthogonal', 1, 'holds', 0.5, NULL, 1), (1, 1, 20, 0, 'rows.orthogonal', 1, 'holds', 0.125, 4, "
      "1), "
      "(1, 1, 30, 0, 'rows.orthogonal', 1, 'holds', 0.25, 2, 1), (1, 1, 40, 0, 'rows.orthogonal', 1, 'holds', 8, NULL, 1);"
      "INSERT INTO block_stats VALUES (1, 1, 10, 0, 1, 8, 0.01, 0.5, 0.1, 0.003, 0), (1, 1, 20, 0, 1, 8, 0.01, 0.25, 0.1, "
      "0.003, 0), (1, 1, 30, 0, 1, 8, 0.01, NULL, 0.1, 0.003, 8)");
  const Table audits = table_of(content_of(equivariance_section, path));
  EXPECT_EQ(number_at(audits, 0, "median_relative_error"), 0.375);
  EXPECT_EQ(number_at(audits, 0, "median_floor"), 3);
  EXPECT_EQ(number_at(table_of(content_of(spectra_section, path)), 0, "median_update_to_weight"), 0.375);
}

// Two layers: load CV 0.2 and 0.4 at step 10 (mean 0.3), 0.1 and 0.3 at step 100, the only one of the last quarter.
TEST_F(ReportDiagnostics, RoutingIsTheMeanOfTheLastQuarterAndTilesAreSharesOfTokens) {
  const auto path = database(
      two_runs(),
      "INSERT INTO router_stats (run, attempt, step, layer, load_cv, load_entropy, dead_fraction, z_loss, balance_loss, "
      "logit_norm) VALUES (2, 1, 10, 0, 0.2, 0.9, 0, 5, 1, 2), (2, 1, 10, 1, 0.4, 0.9, 0, 5, 1, 2), (2, 1, 100, 0, 0.1, "
      "0.8, "
      "0.25, 6, 1, 4), (2, 1, 100, 1, 0.3, 0.8, 0.25, 6, 1, 6);"
      "INSERT INTO expert_load VALUES (2, 1, 10, 0, 0, 999), (2, 1, 100, 0, 0, 30), (2, 1, 100, 0, 1, 10), (2, 1, 100, 1, "
      "0, 0), (2, "
      "1, 100, 1, 1, 40)");
  const Content content = content_of(routing_section, path);
  const Table table = table_of(content);
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_EQ(shown_at(table, 0, "stack"), "new");
  EXPECT_NEAR(number_at(table, 0, "load_cv"), 0.2, 1e-12);
  EXPECT_NEAR(number_at(table, 0, "dead_fraction"), 0.25, 1e-12);
  EXPECT_NEAR(number_at(table, 0, "logit_norm_growth"), 2.5, 1e-12);
  const Figure* map = figure_of(content, "experts-m");
  ASSERT_NE(map, nullptr);
  ASSERT_EQ(map->plots.size(), 1U);
  std::vector<double> loads;  // layer 0: 3/4 and 1/4 of two experts, layer 1: none and all
  for (const Series::Point& p : map->plots[0].series.at(0).points) loads.push_back(p.high);
  EXPECT_EQ(loads, (std::vector<double>{1.5, 0.5, 0, 2}));
  EXPECT_NE(gnuplot_script(*map, std::nullopt, ".").find("with boxxyerror"), std::string::npos);
  // gnuplot takes it, and it stands in the page.
  write_report(path, folder_ / "report", {.formats = {ReportFormat::html}});
  EXPECT_TRUE(std::filesystem::exists(folder_ / "report/figures/experts-m.svg"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "report/report.md"));
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "report/tables"));
}

TEST_F(ReportDiagnostics, SayInOneLineThatNothingWasRecorded) {
  const auto path = database(two_runs());
  for (const auto section : {equivariance_section, routing_section}) {
    const Content content = content_of(section, path);
    ASSERT_EQ(content.size(), 1U);
    EXPECT_NE(std::get<Paragraph>(content[0]).text.find("recorded"), std::string::npos);
  }
}

}  // namespace test_report_diagnostics
}  // namespace equisweep
