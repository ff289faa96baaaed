// Extra trials: those of `tune: {extend: N}` are the same rule for all, those that a stack was simply given are not.
#include "analysis/report/trials.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "analysis/report/fairness.h"
#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_trials {

using testing::FixtureRun;
using testing::FixtureSweep;

TEST(ExtendIn, FindsTheKeyWhereverYamlHasItAndNothingElse) {
  const std::vector<std::pair<std::string, std::int64_t>> table = {
      {"tune: {seeds: 0, confirm_seeds: [10, 11], extend: 2}", 2},
      {"tune:\n  seeds: 0\n  extend:   3   # at most three\n", 3},
      {"{\"tune\": {\"extend\": 4}}", 4},
      {"tune.extend=5", 5},
      {"tune={seeds: 0, extend: 6}", 6},
      {"stacks:\n  ours: {extends: 7}\n", 0},
      {"# tune: {extend: 2}\ntune: {seeds: 0}", 0},
      {"tune: {seeds: 0}  # extend: 2", 0},
      {"not_extend: 2, re-extend: 3, xextend: 4", 0},
      {"extend: many", 0},
      {"extend: -2", 0},
      {"tune: {extend: 2}\nnotes: extend: 1", 1},
      {"extend: 99999999999999999999999", 0},
      {"extend:", 0},
      {"", 0},
  };
  for (const auto& [text, rounds] : table) EXPECT_EQ(extend_in(text), rounds) << text;
}

/// A trial of one seed.
struct Tried {
  double lr_scale, loss;
  std::string axes = "{}";
};

/// "base" and "new" with these trials, both confirmed on three fresh seeds.
FixtureSweep sweep_of(const std::vector<Tried>& base, const std::vector<Tried>& other, const std::string& file) {
  FixtureSweep sweep;
  sweep.meta["file"] = file;
  for (const auto& [name, trials] : {std::pair("base", &base), std::pair("new", &other)}) {
    const auto run = [&, n = name](const char* phase, const Tried& t, std::int64_t seed) {
      return FixtureRun{.stack = n,
                        .baseline = n == std::string("base"),
                        .lr_scale = t.lr_scale,
                        .seed = seed,
                        .axes = t.axes,
                        .state = std::isfinite(t.loss) ? "done" : "diverged",
                        .evals = {{0, 6}, {100, 5}, {200, t.loss}},
                        .phase = phase};
    };
    for (const Tried& t : *trials) sweep.runs.push_back(run("tune", t, 0));
    for (const std::int64_t seed : {10, 11, 12}) sweep.runs.push_back(run("confirm", trials->front(), seed));
  }
  return sweep;
}

constexpr const char* kTwice = "tune: {seeds: 0, confirm_seeds: [10, 11, 12], extend: 2}";
const std::vector<Tried> kInside = {{0.5, 4.2}, {1, 4}, {2, 4.1}};
const std::vector<Tried> kUp = {{0.5, 4.2}, {1, 4.1}, {2, 4}, {4, 3.9}, {8, 3.95}};  // 4, then 8 beyond it

// The grid {1, 2} x {0.1, 0.2}; then 0.5 and 0.4 beyond the best in one round.
const std::vector<Tried> kTwoRates = {{1, 4, R"({"mlp.lr":0.2})"},     {2, 4.2, R"({"mlp.lr":0.2})"},
                                      {1, 4.1, R"({"mlp.lr":0.1})"},   {2, 4.3, R"({"mlp.lr":0.1})"},
                                      {0.5, 4.1, R"({"mlp.lr":0.2})"}, {1, 4.1, R"({"mlp.lr":0.4})"}};
// As many at the same lr_scales, and 0.5 beyond the best.
const std::vector<Tried> kPairs = {{1, 4.1, R"({"default.beta":0.9})"},
                                   {2, 4.2, R"({"default.beta":0.9})"},
                                   {1, 4.3, R"({"default.beta":0.95})"},
                                   {2, 4.4, R"({"default.beta":0.95})"},
                                   {0.5, 4.15, R"({"default.beta":0.9})"}};

class Trials : public SweepFolder {
 protected:
  Check equal(const std::vector<Tried>& base, const std::vector<Tried>& other, const std::string& file = kTwice) {
    for (const Check& check : fairness(ReportData(database(sweep_of(base, other, file)))))
      if (check.question == "Equal trials for each stack") return check;
    throw std::runtime_error("no such question");
  }
};

TEST_F(Trials, OfARuleThatHoldsForAllAreAWarningThatSaysSo) {
  const Check check = equal(kInside, kUp);
  EXPECT_EQ(check.grade, Grade::warn);
  EXPECT_EQ(check.found, "new on m: 2 trials more than the baseline; by `extend`, the same rule for all.");
  EXPECT_THAT(report_objections(folder_ / "sweep.db"),
              ::testing::Each(::testing::Not(::testing::HasSubstr("Equal trials"))));
  const Check baseline = equal(kUp, kInside);
  EXPECT_EQ(baseline.grade, Grade::warn);
  EXPECT_EQ(baseline.found, "new on m: 2 trials fewer than the baseline; by `extend`, the same rule for all.");
}

struct Case {
  const char* what;
  std::vector<Tried> base, other;
  bool rule;
};

TEST_F(Trials, AreTakenBackOnlyWhereTheRuleAddsThem) {
  const std::vector<Case> table = {
      {"downward", kInside, {{0.5, 4}, {1, 4.1}, {2, 4.2}, {0.25, 4.05}}, true},
      {"both, in different directions", {{0.5, 4}, {1, 4.1}, {2, 4.2}, {0.25, 4.05}}, kUp, true},
      {"one ends on the edge, with no round left", kInside, {{0.5, 4.2}, {1, 4.1}, {2, 4}, {4, 3.9}, {8, 3.8}}, true},
      {"the trial beyond diverged", kInside, {{0.5, 4.2}, {1, 4.1}, {2, 4}, {4, INFINITY}}, true},
      {"a rate of its own grew",
       {{1, 4, R"({"default.beta":0.9})"}, {1, 4.1, R"({"default.beta":0.95})"}},
       {{1, 4, R"({"mlp.lr":0.1})"}, {1, 3.9, R"({"mlp.lr":0.2})"}, {1, 3.95, R"({"mlp.lr":0.4})"}},
       true},
      {"two rates at a time", kPairs, kTwoRates, true},
      {"four trials at other lr_scales", {{0.5, 4.2}, {1, 4.1}, {2, 4.2}, {4, 5}}, kTwoRates, false},
      {"three rounds", kInside, {{0.5, 5}, {1, 4.5}, {2, 4}, {4, 3.9}, {8, 3.8}, {16, 3.7}}, false},
      {"the best lies inside", kInside, {{0.5, 4.2}, {1, 4}, {2, 4.1}, {4, 4.2}}, false},
      {"a trial between", kInside, {{0.5, 4.2}, {1, 4}, {1.5, 4.05}, {2, 4.1}}, false},
      {"another step", kInside, {{0.5, 4.2}, {1, 4.1}, {2, 4}, {3, 3.9}}, false},
      {"trials at both ends", kInside, {{0.25, 4.3}, {0.5, 4.2}, {1, 4.1}, {2, 4}, {4, 3.9}}, false},
      {"the wrong end", kInside, {{0.5, 4}, {1, 4.1}, {2, 4.2}, {4, 4.3}}, false},
      {"the baseline on an edge, and its grid did not grow",
       {{0.5, 4.2}, {1, 4.1}, {2, 4}},
       {{0.5, 4.2}, {1, 4.1}, {2, 4}, {4, 4.3}},
       false},
      {"another grid", kInside, {{1, 4.2}, {3, 4.1}, {9, 4}, {27, 4.1}}, false},
  };
  for (const Case& c : table) {
    const Check check = equal(c.base, c.other);
    EXPECT_EQ(check.grade, c.rule ? Grade::warn : Grade::fail) << c.what << ": " << check.found;
    EXPECT_EQ(check.found.find("the same rule for all") != std::string::npos, c.rule) << c.what;
  }
}

TEST_F(Trials, NeedASweepFileThatSaysExtend) {
  for (const std::string file : {"", "tune: {seeds: 0}", "tune: {extend: 0}", "tune: {extend: 1}"})
    EXPECT_EQ(equal(kInside, kUp, file).grade, Grade::fail) << file;
  FixtureSweep sweep = sweep_of(kInside, kUp, kTwice);
  sweep.meta["set"] = R"(["train.steps=3", "tune.extend=1"])";
  EXPECT_EQ(rounds_of_growth(ReportData(database(sweep))), 1) << "a setting of the command line comes after the file";
  sweep.meta["set"] = "not JSON";
  EXPECT_EQ(rounds_of_growth(ReportData(database(sweep))), 2);
}

// Without a bound this would take until the end of time: 40 rates, each with a trial on either side.
TEST_F(Trials, OfAnAbsurdDatabaseAreNotExplained) {
  std::string axes;
  for (int i = 0; i < 40; ++i) axes += fmt::format("{}\"a{}.lr\":1", i == 0 ? "" : ",", i);
  std::vector<Tried> many;
  for (int i = 0; i < 40; ++i) {
    for (const char* value : {"0.5", "2"}) {
      std::string own = axes;
      const std::string key = fmt::format("\"a{}.lr\":", i);
      own.replace(own.find(key) + key.size(), 1, value);
      many.push_back({1, 4.5, "{" + own + "}"});
    }
  }
  many.push_back({1, 4, "{" + axes + "}"});
  EXPECT_EQ(equal(kInside, many).grade, Grade::fail);
  std::vector<Tried> line;
  for (int i = 0; i < 400; ++i) line.push_back({1.0 + i, 4});
  EXPECT_EQ(equal(kInside, line, "extend: 16").grade, Grade::fail);
}

}  // namespace test_report_trials
}  // namespace equisweep
