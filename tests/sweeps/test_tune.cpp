// tune: which point wins, when grids grow, what is confirmed; and that a plan only ever grows.

#include "sweeps/tune.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_tune {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

const std::string kGridLine = "grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}";

SweepSpec tuned(const std::string& tune, const std::string& scales = "[1, 2, 4]",
                const std::vector<std::string>& sets = {}) {
  return read_sweep(changed(kGridLine, "grid: {model: qwen3-nano, lr_scale: " + scales + "}\ntune: {" + tune + "}"), "f",
                    sets);
}

using Loss = std::function<double(const Job&)>;

JobResult result_of(double loss) { return {.state = std::isinf(loss) ? RunState::diverged : RunState::done, .loss = loss}; }

/// Runs everything that the plan asks for until it asks for nothing more.
TuneResults run_all(const SweepSpec& spec, const Loss& loss) {
  TuneResults results;
  for (bool more = true; more;) {
    more = false;
    for (const Job& job : expand(spec, results)) more = results.emplace(job.id, result_of(loss(job))).second || more;
  }
  return results;
}

/// "muon x2 s10" of the jobs of a phase.
std::vector<std::string> of_phase(const std::vector<Job>& jobs, const std::string& phase) {
  std::vector<std::string> names;
  for (const Job& job : jobs)
    if (job.phase == phase)
      names.push_back(fmt::format("{} x{} s{}{}", job.stack, job.lr_scale, job.seed,
                                  job.axes.empty() ? "" : " " + job.axes.begin().value().dump()));
  return names;
}

/// A bowl over log2 of lr_scale, different for each seed, and with its bottom where it is said.
Loss bowl(double bottom) {
  return [bottom](const Job& job) {
    return 3 + std::pow(std::log2(job.lr_scale) - bottom, 2) + 0.01 * static_cast<double>(job.seed);
  };
}

TEST(Tune, RunsTheGridOnItsSeedsAndKnowsNoWinnerBefore) {
  const SweepSpec spec = tuned("seeds: [3, 4], confirm_seeds: [10, 11, 12]", "[1, 2]");
  const SweepPlan plan = make_plan(spec);
  EXPECT_THAT(of_phase(plan.jobs, "tune"), ElementsAre("adamw x1 s3", "adamw x2 s3", "muon x1 s3", "muon x2 s3",
                                                       "adamw x1 s4", "adamw x2 s4", "muon x1 s4", "muon x2 s4"));
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), IsEmpty());
  EXPECT_EQ(summarize(spec, plan).to_confirm, 6);
  EXPECT_FALSE(plan.tunings.at(0).done);
}

TEST(Tune, ConfirmsTheBestOfEachStackOnFreshSeeds) {
  const SweepSpec spec = tuned("confirm_seeds: [10, 11]");
  const Loss loss = [](const Job& job) { return bowl(job.stack == "adamw" ? 1 : 0.9)(job); };
  const TuneResults results = run_all(spec, loss);
  const SweepPlan plan = make_plan(spec, results);
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), ElementsAre("adamw x2 s10", "muon x2 s10", "adamw x2 s11", "muon x2 s11"));
  EXPECT_EQ(summarize(spec, plan).to_confirm, 0);
  const Job& confirmed = plan.jobs.at(7);
  const auto winner = std::find_if(plan.jobs.begin(), plan.jobs.end(),
                                   [](const Job& j) { return j.phase == "tune" && j.stack == "muon" && j.lr_scale == 2; });
  nlohmann::json config = winner->config;
  config["seed"] = 10;
  EXPECT_EQ(confirmed.config, config);
  EXPECT_EQ(confirmed.id, job_id(config));
}

struct WinnerCase {
  const char* name;
  std::vector<double> losses;  // of lr_scale 1, 2, 4, ...
  std::optional<std::size_t> winner;
};

void PrintTo(const WinnerCase& c, std::ostream* out) { *out << c.name; }

class TuneWinner : public ::testing::TestWithParam<WinnerCase> {};

TEST_P(TuneWinner, IsTheLowestMeanThatIsFinite) {
  std::vector<Trial> trials;
  for (std::size_t i = 0; i < GetParam().losses.size(); ++i)
    trials.push_back({.lr_scale = std::exp2(static_cast<double>(i)), .loss = GetParam().losses[i]});
  EXPECT_EQ(best_trial(trials), GetParam().winner);
  // The order in which trials stand does not matter.
  std::reverse(trials.begin(), trials.end());
  const auto reversed = best_trial(trials);
  EXPECT_EQ(reversed.has_value(), GetParam().winner.has_value());
  if (reversed) {
    EXPECT_EQ(trials[*reversed].lr_scale, std::exp2(static_cast<double>(*GetParam().winner)));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, TuneWinner,
                         ::testing::Values(WinnerCase{"lowest", {3, 2, 4}, 1},
                                           WinnerCase{"tie_to_the_lower_rate", {3, 2, 2}, 1},
                                           WinnerCase{"diverged_never", {kInf, 9, kInf}, 1},
                                           WinnerCase{"all_diverged", {kInf, kInf}, std::nullopt},
                                           WinnerCase{"one_is_not_known", {3, kUnknown, 4}, std::nullopt},
                                           WinnerCase{"none", {}, std::nullopt}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Tune, OneDivergedSeedMakesATrialInfinite) {
  const SweepSpec spec = tuned("seeds: [0, 1], confirm_seeds: [10]");
  const Loss loss = [](const Job& job) {
    return job.lr_scale == 4 ? (job.seed == 1 ? kInf : 0.1) : 5 - std::log2(job.lr_scale);
  };
  const SweepPlan plan = make_plan(spec, run_all(spec, loss));
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), ElementsAre("adamw x2 s10", "muon x2 s10"));
  EXPECT_EQ(plan.tunings[0].trials[2].diverged, 1U);
}

TEST(Tune, ALossThatIsNotANumberDoesNotWin) {
  const SweepSpec spec = tuned("confirm_seeds: [10]", "[1, 2]");
  TuneResults results;
  for (const Job& job : expand(spec))
    results[job.id] = {.state = RunState::done, .loss = job.lr_scale == 1 ? kUnknown : 4.0};
  EXPECT_THAT(of_phase(expand(spec, results), "confirm"), ElementsAre("adamw x2 s10", "muon x2 s10"));
}

TEST(Tune, WhatIsNoResultIsWaitedFor) {
  const SweepSpec spec = tuned("confirm_seeds: [10]", "[1, 2]");
  TuneResults results;
  for (const Job& job : expand(spec))
    results[job.id] = {.state = job.stack == "muon" && job.lr_scale == 2 ? RunState::failed : RunState::done, .loss = 2};
  EXPECT_THAT(of_phase(expand(spec, results), "confirm"), ElementsAre("adamw x1 s10"));
}

TEST(Tune, AStackOfWhichEveryTrialDivergedIsNotConfirmedAndSaysSo) {
  const SweepSpec spec = tuned("confirm_seeds: [10], extend: 2");
  const Loss loss = [](const Job& job) { return job.stack == "muon" ? kInf : bowl(1)(job); };
  const SweepPlan plan = make_plan(spec, run_all(spec, loss));
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), ElementsAre("adamw x2 s10"));
  EXPECT_THAT(tuning_notes(plan.tunings), ElementsAre(HasSubstr("muon on qwen3-nano: every trial diverged")));
}

TEST(TuneExtend, GrowsAtTheEdgeWhereTheBestLies) {
  struct Case {
    double bottom;
    int extend;
    std::vector<double> scales;  // in all
    double winner;
    bool at_edge;
  };
  for (const Case& c : {Case{1, 2, {1, 2, 4}, 2, false},                  // inside
                        Case{2.6, 2, {1, 2, 4, 8, 16}, 8, false},         // beyond by one: 8 wins over 16
                        Case{9, 2, {1, 2, 4, 8, 16}, 16, true},           // further than it may grow
                        Case{-1.2, 3, {1, 2, 4, 0.5, 0.25}, 0.5, false},  // the other side
                        Case{9, 0, {1, 2, 4}, 4, true}}) {
    const SweepSpec spec = tuned("confirm_seeds: [10], extend: " + std::to_string(c.extend));
    const SweepPlan plan = make_plan(spec, run_all(spec, bowl(c.bottom)));
    ASSERT_EQ(plan.tunings.size(), 2U);
    for (const Tuning& t : plan.tunings) {  // the baseline by the same rule as the other
      std::vector<double> scales;
      for (const Trial& trial : t.trials) scales.push_back(trial.lr_scale);
      EXPECT_EQ(scales, c.scales) << t.stack << c.bottom;
      ASSERT_TRUE(t.winner);
      EXPECT_EQ(t.trials[*t.winner].lr_scale, c.winner);
      EXPECT_EQ(t.at_edge, c.at_edge);
      EXPECT_EQ(t.grid, 3U);
    }
    EXPECT_EQ(tuning_notes(plan.tunings).size(), c.at_edge ? 2U : 0U);
  }
}

std::set<std::string> ids_of(const std::vector<Job>& jobs, const std::string& phase) {
  std::set<std::string> ids;
  for (const Job& job : jobs)
    if (job.phase == phase) ids.insert(job.id);
  return ids;
}

// The jobs by which a grid grows are those that somebody would have who had written the larger grid.
TEST(TuneExtend, AddsTheJobsOfTheLargerGrid) {
  const SweepSpec small = tuned("confirm_seeds: [10], extend: 1", "[0.1, 0.3]"),
                  large = tuned("confirm_seeds: [10]", "[0.1, 0.3, 0.9]");
  const Loss falling = [](const Job& job) { return 5 - job.lr_scale; };
  EXPECT_EQ(ids_of(expand(small, run_all(small, falling)), "tune"), ids_of(expand(large), "tune"));
  // The same for the rate of an entry.
  const std::vector<std::string> two = {"stacks.muon.matrix.lr=[0.02, 0.04]"},
                                 three = {"stacks.muon.matrix.lr=[0.02, 0.04, 0.08]"};
  const SweepSpec entry = tuned("confirm_seeds: [10], extend: 1", "3", two),
                  larger = tuned("confirm_seeds: [10]", "3", three);
  const Loss by_entry = [](const Job& job) { return 5 - job.axes.value("matrix.lr", 0.0); };
  EXPECT_EQ(ids_of(expand(entry, run_all(entry, by_entry)), "tune"), ids_of(expand(larger), "tune"));
}

TEST(TuneExtend, GrowsAlongTheRatesOnly) {
  const SweepSpec spec = tuned("confirm_seeds: [10], extend: 1", "1", {"stacks.muon.matrix.beta=[0.9, 0.95]"});
  const Loss loss = [](const Job& job) { return 5 - job.axes.value("matrix.beta", 0.0); };
  const SweepPlan plan = make_plan(spec, run_all(spec, loss));
  EXPECT_THAT(of_phase(plan.jobs, "tune"), ElementsAre("adamw x1 s0", "muon x1 s0 0.9", "muon x1 s0 0.95"));
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), ElementsAre("adamw x1 s10", "muon x1 s10 0.95"));
}

// Four times 0.02 times a weight decay of 20 would turn the sign of a weight: a grid does not grow that far.
TEST(TuneExtend, DoesNotGrowPastARateThatItsRuleRefuses) {
  const SweepSpec spec = tuned("confirm_seeds: [10], extend: 3", "[0.5, 1]",
                               {"stacks.muon.matrix.weight_decay=20", "stacks.muon.matrix.lr=0.02"});
  const Loss falling = [](const Job& job) { return 5 - job.lr_scale; };
  const SweepPlan plan = make_plan(spec, run_all(spec, falling));
  const Tuning &adamw = plan.tunings.at(0), &muon = plan.tunings.at(1);
  EXPECT_EQ(adamw.trials.back().lr_scale, 8);
  EXPECT_EQ(adamw.rounds, 3);
  EXPECT_EQ(muon.trials.back().lr_scale, 2);
  EXPECT_EQ(muon.rounds, 1);
  EXPECT_TRUE(muon.at_edge);
  EXPECT_THAT(of_phase(plan.jobs, "confirm"), ElementsAre("adamw x8 s10", "muon x2 s10"));
}

TEST(TuneExtend, AtACornerGrowsAlongBothRates) {
  const SweepSpec spec = tuned("confirm_seeds: [10], extend: 1", "[1, 2]", {"stacks.muon.matrix.lr=[0.01, 0.02]"});
  const Loss loss = [](const Job& job) { return 5 - job.lr_scale - job.axes.value("matrix.lr", 0.0); };
  const SweepPlan plan = make_plan(spec, run_all(spec, loss));
  const Tuning& muon = plan.tunings.at(1);
  ASSERT_EQ(muon.trials.size(), 6U);
  EXPECT_EQ(muon.trials[4].lr_scale, 4);
  EXPECT_EQ(muon.trials[4].axes.at("matrix.lr"), 0.02);
  EXPECT_EQ(muon.trials[5].lr_scale, 2);
  EXPECT_EQ(muon.trials[5].axes.at("matrix.lr"), 0.04);
}

// Whatever the order in which jobs end, and whatever they come to: a plan only grows, and ends the same.
TEST(Tune, JobsAreOnlyEverAddedAndTheEndDoesNotDependOnTheOrder) {
  const SweepSpec spec =
      tuned("seeds: [0, 1], confirm_seeds: [10, 11], extend: 2", "[1, 2]", {"stacks.muon.matrix.lr=[0.01, 0.02]"});
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    const auto salt = random();
    const Loss loss = [salt](const Job& job) {  // any function of the job
      const auto bits = std::hash<std::string>{}(job.id + std::to_string(salt));
      return bits % 7 == 0 ? kInf : 2 + static_cast<double>(bits % 1000) / 1000;
    };
    const TuneResults all = run_all(spec, loss);
    TuneResults results;
    std::set<std::string> before;
    while (true) {
      const std::vector<Job> jobs = expand(spec, results);
      std::set<std::string> now;
      std::vector<std::string> waiting;
      for (const Job& job : jobs) {
        now.insert(job.id);
        if (!results.contains(job.id)) waiting.push_back(job.id);
      }
      EXPECT_TRUE(std::includes(now.begin(), now.end(), before.begin(), before.end()));
      before = now;
      if (waiting.empty()) break;
      const std::string& next = waiting[random() % waiting.size()];
      results[next] = all.at(next);
    }
    EXPECT_EQ(results.size(), all.size());
    EXPECT_EQ(ids_of(expand(spec, results), "confirm"), ids_of(expand(spec, all), "confirm"));
    EXPECT_LE(static_cast<std::int64_t>(expand(spec, all).size()), count_jobs(spec));
  }
}

TEST(Tune, ABaselineWithFewerTrialsIsNamed) {
  const SweepSpec spec = tuned("confirm_seeds: [10]", "[1, 2]", {"stacks.muon.matrix.lr=[0.01, 0.02]"});
  EXPECT_THAT(
      tuning_notes(make_plan(spec).tunings),
      ElementsAre("the baseline adamw on qwen3-nano has 2 trials and muon has 4: give the baseline at least as many"));
  const SweepSpec fair = tuned("confirm_seeds: [10]", "[1, 2]", {"stacks.adamw.default.lr=[1e-3, 3e-3, 9e-3]"});
  EXPECT_THAT(tuning_notes(make_plan(fair).tunings), IsEmpty());
}

// A grid that grew is no reason to change the sweep file: it grew by a rule that is the baseline's, too.
TEST(TuneExtend, TrialsByWhichAGridGrewAreNoFaultOfTheBaselines) {
  const SweepSpec spec = tuned("confirm_seeds: [10], extend: 2");
  const Loss loss = [](const Job& job) { return bowl(job.stack == "muon" ? 2.6 : 1)(job); };
  EXPECT_THAT(tuning_notes(make_plan(spec, run_all(spec, loss)).tunings),
              ElementsAre("the baseline adamw on qwen3-nano has 3 trials and muon has 5, 2 of them by tune.extend: the same "
                          "rule for every stack, so the sweep file needs no change"));
  // Where the file names more of them, that is what is said, in the file's numbers.
  const SweepSpec unfair = tuned("confirm_seeds: [10], extend: 1", "[1, 2, 4]", {"stacks.muon.matrix.beta=[0.9, 0.95]"});
  EXPECT_THAT(
      tuning_notes(make_plan(unfair, run_all(unfair, bowl(1))).tunings),
      ElementsAre("the baseline adamw on qwen3-nano has 3 trials and muon has 6: give the baseline at least as many"));
}

TEST(Tune, OnlySelectsAPhase) {
  const SweepSpec spec = tuned("confirm_seeds: [10]", "[1, 2]");
  const std::vector<Job> jobs = expand(spec, run_all(spec, bowl(0)));
  EXPECT_THAT(of_phase(select(spec, jobs, {"phase=confirm,stack=muon"}), "confirm"), ElementsAre("muon x1 s10"));
  EXPECT_EQ(select(spec, jobs, {"phase=tune"}).size(), 4U);
  EXPECT_THROW(select(spec, jobs, {"phase=confrim"}), UsageError);
  EXPECT_THROW(select(read_sweep(kSmallSweep, "f"), jobs, {"phase=tune"}), UsageError);
}

TEST(Tune, ManyJobsAreRefusedBeforeTheyAreExpanded) {
  EXPECT_THAT(errors_of(changed(kGridLine,
                                "grid: {model: qwen3-nano, lr_scale: {log: [0.1, 1, 1000]}}\n"
                                "tune: {seeds: {range: [0, 99999]}, confirm_seeds: [100000]}")),
              HasSubstr("200000002 jobs: model 1 x stack 2 x lr_scale 1000 x seed 100000"));
}

}  // namespace test_tune
}  // namespace equisweep
