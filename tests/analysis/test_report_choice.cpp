// What a claim rests on: which point is chosen where runs have no result, along which rates it is best, and what is no
// replicate.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "analysis/report/fairness.h"
#include "analysis/report/trials.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_choice {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FixtureRun;
using testing::FixtureSweep;
using ::testing::HasSubstr;
using ::testing::Not;

FixtureRun run(const std::string& stack, double lr_scale, std::int64_t seed, double loss, const char* phase = "") {
  return {.stack = stack,
          .baseline = stack == "base",
          .lr_scale = lr_scale,
          .seed = seed,
          .evals = {{0, 6}, {100, 5}, {200, loss}},
          .phase = phase};
}

/// Seeds 0, 1, 2 around `loss`, further apart for stacks other than the baseline.
void add(FixtureSweep& sweep, const std::string& stack, double lr_scale, double loss, const std::string& axes = "{}") {
  for (const std::int64_t seed : {0, 1, 2}) {
    const double noise = (stack == "base" ? 0.010 : 0.013) * static_cast<double>(seed);
    sweep.runs.push_back(run(stack, lr_scale, seed, loss + noise));
    sweep.runs.back().axes = axes;
  }
}

/// base at 0.5, 1, 2 (runs 1 to 9) and new at the same (runs 10 to 18), both best at 1, without a choice left open.
FixtureSweep grid() {
  FixtureSweep sweep;
  for (const auto& [stack, best] : {std::pair("base", 3.8), std::pair("new", 3.95)})
    for (const double scale : {0.5, 1.0, 2.0}) add(sweep, stack, scale, scale == 1 ? best : 4.2 + scale / 10);
  return sweep;
}

/// base and new tuned on seed 0 at 0.5, 1, 2 (runs 1 to 3 and 7 to 9) and confirmed on 10, 11, 12 (4 to 6, 10 to 12).
FixtureSweep tuned() {
  FixtureSweep sweep;
  for (const std::string stack : {"base", "new"}) {
    for (const double scale : {0.5, 1.0, 2.0}) sweep.runs.push_back(run(stack, scale, 0, scale == 1 ? 4 : 4.5, "tune"));
    for (const std::int64_t seed : {10, 11, 12})
      sweep.runs.push_back(
          run(stack, 1, seed, (stack == "base" ? 4 : 3.9) + 0.01 * static_cast<double>(seed % 3), "confirm"));
  }
  return sweep;
}

class ReportChoice : public SweepFolder {
 protected:
  void load(const FixtureSweep& sweep, const std::string& sql = "") {
    const ReportData data(database(sweep, sql));
    const auto results = compare(data);
    text_ = verdict_text({data, results});
    checks_.clear();
    for (const Check& check : fairness(data)) checks_[check.question] = check;
    chosen_.clear();
    for (const Arm& arm : data.arms) chosen_.push_back(arm.chosen().lr_scale);
  }

  std::string text_;  // the verdict's
  std::map<std::string, Check> checks_;
  std::vector<double> chosen_;
};

TEST_F(ReportChoice, ARunOfTheBaselineThatEndedWithoutAResultLeavesItsChoiceOpen) {
  load(grid());
  EXPECT_THAT(chosen_, ElementsAre(1, 1));
  EXPECT_THAT(text_, HasSubstr("new ended 0.1530 nats per token higher"));
  for (const char* state : {"failed", "oom", "timeout", "lost", "cancelled"}) {
    load(grid(), fmt::format("UPDATE runs SET state = '{}' WHERE run = 6", state));
    EXPECT_THAT(chosen_, ElementsAre(0.5, 1)) << state;
    EXPECT_THAT(text_, HasSubstr("No claim about new: the baseline's learning rate is undecided: at lr_scale 1, 1 of 3 runs "
                                 "ended without a result (difference −0.2970 at n = 3)."));
    EXPECT_THAT(text_, HasSubstr("1 of 18 runs ended without a result"));
    EXPECT_THAT(text_, Not(HasSubstr("infinite losses")));
    EXPECT_EQ(checks_.at("All runs have a result").grade, Grade::fail);
    EXPECT_THAT(checks_.at("All runs have a result").found,
                HasSubstr("base on m at lr_scale 1: 1 of 3 runs without a result, where it might have been best"));
  }
}

// Run 18 is new at 2, far behind at the seeds that it has.
TEST_F(ReportChoice, WhereItCouldNotHaveWonItIsAWarning) {
  load(grid(), "UPDATE runs SET state = 'lost' WHERE run = 18");
  EXPECT_EQ(checks_.at("All runs have a result").grade, Grade::warn);
  EXPECT_THAT(checks_.at("All runs have a result").found, HasSubstr("1 run lost"));
  EXPECT_THAT(text_, HasSubstr("new ended 0.1530 nats per token higher"));
  load(grid(), "UPDATE runs SET state = 'lost' WHERE run = 9");
  EXPECT_EQ(checks_.at("All runs have a result").grade, Grade::fail) << "every run of the baseline counts";
  EXPECT_THAT(text_, HasSubstr("new ended 0.1530 nats per token higher"));
}

TEST_F(ReportChoice, APointWithADivergedSeedCouldNotHaveWon) {
  load(grid(), "UPDATE runs SET state = 'lost' WHERE run = 13; UPDATE runs SET state = 'diverged' WHERE run = 14");
  EXPECT_THAT(chosen_, ElementsAre(1, 0.5));
  EXPECT_EQ(checks_.at("All runs have a result").grade, Grade::warn);
  EXPECT_THAT(text_, HasSubstr("new ended "));
  EXPECT_THAT(text_, HasSubstr("1 of 18 runs diverged; they count as infinite losses."));
}

TEST_F(ReportChoice, WhereNoPointIsCompleteTheChosenOneSaysSo) {
  load(grid(), "UPDATE runs SET state = 'lost' WHERE run IN (10, 13, 16)");
  EXPECT_THAT(chosen_, ElementsAre(1, 1));
  EXPECT_THAT(text_, HasSubstr("No claim about new: at its chosen point 1 of 3 runs ended without a result"));
}

TEST_F(ReportChoice, WhereEachStackHasOnePointNoneWasChosen) {
  FixtureSweep single;
  add(single, "base", 1, 4);
  add(single, "new", 1, 3.8);
  const auto words = [&](const FixtureSweep& sweep) {
    const Table table = table_of(content_of(main_table_section, database(sweep)));
    const auto title = std::ranges::find(table.columns, "chosen_point", &Column::csv_name)->title;
    return fmt::format("{} {} {}", title, table.caption, table.notes.at(0));
  };
  EXPECT_THAT(words(single), AllOf(HasSubstr("each stack has run at one learning rate alone, so none was chosen."),
                                   Not(HasSubstr("lowest")), Not(HasSubstr("Chosen")), Not(HasSubstr("chosen point"))));
  EXPECT_THAT(words(grid()), AllOf(HasSubstr("at the learning rate with the lowest mean."), HasSubstr("Chosen"),
                                   Not(HasSubstr("one learning rate"))));
  add(single, "new", 2, 3.9);  // one stack with a choice is enough
  EXPECT_THAT(words(single), HasSubstr("at the learning rate with the lowest mean."));
  EXPECT_THAT(words(tuned()), HasSubstr("at the learning rate with the lowest mean."));
}

TEST_F(ReportChoice, APointOnFewerSeedsIsNotChosen) {
  FixtureSweep sweep = grid();
  sweep.runs.push_back(run("new", 8, 0, 3.0));
  load(sweep);
  EXPECT_THAT(chosen_, ElementsAre(1, 1));
  EXPECT_EQ(checks_.at("Equal trials for each stack").grade, Grade::warn);
  EXPECT_EQ(checks_.at("Equal trials for each stack").found,
            "new on m: 1 point on fewer seeds than the others, which no choice takes.");
  EXPECT_EQ(checks_.at("Optimum inside the grid").grade, Grade::pass);
}

TEST_F(ReportChoice, TrialsOnMoreSeedsThanTheBaselineAreUnequal) {
  FixtureSweep sweep = tuned();
  load(sweep);
  EXPECT_EQ(checks_.at("Equal trials for each stack").found, "3 trials for each stack, each on the same seeds.");
  for (const double scale : {0.5, 1.0, 2.0}) sweep.runs.push_back(run("new", scale, 1, scale == 1 ? 4 : 4.5, "tune"));
  load(sweep);
  EXPECT_EQ(checks_.at("Equal trials for each stack").grade, Grade::fail);
  EXPECT_EQ(checks_.at("Equal trials for each stack").found, "new on m: trials on seeds 0, 1, the baseline's on 0.");
  load(tuned(), "UPDATE cells SET seed = 5 WHERE stack = 'new' AND phase = 'tune'");
  EXPECT_EQ(checks_.at("Equal trials for each stack").grade, Grade::warn) << "as many, but others";
}

TEST_F(ReportChoice, EveryRateThatWasVariedHasAnEdge) {
  FixtureSweep sweep;
  for (const std::string stack : {"base", "new"})
    for (const char* axes : {R"({"embedding.lr":0.1})", R"({"embedding.lr":0.3})"})
      for (const double scale : {0.5, 1.0, 2.0})
        add(sweep, stack, scale, (axes[18] == '3' ? 4 : 4.2) + (scale == 1 ? 0 : 0.1), axes);
  load(sweep);
  EXPECT_EQ(checks_.at("Optimum inside the grid").grade, Grade::fail);
  EXPECT_EQ(checks_.at("Optimum inside the grid").found,
            "base on m is best at the edge, embedding.lr 0.3; new on m is best at the edge, embedding.lr 0.3.");
  EXPECT_THAT(text_, HasSubstr("perhaps not fully tuned: base, new."));

  const Table table = table_of(content_of(learning_rate_section, folder_ / "sweep.db"));
  ASSERT_EQ(table.rows.size(), 4U) << "a row for each rate";
  EXPECT_EQ(shown_at(table, 0, "rate"), "lr_scale");
  EXPECT_EQ(shown_at(table, 0, "optimum"), "inside the grid");
  EXPECT_EQ(number_at(table, 0, "basin_factor"), 1);
  EXPECT_EQ(shown_at(table, 1, "rate"), "embedding.lr");
  EXPECT_EQ(shown_at(table, 1, "optimum"), "at the edge of the grid");
}

TEST_F(ReportChoice, ARateOfItsOwnIsAGridToo) {
  FixtureSweep sweep;
  for (const std::string stack : {"base", "new"})
    for (const auto& [axes, loss] : {std::pair(R"({"default.lr":0.001})", 4.03), std::pair(R"({"default.lr":0.003})", 4.0),
                                     std::pair(R"({"default.lr":0.01})", 4.4)})
      add(sweep, stack, 1, loss, axes);
  load(sweep);
  EXPECT_EQ(checks_.at("Optimum inside the grid").grade, Grade::pass) << checks_.at("Optimum inside the grid").found;
  EXPECT_THAT(text_, Not(HasSubstr("not fully tuned")));
  const Table table = table_of(content_of(learning_rate_section, folder_ / "sweep.db"));
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(shown_at(table, 0, "rate"), "default.lr");
  EXPECT_EQ(number_at(table, 0, "basin_low"), 0.001);
  EXPECT_EQ(number_at(table, 0, "basin_high"), 0.003);
}

TEST_F(ReportChoice, WithoutAChoiceNothingSpeaksOfOne) {
  FixtureSweep sweep;
  add(sweep, "base", 1, 4), add(sweep, "new", 1, 3.9);
  load(sweep);
  EXPECT_EQ(checks_.at("Fresh seeds").grade, Grade::pass);
  EXPECT_THAT(text_, HasSubstr("the base baseline at its only learning rate (lr_scale 1) ended at"));
  EXPECT_THAT(text_, AllOf(Not(HasSubstr("best learning rate")), Not(HasSubstr("chose"))));
  const auto all_of = [](const Content& content) {
    std::string all;
    for (const std::string& item : std::get<List>(content.front()).items) all += item + "\n";
    return all;
  };
  EXPECT_THAT(all_of(content_of(method_section, folder_ / "sweep.db")),
              AllOf(HasSubstr("Nothing was chosen"), Not(HasSubstr("also support"))));
  EXPECT_THAT(table_of(content_of(verdict_section, folder_ / "sweep.db")).caption,
              ::testing::StartsWith("Each stack against the baseline. "));
  EXPECT_EQ(shown_at(table_of(content_of(learning_rate_section, folder_ / "sweep.db")), 0, "optimum"), "one learning rate");
  load(grid());
  EXPECT_THAT(text_, AllOf(HasSubstr("best learning rate"), HasSubstr("also support these claims")));
  EXPECT_THAT(all_of(content_of(method_section, folder_ / "sweep.db")), HasSubstr("also support the claims"));
}

TEST_F(ReportChoice, AFreshSeedThatDivergedIsNotALearningRateThatDid) {
  load(tuned(), "UPDATE runs SET state = 'diverged' WHERE run = 12");
  EXPECT_THAT(text_, HasSubstr("No claim about new: a fresh seed diverged or failed at the chosen point (1 of 3)"));
  load(tuned(), "UPDATE runs SET state = 'oom' WHERE run IN (4, 5)");
  EXPECT_THAT(text_,
              HasSubstr("No claim about new: a fresh seed of the baseline diverged or failed at the chosen point (2 of 3)"));
}

TEST_F(ReportChoice, AModelWithoutTheBaselineSaysThatItWasNotRunThere) {
  FixtureSweep sweep = tuned();
  for (const FixtureRun& own : tuned().runs) {
    if (own.stack == "base") continue;
    sweep.runs.push_back(own);
    sweep.runs.back().model = "other";
  }
  load(sweep);
  EXPECT_THAT(text_, HasSubstr("No claim about base on other: it was not run on this model."));
  EXPECT_THAT(text_, Not(HasSubstr("still being chosen")));
  load(tuned(), "UPDATE runs SET state = 'failed' WHERE run = 8; DELETE FROM cells WHERE cell > 9");
  EXPECT_THAT(text_,
              HasSubstr("No claim about new on m: 1 of the 3 runs that choose its learning rate ended without a result."));
}

TEST_F(ReportChoice, CopiesOfARunAreNoReplicates) {
  FixtureSweep sweep;
  for (const std::int64_t seed : {0, 1, 2}) sweep.runs.push_back(run("base", 1, seed, 4));
  for (const std::int64_t seed : {0, 1, 2}) sweep.runs.push_back(run("new", 1, seed, 3.9999));
  load(sweep);
  EXPECT_THAT(text_, HasSubstr("No claim about new: all its seeds ended at the same loss to the last bit"));
  EXPECT_EQ(checks_.at("At least 3 seeds").grade, Grade::fail);
  EXPECT_THAT(checks_.at("At least 3 seeds").found, HasSubstr("base on m: all its seeds ended at the same loss"));

  load(grid());
  EXPECT_EQ(checks_.at("At least 3 seeds").grade, Grade::pass);
  load(grid(), "UPDATE runs SET config = json_set(config, '$.init_from', json('{\"path\":\"p\",\"content\":\"c\"}'))");
  EXPECT_THAT(text_, HasSubstr("No claim about new: all its seeds begin from the same weights (init_from)"));
  EXPECT_EQ(checks_.at("At least 3 seeds").grade, Grade::fail);
}

TEST_F(ReportChoice, OneDifferenceForEverySeedIsNoTest) {
  FixtureSweep sweep;
  for (const std::int64_t seed : {0, 1, 2}) {
    const double loss = 4 + 0.25 * static_cast<double>(seed);
    sweep.runs.push_back(run("base", 1, seed, loss)), sweep.runs.push_back(run("new", 1, seed, loss - 0.5));
  }
  load(sweep);
  EXPECT_THAT(text_, HasSubstr("No claim about new: its difference is the same for every seed to the last digit"));
}

TEST_F(ReportChoice, NeitherIsOneOfTheAblation) {
  FixtureSweep sweep;
  for (const std::int64_t seed : {0, 1, 2}) {
    const double loss = 3.5 + 0.25 * static_cast<double>(seed);
    sweep.runs.push_back(run("base", 1, seed, loss + 0.5)), sweep.runs.push_back(run("full", 1, seed, loss));
    sweep.runs.push_back(run("copies", 1, seed, 3.75));
  }
  const auto path = database(
      sweep,
      "UPDATE runs SET config = json_set(config, '$.stack.mlp', json('{\"rule\":\"row_norm\",\"lr\":0.02}')) WHERE job IN "
      "(SELECT job FROM cells WHERE stack = 'full'); INSERT INTO blocks SELECT run, 0, 'u', 'mlp_up', 0, '[]', iif(stack = "
      "'full', 'mlp', 'default'), '' FROM runs JOIN cells USING (job)");
  const Table table = table_of(content_of(ablation_section, path));
  ASSERT_EQ(table.rows.size(), 3U);
  for (const std::size_t row : {1U, 2U}) {
    const std::string stack = std::get<std::string>(value_at(table, row, "stack").value);
    EXPECT_THAT(shown_at(table, row, "reading"),
                HasSubstr(stack == "base" ? "no claim: the difference is the same for every seed"
                                          : "no claim: all its seeds ended at the same loss"));
  }
}

TEST_F(ReportChoice, NothingIsFairAboutNothing) {
  load(grid(), "UPDATE runs SET state = 'diverged'");
  EXPECT_EQ(checks_.at("Optimum inside the grid").grade, Grade::fail);
  EXPECT_THAT(checks_.at("Optimum inside the grid").found, HasSubstr("base on m has no trial with a finite mean loss"));
  FixtureSweep one;
  add(one, "base", 1, 4), add(one, "new", 1, 3.9);
  load(one);
  EXPECT_EQ(checks_.at("Equal trials for each stack").found, "1 trial for each stack, each on the same seeds.");
  load(one, "UPDATE cells SET baseline = 0");
  EXPECT_EQ(checks_.at("Equal trials for each stack").grade, Grade::fail);
  load({});
  for (const auto& [question, check] : checks_) EXPECT_NE(check.grade, Grade::pass) << question << ": " << check.found;
}

}  // namespace test_report_choice
}  // namespace equisweep
