// grid, zip, exclude and include against loops written out by hand, and --only.
#include "sweeps/file/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_grid {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kGrid = "grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}";

/// The jobs of the small sweep with other lines in place of its grid: "muon x2 s1", with the stack's own axes.
std::vector<std::string> points(const std::string& lines, const std::string& muon_lr = "0.02") {
  std::string text = changed(kGrid, lines);
  text.replace(text.find("lr: 0.02"), 8, "lr: " + muon_lr);
  std::vector<std::string> result;
  for (const Job& job : expand(read_sweep(text, "f")))
    result.push_back(job.stack + " x" + nlohmann::json(job.lr_scale).dump() + " s" + std::to_string(job.seed) +
                     (job.axes.empty() ? "" : " " + job.axes.begin().value().dump()));
  return result;
}

std::string expand_error(const std::string& lines) {
  try {
    points(lines);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(Grid, ListsThatMoveTogetherMeetTheOthers) {
  EXPECT_THAT(points("grid: {model: qwen3-nano, seed: [0, 1]}\nzip: {stack: [adamw, muon, muon], lr_scale: [1, 2, 4]}"),
              ElementsAre("adamw x1.0 s0", "muon x2.0 s0", "muon x4.0 s0", "adamw x1.0 s1", "muon x2.0 s1", "muon x4.0 s1"));
  EXPECT_THAT(points("zip: {model: [qwen3-nano, qwen3-nano], stack: [muon, adamw], seed: [5, 3]}"),
              ElementsAre("muon x1.0 s5", "adamw x1.0 s3"));
}

TEST(Grid, ExcludeTakesOutWhatMatchesEveryKey) {
  EXPECT_THAT(points(kGrid + "\nexclude: [{stack: muon, lr_scale: 2}, {seed: 1, stack: adamw}]"),
              ElementsAre("adamw x1.0 s0", "adamw x2.0 s0", "muon x1.0 s0", "muon x1.0 s1"));
  EXPECT_THAT(points("grid: {model: qwen3-nano, stack: [adamw, muon]}\nexclude: [{matrix.lr: 0.1}]", "[0.1, 0.2, 0.3]"),
              ElementsAre("adamw x1.0 s0", "muon x1.0 s0 0.2", "muon x1.0 s0 0.3"));
}

TEST(Grid, IncludeAddsPointsAndLetsTheOtherAxesRun) {
  EXPECT_THAT(
      points("grid: {model: qwen3-nano, stack: [adamw], lr_scale: [1, 2]}\ninclude: [{stack: muon, lr_scale: 8, seed: 7}]"),
      ElementsAre("adamw x1.0 s0", "adamw x2.0 s0", "muon x8.0 s7"));
  EXPECT_THAT(points("grid: {model: qwen3-nano, stack: [adamw], lr_scale: [1, 2]}\ninclude: [{seed: 7}]"),
              ElementsAre("adamw x1.0 s0", "adamw x2.0 s0", "adamw x1.0 s7", "adamw x2.0 s7"));
}

TEST(Grid, WhatSelectsNothingNewIsAnError) {
  EXPECT_THAT(expand_error(kGrid + "\nexclude: [{stack: muon}, {stack: muon, seed: 1}]"),
              HasSubstr("f:6:26: exclude: no point of the sweep is like this"));
  EXPECT_THAT(expand_error(kGrid + "\ninclude: [{stack: muon, seed: 1}]"),
              HasSubstr("include: the sweep has these points already"));
  EXPECT_THAT(expand_error("grid: {model: qwen3-nano, stack: [adamw]}\nexclude: [{stack: adamw}]"),
              HasSubstr("every point of the grid is excluded"));
}

struct Mistake {
  const char* name;
  std::string lines, message;
};

void PrintTo(const Mistake& m, std::ostream* out) { *out << m.name; }

class GridMistakes : public ::testing::TestWithParam<Mistake> {};

TEST_P(GridMistakes, AreNamedWithTheirPlace) {
  expect_message(errors_of(changed(kGrid, GetParam().lines)), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, GridMistakes,
    ::testing::Values(
        Mistake{"zip_of_different_lengths", "grid: {model: qwen3-nano}\nzip: {stack: [adamw, muon], seed: [0, 1, 2]}",
                "f:6:35: zip.seed: 3 values, but another list of zip has 2; allowed: lists of the same length"},
        Mistake{"zip_of_one_value", "grid: {model: qwen3-nano}\nzip: {seed: 3}",
                "f:6:13: zip.seed: 3 is not a list of values; allowed: a list as long as the others of zip"},
        Mistake{"axis_in_both", "grid: {model: qwen3-nano, seed: 0}\nzip: {seed: [1, 2]}",
                "f:6:7: zip.seed: grid.seed is given as well; allowed: each axis once"},
        Mistake{"row_twice", "grid: {model: qwen3-nano}\nzip: {stack: [adamw, muon, adamw], seed: [1, 2, 1]}",
                "f:6:49: zip: the row - adamw 0 1 stands in it twice; allowed: each row once"},
        Mistake{"neither", "notes: none", "f:1:1: key 'grid' is missing; allowed: ..."},
        Mistake{
            "exclude_is_a_map", kGrid + "\nexclude: {seed: 1}",
            "f:6:10: exclude: a map is not a list of maps; allowed: a list of maps with some of: model, stack, lr_scale, "
            "seed, or an axis of a stack such as embedding.lr"},
        Mistake{"exclude_of_another_model", kGrid + "\nexclude: [{model: qwen3-tiny}]",
                "f:6:19: exclude.model: 'qwen3-tiny' is no model of this sweep; allowed: one of: qwen3-nano; did you mean "
                "'qwen3-nano'?"},
        Mistake{
            "unknown_axis", kGrid + "\nexclude: [{sed: 1}]",
            "f:6:12: exclude: 'sed' is no axis of this sweep; allowed: model, stack, lr_scale, seed; did you mean 'seed'?"},
        Mistake{
            "unknown_stack", kGrid + "\ninclude: [{stack: moun}]",
            "f:6:19: include.stack: 'moun' is no stack of this file; allowed: one of: adamw, muon; did you mean 'muon'?"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Only, SelectsByAnyAxisAndRefusesWhatTheSweepDoesNotHave) {
  const SweepSpec spec = read_sweep(kSmallSweep, "f");
  const Selection s = read_selection("stack=muon,seed=1", spec);
  EXPECT_TRUE(matches(s, "qwen3-nano", "muon", 2, 1, {}));
  EXPECT_FALSE(matches(s, "qwen3-nano", "muon", 2, 0, {}));
  EXPECT_FALSE(matches(s, "qwen3-nano", "adamw", 2, 1, {}));
  const auto refusal = [&](const char* text) -> std::string {
    try {
      read_selection(text, spec);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(refusal("stack=moun"), HasSubstr("did you mean 'muon'?"));
  EXPECT_THAT(refusal("stak=muon"), HasSubstr("unknown key 'stak'"));
  EXPECT_THAT(refusal("seed"), HasSubstr("no key=value"));
  EXPECT_THAT(refusal(""), HasSubstr("no key=value")) << "an empty selection is not every job";
  EXPECT_THAT(refusal("seed=1,"), HasSubstr("no key=value"));
  EXPECT_EQ(refusal("seed=0,seed=1"),
            "--only seed=0,seed=1: 'seed' stands in it twice, and no job has two; allowed: each key once; several --only "
            "add up");
  EXPECT_THAT(refusal("seed=1,seed=1"), HasSubstr("'seed' stands in it twice"));
  EXPECT_THAT(refusal("seed=1.5"), HasSubstr("that is no seed"));
  EXPECT_THAT(refusal("lr_scale=two"), HasSubstr("'two' is not a number"));
}

}  // namespace test_grid
}  // namespace equisweep
