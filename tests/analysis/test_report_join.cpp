// Several sweeps in one report: what is joined, what is refused, what stands apart under a name of its own.
#include <gmock/gmock.h>

#include "analysis/report/report.h"
#include "core/error.h"
#include "tests/analysis/report_tables.h"
#include "tests/support/process.h"

namespace equisweep {
namespace test_report_join {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::FixtureRun;
using testing::FixtureSweep;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

FixtureRun run(const std::string& stack, std::int64_t seed, double loss, const std::string& phase = "") {
  return {.stack = stack, .baseline = stack == "base", .seed = seed, .evals = {{0, 6}, {100, loss}}, .phase = phase};
}

std::vector<FixtureRun> three(const std::string& stack, double loss) {
  return {run(stack, 0, loss), run(stack, 1, loss + 0.1), run(stack, 2, loss + 0.3)};
}

std::vector<FixtureRun> operator+(std::vector<FixtureRun> a, const std::vector<FixtureRun>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class ReportJoin : public ::testing::Test {
 protected:
  void sweep(const std::string& name, const std::vector<FixtureRun>& runs, const std::string& sql = "") {
    const fs::path file = folder_ / name / "sweep.db";
    fs::create_directories(file.parent_path());
    FixtureSweep content;
    content.meta = {{"name", name}};
    content.runs = runs;
    testing::write_sweep(file, content);
    if (!sql.empty()) testing::change_sweep(file, sql);
    source_.databases.push_back(file);
  }

  ReportData data() const { return ReportData(source_); }

  std::string refusal() const {
    try {
      data();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::report_refused) << e.what();
      return e.what();
    }
    return "not refused";
  }

  TempFolder folder_;
  ReportSource source_;
};

TEST_F(ReportJoin, StacksOfAllSweepsAreComparedWithTheBaselineOfOne) {
  sweep("a", three("base", 4.0) + three("muon", 3.9));
  sweep("b", three("scion", 3.5));
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon", "scion"));
  EXPECT_EQ(joined.baseline, 0U);
  EXPECT_EQ(joined.name(), "a + b");
  EXPECT_THAT(joined.mixed, IsEmpty());
  EXPECT_THAT(joined.joined, IsEmpty());
  const auto results = compare(joined);
  ASSERT_EQ(results.size(), 2U);
  EXPECT_NEAR(results[1].comparison.difference.mean, -0.5, 1e-12);
  EXPECT_TRUE(results[1].comparison.paired);
  EXPECT_EQ(results[1].comparison.difference.n, 3U);
}

TEST_F(ReportJoin, SeedsAndLearningRatesOfOneStackAddUp) {
  sweep("a", three("base", 4.0) + three("muon", 3.9));
  FixtureRun other_rate = run("muon", 0, 3.0);
  other_rate.lr_scale = 2;
  sweep("b", {run("muon", 3, 3.9), other_rate});
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon"));
  ASSERT_EQ(joined.arms[1].points.size(), 2U);
  EXPECT_EQ(joined.arms[1].points[0].cells.size(), 4U);
  EXPECT_TRUE(joined.arms[1].points[1].partial);
  EXPECT_EQ(joined.arms[1].chosen().lr_scale, 1) << "the other was run on one of four seeds";
}

// Runs read their evaluations from the database of their own sweep, where numbers of runs begin at 1 again.
TEST_F(ReportJoin, EachRunIsReadFromItsOwnDatabase) {
  sweep("a", three("base", 4.0));
  sweep("b", three("muon", 3.0));
  const ReportData joined(source_);
  const MeanCurve curve = mean_curve(joined, joined.arms[1].chosen());
  ASSERT_EQ(curve.points.size(), 2U);
  EXPECT_NEAR(curve.points[1].loss, (3.0 + 3.1 + 3.3) / 3, 1e-12);
}

TEST_F(ReportJoin, ACellOfTwoSweepsCountsOnceByItsFirstResult) {
  FixtureRun lost = run("base", 0, 4.0);
  lost.state = "lost";
  sweep("a", {lost, run("base", 1, 4.5)});
  sweep("b", {run("base", 0, 4.25), run("base", 1, 4.75), run("muon", 0, 3.0)});
  const ReportData joined(source_);
  EXPECT_EQ(joined.cells.size(), 3U);
  EXPECT_EQ(joined.runs.size(), 3U);
  EXPECT_THAT(finite_losses(joined.arms[0].chosen()), ElementsAre(std::pair(0, 4.25), std::pair(1, 4.5)));
  ASSERT_EQ(joined.joined.size(), 1U);
  EXPECT_THAT(joined.joined[0], HasSubstr("2 cells stand in more than one sweep"));
  EXPECT_THAT(joined.joined[0], HasSubstr("of 1 of them ended at different losses"));
  EXPECT_EQ(joined.sweeps[1].runs, 3U);
}

struct Difference {
  std::string path, value, named;
};

class ReportJoinSettings : public ReportJoin, public ::testing::WithParamInterface<Difference> {};

TEST_P(ReportJoinSettings, AreRefusedUnlessMixedAndThenStandApart) {
  const Difference& d = GetParam();
  sweep("a", three("base", 4.0) + three("muon", 3.9));
  sweep("b", three("muon", 3.5), "UPDATE runs SET config = json_set(config, '$." + d.path + "', json('" + d.value + "'))");
  const std::string why = refusal();
  EXPECT_THAT(why, HasSubstr(d.named));
  EXPECT_THAT(why, HasSubstr("--mix"));
  source_.mix = true;
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon [a]", "muon [b]"));
  ASSERT_EQ(joined.mixed.size(), 1U);
  EXPECT_THAT(joined.mixed[0], HasSubstr(d.named));
  const auto results = compare(joined);
  EXPECT_THAT(verdict_text({joined, results}), HasSubstr("not trained alike"));
  write_report(source_, folder_ / "report", {.formats = {ReportFormat::markdown}, .figures = false});
  EXPECT_THAT(testing::read_text(folder_ / "report/report.md"), HasSubstr("Mixed. "));
}

INSTANTIATE_TEST_SUITE_P(
    All, ReportJoinSettings,
    ::testing::Values(Difference{"train.steps", "400", "train.steps: 300 in a and 400 in b"},
                      Difference{"train.precision", "\"bf16\"", "train.precision: fp32 in a and bf16 in b"},
                      Difference{"data.seq_len", "64", "data.seq_len: 50 in a and 64 in b"},
                      Difference{"init_from", "{\"content\": \"0e\"}", "init_from.content: none in a and 0e in b"}),
    [](const auto& the) {
      std::string name = the.param.path;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST_F(ReportJoin, OtherContentOfTheCorpusIsRefused) {
  sweep("a", three("base", 4.0), "UPDATE runs SET corpus = json_set(corpus, '$.digest', 'aa')");
  sweep("b", three("muon", 4.0), "UPDATE runs SET corpus = json_set(corpus, '$.digest', 'bb')");
  EXPECT_THAT(refusal(), HasSubstr("corpus content: aa in a and bb in b"));
}

TEST_F(ReportJoin, ThePaceOfEvaluationsIsSaidAndNotRefused) {
  sweep("a", three("base", 4.0));
  sweep("b", three("muon", 4.0), "UPDATE runs SET config = json_set(config, '$.train.eval.every', 5)");
  EXPECT_THAT(data().joined, ElementsAre(HasSubstr("train.eval.every: none in a and 5 in b")));
}

TEST_F(ReportJoin, AStackThatIsAnotherInTheSecondSweepHasTwoNames) {
  sweep("a", three("base", 4.0) + three("muon", 3.9));
  sweep("b", three("muon", 3.5), "UPDATE runs SET config = json_set(config, '$.stack.matrix.rule', 'scion')");
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon [a]", "muon [b]"));
  EXPECT_THAT(joined.joined,
              ElementsAre("muon is another stack in a than in b (matrix.rule muon → scion); it stands here as "
                          "muon [a] and muon [b]."));
}

TEST_F(ReportJoin, AnAxisOfItsOwnMakesNoOtherStack) {
  const auto with = [](FixtureRun r, const std::string& value) {
    r.axes = R"({"matrix.momentum":)" + value + "}";
    return r;
  };
  const std::string sql =
      "UPDATE runs SET config = json_set(config, '$.stack.matrix.momentum', (SELECT axes ->> '$.\"matrix.momentum\"' FROM "
      "cells c WHERE c.job = runs.job)) WHERE job IN (SELECT job FROM cells WHERE stack = 'muon')";
  sweep("a", three("base", 4.0) + std::vector{with(run("muon", 0, 3.9), "0.9")}, sql);
  sweep("b", {with(run("muon", 0, 3.8), "0.95")}, sql);
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon"));
  EXPECT_EQ(joined.arms[1].points.size(), 2U);
}

TEST_F(ReportJoin, AModelOfOtherDimensionsIsAnotherModel) {
  const auto width = [](int n) {
    return "UPDATE runs SET config = json_set(config, '$.model', json_object('hidden', " + std::to_string(n) + "))";
  };
  sweep("a", three("base", 4.0), width(64));
  sweep("b", three("base", 3.5), width(96));
  const ReportData joined(source_);
  EXPECT_THAT(joined.models, ElementsAre("m [a]", "m [b]"));
  EXPECT_THAT(joined.stacks, ElementsAre("base"));
  EXPECT_THAT(joined.joined[0], HasSubstr("other dimensions"));
}

TEST_F(ReportJoin, DifferentBaselinesAreRefusedUntilOneIsNamed) {
  sweep("a", three("base", 4.0) + three("muon", 3.0));
  sweep("b", three("base", 3.5), "UPDATE runs SET config = json_set(config, '$.stack.default.lr', 0.5)");
  const std::string why = refusal();
  EXPECT_THAT(why, HasSubstr("'base [a]' in a and 'base [b]' in b"));
  EXPECT_THAT(why, HasSubstr("--baseline 'base [a]'"));
  EXPECT_THAT(why, HasSubstr("default.lr"));
  source_.baseline = "base [b]";
  EXPECT_EQ(data().baseline, 2U);
  source_.baseline = "muo";
  try {
    data();
    FAIL() << "no such stack";
  } catch (const UsageError& e) {
    EXPECT_THAT(e.what(), HasSubstr("did you mean 'muon'?"));
  }
}

TEST_F(ReportJoin, AnyStackOfOneSweepCanBeTheBaseline) {
  sweep("a", three("base", 4.0) + three("muon", 3.0));
  source_.baseline = "muon";
  const ReportData one(source_);
  const auto results = compare(one);
  ASSERT_EQ(results.size(), 1U);
  EXPECT_NEAR(results[0].comparison.difference.mean, 1.0, 1e-12);
}

std::vector<FixtureRun> tuned(const std::string& stack, double confirmed_scale) {
  std::vector<FixtureRun> runs;
  for (const double scale : {1.0, 2.0}) {
    runs.push_back(run(stack, 0, 4, "tune"));
    runs.back().lr_scale = scale;
  }
  for (const std::int64_t seed : {10, 11}) {
    runs.push_back(run(stack, seed, 4, "confirm"));
    runs.back().lr_scale = confirmed_scale;
  }
  return runs;
}

TEST_F(ReportJoin, ASweepThatTunesAndOneThatDoesNotAreRefused) {
  sweep("a", tuned("base", 1));
  sweep("b", three("muon", 3.0));
  source_.mix = true;
  EXPECT_THAT(refusal(), HasSubstr("a tunes"));
}

// Else the better of two confirmed points would be chosen on the seeds that support the claim.
TEST_F(ReportJoin, StacksThatWereTunedToDifferentPointsStandApart) {
  sweep("a", tuned("base", 1) + tuned("muon", 1));
  sweep("b", tuned("base", 1) + tuned("muon", 2));
  const ReportData joined(source_);
  EXPECT_THAT(joined.stacks, ElementsAre("base", "muon [a]", "muon [b]"));
  EXPECT_EQ(joined.arms[0].chosen().cells.size(), 2U) << "the same runs, once";
  EXPECT_THAT(joined.joined[0], HasSubstr("came out at other points"));
}

TEST_F(ReportJoin, SweepsOfOneNameAreNumberedAndNamesOfUsersStayData) {
  const std::string name = "<b>'s";
  sweep(name, three("base", 4.0));
  sweep("b", three("muon", 3.0), "UPDATE meta SET value = (SELECT '<b>''s') WHERE key = 'name'");
  EXPECT_EQ(data().name(), "<b>'s + <b>'s (2)");
  write_report(source_, folder_ / "report", {.formats = {ReportFormat::html}, .figures = false});
  const std::string page = testing::read_text(folder_ / "report/index.html");
  EXPECT_THAT(page, HasSubstr("2 sweeps joined"));
  EXPECT_THAT(page, HasSubstr("id=\"table-sweeps\""));
  EXPECT_THAT(page, Not(HasSubstr("<b>")));
}

}  // namespace test_report_join
}  // namespace equisweep
