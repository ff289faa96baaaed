// Which rows of a run count: ranges of attempts against the views of the schema, on attempts that resumed anywhere.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <cmath>
#include <random>

#include "analysis/report/attempts.h"
#include "core/database.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_live {

using testing::FixtureRun;
using testing::FixtureSweep;

constexpr int kRuns = 60, kLast = 12;

// Every run has up to five attempts that resumed after any step, also before the one of an older attempt; each has a value
// of its own at every step, and evaluations after some of them.
std::string random_attempts() {
  std::minstd_rand random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::string sql = "DELETE FROM attempts; DELETE FROM evals;";
  for (int run = 1; run <= kRuns; ++run) {
    const int attempts = 1 + below(5);
    for (int attempt = 1; attempt <= attempts; ++attempt) {
      const int resumed = attempt == 1 ? 0 : below(kLast), end = resumed + below(kLast - resumed + 1);
      sql +=
          fmt::format("INSERT INTO attempts (run, attempt, resume_step, state, started_at) VALUES ({}, {}, {}, 'done', '');",
                      run, attempt, resumed);
      for (int step = resumed; step <= end; ++step) {
        const int value = 1000 * run + 100 * attempt + step;
        if (step > resumed)
          sql += fmt::format(
              "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, step_seconds, optimizer_seconds, "
              "diagnostics_seconds) VALUES ({0}, {1}, {2}, 1, 1, {3}, {3}, {4}, 1);",
              run, attempt, step, value, below(2));
        if (below(3) > 0)
          sql += fmt::format(
              "INSERT INTO evals (run, attempt, step, tokens, seconds, loss, eval_tokens) VALUES ({}, {}, {}, 1, 1, {}, 1);",
              run, attempt, step, value);
      }
    }
  }
  return sql;
}

std::vector<double> column_of(SQLite::Database& db, const std::string& sql, std::int64_t run) {
  std::vector<double> values;
  SQLite::Statement query(db, sql);
  query.bind(1, run);
  while (query.executeStep()) values.push_back(query.getColumn(0).getDouble());
  return values;
}

class ReportLive : public SweepFolder {};

TEST_F(ReportLive, RangesOfAttemptsHoldWhatTheViewsHold) {
  FixtureSweep sweep;
  for (int seed = 0; seed < kRuns; ++seed) sweep.runs.push_back({.baseline = true, .seed = seed, .evals = {}});
  const ReportData data(database(sweep, random_attempts()));
  std::size_t several = 0, tied = 0;
  for (const auto& run : data.runs) {
    SCOPED_TRACE(run->run);
    SQLite::Database& db = data.db(*run);
    several += run->live.size() > 1 ? 1 : 0;

    std::vector<double> losses;
    data.visit(*run, std::string("SELECT loss FROM steps") + kLiveRows,
               [&](SQLite::Statement& row) { losses.push_back(row.getColumn(0).getDouble()); });
    EXPECT_EQ(losses, column_of(db, "SELECT loss FROM loss_curve WHERE run = ? ORDER BY step", run->run));

    std::vector<double> evals;
    for (const EvalRow& row : data.evals(*run)) evals.push_back(row.loss);
    EXPECT_EQ(evals, column_of(db, "SELECT loss FROM eval_curve WHERE run = ? ORDER BY step", run->run));
    tied +=
        column_of(db, "SELECT step FROM evals WHERE run = ? GROUP BY step HAVING count(*) > 1", run->run).empty() ? 0 : 1;
    ASSERT_EQ(run->first_eval.has_value(), !evals.empty());
    if (!evals.empty()) {
      EXPECT_EQ(run->first_eval->loss, evals.front());
      EXPECT_EQ(run->last_eval->loss, evals.back());
    }

    const StepSums sums = step_sums(data, *run);
    EXPECT_EQ(sums.steps, static_cast<std::int64_t>(losses.size()));
    EXPECT_EQ(sums.step_seconds, column_of(db, "SELECT total(step_seconds) FROM loss_curve WHERE run = ?", run->run).at(0));
    const auto last = last_step(data, *run);
    ASSERT_EQ(last.has_value(), !losses.empty());
    if (last) {
      EXPECT_EQ(last->loss, losses.back());
    }
    EXPECT_EQ(has_step_times(data, *run),
              column_of(db, "SELECT count(*) FROM loss_curve WHERE run = ? AND optimizer_seconds > 0", run->run).at(0) > 0);
  }
  EXPECT_GT(several, 10U);
  EXPECT_GT(tied, 10U) << "evaluations of one step by two attempts";
}

}  // namespace test_report_live
}  // namespace equisweep
