// Cost, time to target, component ablation and failures against numbers worked out by hand.
#include <array>
#include <cmath>
#include <fstream>

#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_sections {

namespace fs = std::filesystem;
using testing::FixtureRun;
using testing::FixtureSweep;

class ReportSections : public SweepFolder {};

FixtureRun run(const std::string& stack, std::int64_t seed, double middle, double last) {
  return {.stack = stack,
          .baseline = stack == "base",
          .seed = seed,
          .evals = {{0, 6}, {100, middle}, {200, last}},
          .step_seconds = stack == "base" ? 0.01 : 0.02};
}

// Targets 4.0, 4.2, 4.4. fast: at step 100, at 100 + 100 * 0.8 / 1.6, and never, for it diverged although it had been lower.
// slow: only with seed 2.
TEST_F(ReportSections, TimeToTargetIsPairedBySeedAndAMissIsInfinite) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 0, 5, 4.0), run("base", 1, 5, 4.2), run("base", 2, 5, 4.4),
                run("fast", 0, 4, 3.5), run("fast", 1, 5, 3.4), run("fast", 2, 3, 2.0),
                run("slow", 0, 5, 4.1), run("slow", 1, 5, 4.3), run("slow", 2, 5, 4.4)};
  sweep.runs[5].state = "diverged";
  const Table table = table_of(content_of(time_to_target_section, database(sweep)));
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(shown_at(table, 0, "reached"), "2 of 3");
  EXPECT_NEAR(number_at(table, 0, "steps"), 150, 1e-9);
  EXPECT_NEAR(number_at(table, 0, "tokens"), 15000, 1e-6);
  EXPECT_NEAR(number_at(table, 0, "seconds"), 3, 1e-9);
  EXPECT_NEAR(number_at(table, 0, "steps_ratio"), 200.0 / 150, 1e-9);
  EXPECT_NEAR(number_at(table, 0, "seconds_ratio"), 2.0 / 3, 1e-9);
  EXPECT_EQ(shown_at(table, 1, "reached"), "1 of 3");
  EXPECT_EQ(shown_at(table, 1, "steps"), "∞");
  EXPECT_EQ(shown_at(table, 1, "steps_ratio"), "never");
}

// Targets 4.0. half: at step 150 and 100, and twice never. most: at 150, 100 and 200, and once never, that is 0.5, 0.75, 1
// and infinitely many times the baseline's 200 steps.
TEST_F(ReportSections, TimeToTargetOfAnEvenNumberOfSeedsDoesNotAverageAMissWithAHit) {
  for (const int seeds : {2, 4}) {
    SCOPED_TRACE(seeds);
    FixtureSweep sweep;
    for (int seed = 0; seed < seeds; ++seed) {
      const bool first = seed % (seeds / 2) == 0;
      sweep.runs.push_back(run("base", seed, 5, 4.0));
      sweep.runs.push_back(run("half", seed, first ? 5 : 4, seed < seeds / 2 ? 3.0 : 4.5));
      if (seed >= seeds / 2) sweep.runs.back().evals[1].second = 5;
      if (seeds == 4) sweep.runs.push_back(run("most", seed, seed == 1 ? 4 : 5, std::array{3.0, 3.0, 4.0, 4.5}[seed]));
    }
    const Table table = table_of(content_of(time_to_target_section, database(sweep)));
    EXPECT_EQ(shown_at(table, 0, "reached"), seeds == 2 ? "1 of 2" : "2 of 4");
    EXPECT_EQ(shown_at(table, 0, "steps"), "∞");
    for (const char* ratio : {"steps_ratio", "tokens_ratio", "seconds_ratio"}) {
      EXPECT_EQ(shown_at(table, 0, ratio), "never") << ratio;
      EXPECT_EQ(number_at(table, 0, ratio), 0) << ratio;
    }
    if (seeds == 2) continue;
    EXPECT_EQ(shown_at(table, 1, "reached"), "3 of 4");
    EXPECT_NEAR(number_at(table, 1, "steps"), 175, 1e-9);
    EXPECT_NEAR(number_at(table, 1, "steps_ratio"), 200.0 / 175, 1e-9);
    EXPECT_NEAR(number_at(table, 1, "seconds_ratio"), 100.0 / 175, 1e-9);
  }
}

// Run 1 (base): 2 steps of 0.2 s in its first attempt, the second done again by its second one: 0.2 and 0.4. Run 2: 0.6.
TEST_F(ReportSections, CostIsTheMeanOverStepsThatCount) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 0, 5, 4), run("new", 0, 5, 4)};
  const fs::path path = database(sweep,
                                 "UPDATE attempts SET peak_rss_bytes = 3145728, state_bytes = 1510912;"
                                 "INSERT INTO attempts (run, attempt, resume_step, state, started_at, device, threads, "
                                 "peak_rss_bytes) VALUES (1, 2, 1, 'done', '', 'cpu', 2, 4194304);"
                                 "INSERT INTO steps (run, attempt, step, tokens, seconds, step_seconds, optimizer_seconds, "
                                 "diagnostics_seconds) VALUES (1, 1, 1, 100, 0, 0.2, 0.05, 0), (1, 1, 2, 200, 0, 9, 9, 9), "
                                 "(1, 2, 2, 200, 0, 0.4, 0.10, 0.06), (2, 1, 1, 100, 0, 0.6, 0.3, 0)");
  const Table table = table_of(content_of(cost_section, path));
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_NEAR(number_at(table, 0, "step_ms"), 300, 1e-9);
  EXPECT_NEAR(number_at(table, 0, "optimizer_share"), 0.25, 1e-12);
  EXPECT_NEAR(number_at(table, 0, "diagnostics_share"), 0.1, 1e-12);
  EXPECT_NEAR(number_at(table, 0, "tokens_per_second"), 200 / 0.6, 1e-9);
  EXPECT_EQ(shown_at(table, 0, "peak_rss_bytes"), "4.0 MiB");
  EXPECT_NEAR(number_at(table, 0, "state_bytes_per_parameter"), 8, 1e-12);
  EXPECT_NEAR(number_at(table, 1, "step_ratio"), 2, 1e-12);
  EXPECT_EQ(shown_at(table, 1, "step_ratio"), "2.00×");
}

const char* kStacks =
    "UPDATE runs SET config = json_set(config, '$.stack', json('{\"default\":{\"rule\":\"adamw\",\"lr\":0.003}}'));"
    "UPDATE runs SET config = json_set(config, '$.stack.embedding', json('{\"rule\":\"row_norm\",\"lr\":0.5}')) WHERE job "
    "IN "
    "(SELECT job FROM cells WHERE stack IN ('full', 'no-mlp'));"
    "UPDATE runs SET config = json_set(config, '$.stack.mlp', json('{\"rule\":\"hybrid\",\"order\":\"row\",\"lr\":0.02}')) "
    "WHERE job IN (SELECT job FROM cells WHERE stack = 'full');"
    "INSERT INTO blocks SELECT run, 0, 'e', 'embedding', -1, '[]', iif(stack = 'base', 'default', 'embedding'), '' FROM "
    "runs "
    "JOIN cells USING (job);"
    "INSERT INTO blocks SELECT run, 1, 'u', 'mlp_up', 0, '[]', iif(stack = 'full', 'mlp', 'default'), '' FROM runs JOIN "
    "cells "
    "USING (job);"
    "INSERT INTO blocks SELECT run, 2, 'd', 'mlp_down', 0, '[]', iif(stack = 'full', 'mlp', 'default'), '' FROM runs JOIN "
    "cells USING (job)";

FixtureSweep ablation() {
  FixtureSweep sweep;
  const double base[] = {4.0, 4.2, 4.4}, full[] = {3.5, 3.6, 3.7}, less[] = {3.6, 3.8, 3.75};
  for (const int seed : {0, 1, 2}) {
    sweep.runs.push_back(run("base", seed, 5, base[seed]));
    sweep.runs.push_back(run("full", seed, 5, full[seed]));
    sweep.runs.push_back(run("no-mlp", seed, 5, less[seed]));
  }
  return sweep;
}

TEST_F(ReportSections, AblationFindsTheFullStackAndWhatEachOtherChanges) {
  const Table table = table_of(content_of(ablation_section, database(ablation(), kStacks)));
  ASSERT_EQ(table.rows.size(), 3U);
  EXPECT_EQ(shown_at(table, 0, "stack"), "full");
  EXPECT_EQ(shown_at(table, 1, "stack"), "no-mlp");
  EXPECT_EQ(number_at(table, 1, "components_changed"), 1);
  EXPECT_EQ(shown_at(table, 1, "changed_keys"), "mlp: rule hybrid → adamw, lr 0.02 → 0.003");
  EXPECT_NEAR(number_at(table, 1, "difference_nats"), 0.35 / 3, 1e-12);  // 0.1, 0.2, 0.05
  EXPECT_EQ(shown_at(table, 2, "stack"), "base (baseline)");
  EXPECT_EQ(number_at(table, 2, "components_changed"), 2);
  EXPECT_NEAR(number_at(table, 2, "difference_nats"), 1.8 / 3, 1e-12);  // 0.5, 0.6, 0.7: t = 0.6 sqrt(3) / 0.1, df 2
  const double t = 6 * std::sqrt(3.0);
  EXPECT_NEAR(number_at(table, 2, "p_holm"), 2 * (1 - t / std::sqrt(2 + t * t)), 1e-9) << "the smaller of two";
  EXPECT_EQ(shown_at(table, 2, "reading"), "worse than the full stack");
  EXPECT_EQ(shown_at(table, 1, "reading"), "not distinguishable");
}

TEST_F(ReportSections, AblationTakesAnotherLearningRateForTuning) {
  const fs::path path = database(
      ablation(), std::string(kStacks) +
                      ";UPDATE runs SET config = json_set(config, '$.stack.mlp', json('{\"rule\":\"hybrid\","
                      "\"order\":\"row\",\"lr\":0.08}')) WHERE job IN (SELECT job FROM cells WHERE stack = 'no-mlp');"
                      "UPDATE blocks SET entry = 'mlp' WHERE role LIKE 'mlp%' AND run IN (SELECT run FROM runs JOIN "
                      "cells USING (job) WHERE stack = 'no-mlp');"
                      "UPDATE cells SET lr_scale = 2 WHERE stack = 'no-mlp'");
  const Table table = table_of(content_of(ablation_section, path));
  // Both update alike; of equals the last is the full stack. Its rates are halved by lr_scale before they are compared.
  EXPECT_EQ(shown_at(table, 0, "stack"), "no-mlp");
  EXPECT_EQ(shown_at(table, 1, "stack"), "full");
  EXPECT_EQ(number_at(table, 1, "components_changed"), 0);
  EXPECT_EQ(shown_at(table, 1, "changed_keys"), "embedding: lr 0.25 → 0.5; mlp: lr 0.04 → 0.02");
}

TEST_F(ReportSections, AStackThatIsPendingHasNeitherDivergedNorMissed) {
  FixtureSweep sweep = ablation();
  for (FixtureRun& r : sweep.runs)
    if (r.stack == "full") r.state = "queued";
  const fs::path path = database(sweep, kStacks);
  const auto is_empty = [](const Table& table, std::size_t row, const char* column) {
    const Value& value = value_at(table, row, column);
    return value.shown == "–" && std::holds_alternative<std::monostate>(value.value);
  };
  const Table parts = table_of(content_of(ablation_section, path));
  ASSERT_EQ(parts.rows.size(), 3U);
  EXPECT_EQ(shown_at(parts, 0, "stack"), "no-mlp") << "what others are compared with has losses";
  EXPECT_EQ(shown_at(parts, 2, "stack"), "full");
  EXPECT_EQ(shown_at(parts, 2, "reading"), "no claim: no run has ended yet");
  for (const char* column : {"difference_nats", "half_width_nats", "p_holm"})
    EXPECT_TRUE(is_empty(parts, 2, column)) << column;
  const Table verdict = table_of(content_of(verdict_section, path));
  ASSERT_EQ(shown_at(verdict, 0, "stack"), "full");
  for (const char* column : {"speedup_steps", "speedup_tokens", "speedup_seconds"}) {
    EXPECT_TRUE(is_empty(verdict, 0, column)) << column;
    EXPECT_GT(number_at(verdict, 1, column), 0) << column;
  }
}

TEST_F(ReportSections, EachRunHasTheCommandThatTrainsItAgain) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 0, 5, 4), run("base", 1, 5, 4), run("new", 0, 5, 4)};
  sweep.runs[1].state = "oom";
  sweep.runs[2].state = "queued";
  const fs::path path = database(sweep);
  const auto command = [&](std::size_t row) {
    return value_at(table_of(content_of(all_runs_section, path)), row, "command").value;
  };
  EXPECT_EQ(std::get<std::string>(command(0)), "equisweep rerun 00000000e9150001 --verify");
  EXPECT_EQ(std::get<std::string>(command(1)), "equisweep rerun 00000000e9150002 --verify");
  EXPECT_EQ(std::get<std::string>(command(2)), "") << "there is nothing to compare with yet";
  testing::change_sweep(
      path,
      "PRAGMA foreign_keys = OFF; UPDATE cells SET job = replace(job, '00000000', '0; touch'); UPDATE runs "
      "SET job = replace(job, '00000000', '0; touch')");
  EXPECT_EQ(std::get<std::string>(command(0)), "");
  for (const Block& block : content_of(failures_section, path)) {
    const auto* paragraph = std::get_if<Paragraph>(&block);
    EXPECT_TRUE(paragraph == nullptr || paragraph->text.find("touch") == std::string::npos) << paragraph->text;
  }
}

TEST_F(ReportSections, FailuresSayWhereTheyEndedAndHowToSeeThemAgain) {
  FixtureSweep sweep;
  sweep.runs = {run("base", 0, 5, 4), run("base", 1, 5, 4), run("new", 0, 5, 4), run("new", 1, 5, 4)};
  sweep.runs[1].state = "diverged", sweep.runs[1].message = "loss is nan at step 117";
  sweep.runs[2].state = "oom";
  sweep.runs[3].state = "queued";
  const fs::path path = database(sweep,
                                 "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, nonfinite) VALUES (2, 1, "
                                 "116, 1, 1, 5.25, 0), (2, 1, 117, 1, 1, NULL, 2)");
  const std::string diverged = "00000000e9150002", oom = "00000000e9150003";
  fs::create_directories(folder_ / "runs" / oom);
  fs::create_directories(folder_ / "runs" / diverged);
  std::ofstream(folder_ / "secret") << "not for a report";
  fs::create_symlink(folder_ / "secret", folder_ / "runs" / diverged / "log.txt");
  std::ofstream log(folder_ / "runs" / oom / "log.txt");
  for (int line = 1; line <= 40; ++line) log << "line " << line << "\n";
  log << "out of memory \x1b[31m" << std::flush;

  const Content content = content_of(failures_section, path);
  EXPECT_EQ(std::get<Paragraph>(content.front()).text, "2 of 4 runs did not end with a finite loss: 1 diverged, 1 oom.");
  const Table table = table_of(content);
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(number_at(table, 0, "last_step"), 117);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(value_at(table, 0, "last_batch_loss_nats").value));
  EXPECT_EQ(shown_at(table, 0, "message"), "loss is nan at step 117");
  std::string code;
  for (const Block& block : content) {
    const auto* paragraph = std::get_if<Paragraph>(&block);
    if (paragraph != nullptr && paragraph->style == TextStyle::code) code += paragraph->text + "\n";
  }
  EXPECT_EQ(code.find("equisweep exec runs/" + oom + " --verbose"), 0U) << "a failure comes before a divergence";
  EXPECT_NE(code.find("line 30\n"), std::string::npos);
  EXPECT_EQ(code.find("line 29\n"), std::string::npos) << "the last twelve lines";
  EXPECT_EQ(code.find("secret"), std::string::npos);
  EXPECT_EQ(code.find("not for a report"), std::string::npos);
}

TEST_F(ReportSections, SayInOneLineThatTheyHaveNothing) {
  const fs::path path = database({});
  for (const auto section : {cost_section, time_to_target_section, ablation_section, failures_section}) {
    const Content content = content_of(section, path);
    ASSERT_EQ(content.size(), 1U);
    EXPECT_TRUE(std::holds_alternative<Paragraph>(content.front()));
  }
}

}  // namespace test_report_sections
}  // namespace equisweep
