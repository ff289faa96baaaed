// From a sweep to its jobs: how many, in which order, with which configs.

#include "sweeps/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_plan {

using nlohmann::json;

std::vector<Job> jobs_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  return expand(read_sweep(text, "f", sets));
}

const std::string kDemo = std::string(EQUISWEEP_SOURCE_DIR) + "/sweeps/examples/demo.yaml";

TEST(Plan, EveryExampleIsASweep) {
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(kDemo).parent_path())) {
    const SweepSpec spec = read_sweep_file(file.path());
    const SweepPlan plan = make_plan(spec);
    const auto known = static_cast<std::int64_t>(plan.jobs.size()), all = known + summarize(spec, plan).to_confirm;
    const std::int64_t growth = spec.tune ? spec.tune->extend * 2 : 0;  // of two stacks with one rate and one seed
    EXPECT_EQ(count_jobs(spec), all + growth) << file.path();
    for (const Job& job : plan.jobs) EXPECT_EQ(job.id, job_id(job.config)) << file.path();
    ++files;
  }
  EXPECT_GE(files, 1);
}

TEST(Plan, TheReferenceSweepIsOneStill) {
  const SweepSpec spec = read_sweep_file(std::string(EQUISWEEP_SOURCE_DIR) + "/results/reference/kjv-2026/sweep.yaml");
  EXPECT_EQ(make_plan(spec).jobs.size(), 4U * 5 * 3);  // models, stacks, learning rates on the one seed that tunes
}

TEST(Plan, TheDemoHasEighteenDifferentJobs) {
  const SweepSpec spec = read_sweep_file(kDemo);
  const std::vector<Job> jobs = expand(spec);
  const PlanSummary summary = summarize(spec, make_plan(spec));
  EXPECT_EQ(summary.jobs, 18);
  EXPECT_EQ(summary.unique, 18);
  EXPECT_EQ(summary.models.at(0).parameters, 188864);
  EXPECT_EQ(summary.tokens_per_run, 250 * 2048);
  EXPECT_EQ(summary.tokens, 18. * 250 * 2048);
}

// Against loops written out by hand.
TEST(Plan, IsTheProductOfItsAxesInAFixedOrder) {
  const std::string text = changed("rule: muon, lr: 0.02", "rule: muon, lr: [0.01, 0.02], beta: [0.9, 0.95, 0.98]");
  const std::vector<Job> jobs = jobs_of(text, {"grid.model=[qwen3-nano, qwen3-tiny]"});
  std::size_t at = 0;
  for (const std::int64_t seed : {0, 1})
    for (const std::string model : {"qwen3-nano", "qwen3-tiny"})
      for (const std::string stack : {"adamw", "muon"})
        for (const double lr : {0.01, 0.02})
          for (const double beta : {0.9, 0.95, 0.98}) {
            if (stack == "adamw" && (lr != 0.01 || beta != 0.9)) continue;
            for (const double scale : {1., 2.}) {
              ASSERT_LT(at, jobs.size());
              const Job& job = jobs[at++];
              EXPECT_EQ(job.seed, seed);
              EXPECT_EQ(job.config.at("seed"), seed);
              EXPECT_EQ(job.model, model);
              EXPECT_EQ(job.stack, stack);
              EXPECT_EQ(job.baseline, stack == "adamw");
              EXPECT_EQ(job.lr_scale, scale);
              const json& entries = job.config.at("stack");
              EXPECT_EQ(entries.at("default").at("lr"), 0.003 * scale);
              EXPECT_EQ(job.id, job_id(job.config));
              if (stack == "adamw") {
                EXPECT_EQ(job.axes, json::object());
                continue;
              }
              EXPECT_EQ(job.axes, (json{{"matrix.lr", lr}, {"matrix.beta", beta}}));
              EXPECT_EQ(entries.at("matrix").at("lr"), lr * scale);
              EXPECT_EQ(entries.at("matrix").at("beta"), beta);
            }
          }
  EXPECT_EQ(at, jobs.size());
  EXPECT_EQ(count_jobs(read_sweep(text, "f", std::vector<std::string>{"grid.model=[qwen3-nano, qwen3-tiny]"})),
            static_cast<std::int64_t>(jobs.size()));
}

TEST(Plan, TheConfigHasWhatDecidesTheResultAndNothingElse) {
  const Job job = jobs_of(kSmallSweep).at(2);
  std::vector<std::string> keys;
  for (const auto& [key, value] : job.config.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"data", "log", "model", "schedule", "seed", "stack", "stop", "train"}));
  EXPECT_EQ(job.config.dump().find("small"), std::string::npos);
}

std::vector<std::string> ids(const std::vector<Job>& jobs) {
  std::vector<std::string> result;
  for (const Job& job : jobs) result.push_back(job.id);
  return result;
}

TEST(Plan, IdsDependOnMeaningOnly) {
  const auto expected = ids(jobs_of(kSmallSweep));
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"name: small", "name: large\nnotes: something else"},
           {"lr: 3e-3", "lr: 0.003"},
           {"steps: 10", "steps: 1e1"},
           {"{rule: adamw, lr: 3e-3}", "{lr: 3e-3, betas: [0.9, 0.95], rule: adamw}"},
           {"  muon:\n", "  \"muon\":  # comment\n"},
           {"seed: [0, 1]", "seed: {range: [0, 1]}"},
           {"lr_scale: [1, 2]", "lr_scale: {log2: [1, 2]}"},
           {"  muon:\n    default: {rule: adamw, lr: 3e-3}\n", "  muon:\n    extends: adamw\n"}})
    EXPECT_EQ(ids(jobs_of(changed(from, to))), expected) << to;
  std::string renamed = kSmallSweep;
  renamed.replace(renamed.find("muon]"), 4, "mine").replace(renamed.find("  muon:"), 7, "  mine:");
  EXPECT_EQ(ids(jobs_of(renamed)), expected);
}

TEST(Plan, IdsChangeWithEverySetting) {
  std::set<std::string> seen = {jobs_of(kSmallSweep).at(0).id};
  std::size_t expected = 1;
  for (const char* set : {"data.corpus=kjv",
                          "data.seq_len=32",
                          "data.batch_tokens=128",
                          "data.seed=2",
                          "data.target_offset=2",
                          "train.steps=11",
                          "train.precision=bf16",
                          "train.grad_clip=0",
                          "train.eval.every=6",
                          "train.eval.tokens=65",
                          "schedule.type=cosine",
                          "schedule.warmup=1",
                          "grid.model=qwen3-tiny",
                          "grid.lr_scale=[3, 2]",
                          "grid.seed=7",
                          "stacks.adamw.default.lr=0.0031",
                          "stacks.adamw.default.eps=1e-9",
                          "stacks.adamw.default.weight_decay=0.1",
                          "stacks.adamw.default.betas=[0.9, 0.96]",
                          "model.layers=3",
                          "log.spectral.every=2",
                          "stop.nonfinite=false",
                          "stop.loss_above={value: 9}",
                          "stop.loss_above={value: 9, after: 2}"}) {
    seen.insert(jobs_of(kSmallSweep, {set}).at(0).id);
    EXPECT_EQ(seen.size(), ++expected) << set;
  }
}

TEST(Plan, CellsWithTheSameConfigShareAnId) {
  // lr 0.1 at scale 3 is what lr 0.3 is at scale 1, although 0.1 * 3 is not 0.3 in binary.
  const SweepSpec spec =
      read_sweep(kSmallSweep, "f",
                 std::vector<std::string>{"stacks.muon.default={rule: adamw, lr: [0.1, 0.3]}",
                                          "stacks.muon.matrix.lr=[0.1, 0.3]", "grid.lr_scale=[1, 3]", "grid.seed=0"});
  const std::vector<Job> jobs = expand(spec);
  EXPECT_EQ(jobs.size(), 10U);
  EXPECT_EQ(summarize(spec, make_plan(spec)).unique, 9);  // (0.1, 0.1) at scale 3 = (0.3, 0.3) at scale 1
}

TEST(Plan, TooManyJobsAreRefusedBeforeAnythingIsExpanded) {
  const std::vector<std::string> thousand = {"grid.seed={range: [0, 9999]}", "grid.lr_scale={log: [0.1, 1, 1000]}",
                                             "stacks.muon.matrix.lr={log: [0.1, 1, 1000]}"};
  EXPECT_EQ(errors_of(kSmallSweep, thousand),
            "f:5:1: 10010000000 jobs: model 1 x stack 2 x lr_scale 1000 x seed 10000, with the axes muon.matrix.lr 1000; "
            "allowed: at most 100000");
  std::vector<std::string> endless = thousand;
  for (const char* option : {"beta={log: [0.1, 0.9, 10000]}", "weight_decay={log: [0.1, 0.9, 10000]}"})
    endless.push_back("stacks.muon.matrix." + std::string(option));
  endless.push_back("stacks.muon.default.lr={log: [0.1, 1, 10000]}");
  EXPECT_EQ(errors_of(kSmallSweep, endless).substr(0, 43), "f:5:1: more than 9e18 jobs: model 1 x stack");
}

TEST(Plan, LearningRatesThatLeaveTheRangeOfADoubleAreRefused) {
  for (const char* set : {"grid.lr_scale=1e308", "grid.lr_scale=1e-320"}) {
    const SweepSpec spec = read_sweep(
        kSmallSweep, "f", std::vector<std::string>{set, "stacks.muon.matrix.lr=1e-5", "stacks.muon.default.lr=1e5"});
    EXPECT_THROW(expand(spec), UsageError) << set;
  }
}

// A step that keeps a negative share of the old weight is refused for the rate that is used, not for the one that is
// written.
TEST(Plan, LearningRatesThatTurnTheSignOfAWeightAreRefused) {
  const auto errors = [](const std::vector<std::string>& sets) -> std::string {
    try {
      make_plan(read_sweep(kSmallSweep, "f", sets));
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(errors({"stacks.muon.matrix.weight_decay=25"}), "");  // 2 * 0.02 * 25 = 1
  EXPECT_EQ(errors({"stacks.muon.matrix.weight_decay=40"}),
            "f:10:13: stacks.muon.matrix: lr 0.02 times lr_scale 2: rule muon: lr 0.04 with weight_decay 40 keeps "
            "-0.6000000000000001 of the old weight and so turns its sign; allowed: lr * weight_decay <= 1; lr <= 1 with "
            "constrained");
  EXPECT_EQ(errors({"stacks.muon.matrix.weight_decay=40", "exclude=[{stack: muon, lr_scale: 2}]"}), "");
  const std::vector<std::string> scion = {"stacks.muon.matrix={rule: scion, constrained: true, lr: 0.6}"};
  EXPECT_THAT(errors(scion), ::testing::HasSubstr("lr 0.6 times lr_scale 2: rule scion: lr 1.2 with constrained keeps"));
  EXPECT_THAT(errors({"stacks.muon.default.weight_decay=200", "stacks.muon.matrix.weight_decay=40"}),
              ::testing::AllOf(::testing::HasSubstr("f:9:14: stacks.muon.default"),
                               ::testing::HasSubstr("f:10:13: stacks.muon.matrix")));
}

TEST(Plan, SaysWhatAChangedFileDoesToItsJobs) {
  const std::vector<Job> before = jobs_of(kSmallSweep);
  EXPECT_TRUE(plan_changes(before, jobs_of(changed("name: small", "name: large"))).empty());
  EXPECT_TRUE(plan_changes({}, before).empty());
  const auto changes = [&](const std::vector<std::string>& sets) {
    std::vector<std::string> lines = plan_changes(before, jobs_of(kSmallSweep, sets));
    for (std::string& line : lines) line.resize(line.find_last_of(':'));  // ids follow
    return lines;
  };
  using Lines = std::vector<std::string>;
  EXPECT_EQ(changes({"train.steps=11", "stacks.muon.matrix.beta=0.9"}),
            (Lines{"4 jobs are retired and others take their places, because of stack.matrix.beta, train.steps",
                   "4 jobs are retired and others take their places, because of train.steps"}));
  EXPECT_EQ(changes({"stop.loss_above.value=9"}),
            (Lines{"8 jobs are retired and others take their places, because of stop.loss_above"}));
  EXPECT_EQ(changes({"grid.seed=[0, 1, 2]"}), (Lines{"4 jobs are new"}));
  EXPECT_EQ(changes({"grid.lr_scale=2"}), (Lines{"4 jobs are retired, because the sweep has their points no longer"}));
}

TEST(Plan, DifferencesAreNamedByPath) {
  const json a =
      json::parse(R"({"seed": 0, "train": {"steps": 10, "eval": {"every": 5}}, "betas": [0.9, 0.95], "one": {"x": 1}})");
  const auto change = [&](const char* pointer, const json& value) {
    json b = a;
    b[json::json_pointer(pointer)] = value;
    return difference(a, b);
  };
  using Paths = std::vector<std::string>;
  EXPECT_EQ(difference(a, a), Paths{});
  EXPECT_EQ(change("/seed", 0.0), Paths{});  // one spelling of a number
  EXPECT_EQ(change("/seed", 1), Paths{"seed"});
  EXPECT_EQ(change("/train/eval/every", 6), Paths{"train.eval.every"});
  EXPECT_EQ(change("/train/eval/tokens", 6), Paths{"train.eval.tokens"});
  EXPECT_EQ(change("/betas/1", 0.99), Paths{"betas"});
  EXPECT_EQ(change("/one", 1), Paths{"one"});
  EXPECT_EQ(difference(a, json::object()), (Paths{"betas", "one", "seed", "train"}));
}

// A file that was cut while it was written fails or means the same, provided that a required key closes it; a file that ends
// with an optional one can lose that one unseen.
TEST(Plan, AFileCutAnywhereFailsOrMeansTheSame) {
  const std::size_t grid = kSmallSweep.find("grid:"), stacks = kSmallSweep.find("stacks:");
  const std::string text =
      kSmallSweep.substr(0, grid) + kSmallSweep.substr(stacks) + kSmallSweep.substr(grid, stacks - grid);
  const auto whole = ids(jobs_of(text));
  EXPECT_EQ(whole, ids(jobs_of(kSmallSweep)));
  int read = 0;
  for (std::size_t length = 0; length < text.size(); ++length) {
    std::vector<std::string> cut;
    try {
      cut = ids(jobs_of(text.substr(0, length)));
    } catch (const UsageError&) {
      continue;
    }
    EXPECT_EQ(cut, whole) << text.substr(0, length);
    ++read;
  }
  EXPECT_EQ(read, 1);  // without its last line end
}

}  // namespace test_plan
}  // namespace equisweep
