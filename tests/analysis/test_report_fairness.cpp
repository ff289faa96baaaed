// The fairness checklist: a fair sweep passes every line, and each way to be unfair is found by its own line.
#include <gmock/gmock.h>

#include "analysis/report/fairness.h"
#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_fairness {

using testing::FixtureRun;
using testing::FixtureSweep;

const char* kSound =
    "UPDATE attempts SET environment = '{\"commit\":\"abc\",\"modified\":false,\"cpu\":\"made up\"}';"
    "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, step_seconds, optimizer_seconds, diagnostics_seconds) "
    "SELECT run, 1, 1, 100, 0.1, 5.0, 0.1, 0.02, 0 FROM runs;";

FixtureRun run(const char* phase, const std::string& stack, double lr_scale, std::int64_t seed, double loss) {
  return {.stack = stack,
          .baseline = stack == "base",
          .lr_scale = lr_scale,
          .seed = seed,
          .evals = {{0, 6.0}, {100, 5.0}, {200, loss}},
          .phase = phase};
}

FixtureSweep fair_sweep() {
  FixtureSweep sweep;
  for (const std::string stack : {"base", "new"}) {
    for (const double scale : {0.5, 1.0, 2.0}) sweep.runs.push_back(run("tune", stack, scale, 0, scale == 1 ? 4.0 : 4.5));
    for (const std::int64_t seed : {10, 11, 12})
      sweep.runs.push_back(run("confirm", stack, 1, seed, 4.0 + 0.01 * static_cast<double>(seed)));
  }
  return sweep;
}

class Fairness : public SweepFolder {
 protected:
  std::vector<Check> checks(const std::string& sql) { return fairness(ReportData(database(fair_sweep(), kSound + sql))); }
};

TEST_F(Fairness, AFairSweepPassesEveryLineAndHasNoObjection) {
  for (const Check& check : checks("")) EXPECT_EQ(check.grade, Grade::pass) << check.question << ": " << check.found;
  EXPECT_TRUE(report_objections(folder_ / "sweep.db").empty());
}

struct Unfair {
  const char *sql, *question;
  Grade grade;
  const char* found;  // part of the answer
};

const std::string kNew = "(SELECT job FROM cells WHERE stack = 'new')";

const std::vector<Unfair>& unfair() {
  static const std::vector<Unfair> table = {
      {"UPDATE cells SET baseline = 0", "A tuned baseline", Grade::fail, "no stack is marked"},
      {"UPDATE runs SET state = 'running' WHERE run = 12", "All runs have a result", Grade::fail, "1 of 12 runs"},
      {"UPDATE runs SET state = 'oom' WHERE run = 8", "All runs have a result", Grade::fail,
       "new on m at lr_scale 1: 1 of 1 run without a result, where it might have been best; 1 run oom"},
      {"INSERT INTO events VALUES (7, 1, 1, '', 0, 'fault', '')", "No injected faults", Grade::fail,
       "job 00000000e9150007 was made to fail"},
      {"DELETE FROM cells WHERE stack = 'new' AND phase = 'confirm'", "All runs have a result", Grade::fail,
       "new on m was not confirmed"},
      {"DELETE FROM cells WHERE cell = 1", "Equal trials for each stack", Grade::fail, "new on m: 3 trials, the baseline 2"},
      {"DELETE FROM cells WHERE cell = 7", "Equal trials for each stack", Grade::warn, "new on m: 2 trials, the baseline 3"},
      {"DELETE FROM evals WHERE run IN (2, 3)", "Optimum inside the grid", Grade::fail,
       "base on m is best at the edge, lr_scale 0.5"},
      {"DELETE FROM evals WHERE run IN (8, 9)", "Optimum inside the grid", Grade::warn, "new on m is best at the edge"},
      {"DELETE FROM cells WHERE cell = 12", "At least 3 seeds", Grade::fail, "new on m: 2 seeds"},
      {"UPDATE cells SET seed = 0 WHERE cell = 12", "Fresh seeds", Grade::fail, "seed 0 chose a learning rate and supports"},
      {"UPDATE cells SET phase = ''", "Fresh seeds", Grade::fail, "also support the claims"},
      {"UPDATE runs SET config = json_set(config, '$.data.corpus', 'other') WHERE run = 12", "Same data in the same order",
       Grade::fail, "data.corpus \"kjv\" and \"other\""},
      {"UPDATE runs SET corpus = json_set(corpus, '$.digest', iif(run = 12, 'b', 'a'))", "Same data in the same order",
       Grade::fail, "different contents"},
      {"UPDATE runs SET config = json_set(config, '$.init_from', 'x') WHERE run = 12", "Same initial weights", Grade::fail,
       "seed 12 started from different weights"},
      {"UPDATE evals SET loss = 6.001 WHERE run = 12 AND step = 0", "Same initial weights", Grade::warn,
       "from 6.000000 to 6.001000"},
      {"UPDATE runs SET config = json_set(config, '$.data.batch_tokens', 200) WHERE run = 12", "Same batch", Grade::fail,
       "data.batch_tokens 100 and 200"},
      {"UPDATE runs SET config = json_set(config, '$.train.precision', 'bf16') WHERE run = 12", "Same precision",
       Grade::fail, "bf16"},
      {"UPDATE runs SET config = json_set(config, '$.train.steps', 400) WHERE run = 12", "Same horizon and schedule",
       Grade::fail, "train.steps 300 and 400"},
      {"UPDATE attempts SET device = 'cuda:0' WHERE run = 12", "Same hardware", Grade::warn, "cuda:0, 2 threads"},
      {"UPDATE attempts SET environment = '{\"commit\":\"def\"}' WHERE run = 12", "One commit", Grade::fail, "abc; def"},
      {"UPDATE attempts SET environment = '{\"commit\":\"abc\",\"modified\":true}' WHERE run = 12", "One commit",
       Grade::warn, "changed files"},
      {"UPDATE attempts SET environment = '[]'", "One commit", Grade::warn, "not every attempt says"},
      {"UPDATE runs SET state = 'diverged' WHERE run IN (10, 11)", "n, sd and interval everywhere", Grade::fail,
       "new on m has n = 1"},
      {"DELETE FROM steps", "Step overhead counted", Grade::warn, "no step times of base on m"},
      {"UPDATE runs SET state = 'diverged' WHERE run = 12", "Diverged runs counted", Grade::warn,
       "new on m lost 1 of 3 seeds"},
  };
  return table;
}

TEST_F(Fairness, EachWayToBeUnfairIsFoundByItsOwnLine) {
  std::set<std::string> tried;
  for (const Unfair& way : unfair()) {
    SCOPED_TRACE(way.sql);
    for (const Check& check : checks(way.sql)) {
      if (check.question != way.question) continue;
      tried.insert(check.question);
      EXPECT_EQ(check.grade, way.grade);
      EXPECT_THAT(check.found, ::testing::HasSubstr(way.found));
      EXPECT_EQ(!report_objections(folder_ / "sweep.db").empty(), check.grade == Grade::fail);
    }
  }
  EXPECT_EQ(tried.size(), checks("").size()) << "a line of the checklist that no row of this table tries";
}

TEST_F(Fairness, NamesFromUsersAndHugeValuesStayShortAndVisible) {
  const auto all = checks(
      "UPDATE runs SET config = json_set(config, '$.data.corpus', printf('%.*c', 100000, 'x') || char(27)) "
      "WHERE run = 12; UPDATE cells SET stack = char(27) || '[31m<script>' WHERE stack = 'new'; DELETE FROM "
      "cells WHERE cell = 12");
  for (const Check& check : all) {
    EXPECT_LT(check.found.size(), 2000U) << check.question;
    EXPECT_EQ(check.found.find('\x1b'), std::string::npos) << check.question;
  }
}

}  // namespace test_report_fairness
}  // namespace equisweep
