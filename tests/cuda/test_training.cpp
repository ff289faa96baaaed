// Training on a GPU: the losses of the CPU up to rounding, every diagnostic, and with train.deterministic the same bits
// again, also from a checkpoint.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <set>

#include "analysis/diagnostics/diagnostics.h"
#include "core/safetensors.h"
#include "sweeps/rerun.h"
#include "sweeps/worker.h"
#include "tests/cuda/gpu.h"
#include "tests/sweeps/training_fixture.h"

namespace equisweep::testing {
namespace test_training {

using nlohmann::json;

/// A job with every rule that a weight of the model may have, and every diagnostic.
json job(const std::string& model, const std::string& precision) {
  std::set<Role> roles;
  for (const Param& p : describe_params(resolve_model(model, {{"vocab", 64}}))) roles.insert(p.role);
  const bool experts = roles.contains(Role::router);
  json stack = {{"default", stack_entry("adamw")}, {"matrix", stack_entry("muon")}};
  if (roles.contains(Role::lm_head)) stack["lm_head"] = stack_entry("row_norm", {{"centered", true}});
  if (experts) stack["router"] = stack_entry("left_polar", {{"centered", true}});
  json result = small_job(model, {{"vocab", 64}}, stack, precision);
  for (const DiagnosticInfo& row : diagnostics()) {
    if (row.of_routers && !experts) continue;
    json given = {{"every", 2}};
    if (row.name == "spectral") given.update({{"of", {"weight", "update", "momentum", "gradient"}}, {"exact_every", 4}});
    if (row.name == "equivariance") given["groups"] = {"claimed", "rows.orthogonal"};
    result["log"][row.name] = complete(row.fields, given, "log");
  }
  return result;
}

json deterministic(json config) {
  config["train"]["deterministic"] = true;
  return config;
}

double number(std::uint64_t bits) { return std::bit_cast<double>(bits); }

/// Losses of every step and evaluation agree to `bound` of themselves.
void expect_near(const std::filesystem::path& ours, const std::filesystem::path& theirs, double bound) {
  for (const char* sql : {"SELECT step, loss FROM loss_curve", "SELECT step, loss FROM eval_curve",
                          "SELECT step, grad_norm FROM loss_curve"}) {
    const Curve a = curve_of(ours, sql), b = curve_of(theirs, sql);
    ASSERT_EQ(a.size(), b.size()) << sql;
    for (const auto& [step, bits] : b) {
      ASSERT_TRUE(a.contains(step)) << sql;
      EXPECT_LE(std::abs(number(a.at(step)) - number(bits)), bound * std::abs(number(bits))) << sql << ", step " << step;
    }
  }
}

/// What the diagnostics of a run have found, as rows of each table and the worst of what must hold.
void expect_diagnosed(const SmallRun& run) {
  const auto db = open_read_only(run.run_db());
  const auto count = [&](const std::string& what) { return db->execAndGet("SELECT count(*) FROM " + what).getInt64(); };
  const json& model = run.config.at("model");
  const std::int64_t measured = 7, layers = model.at("layers"), heads = model.at("heads");  // step 1 and six more
  EXPECT_EQ(count("logit_stats"), measured);
  EXPECT_EQ(count("attention_stats"), measured * layers * heads);
  EXPECT_EQ(count("equivariance"), 2 * (measured - 1));
  EXPECT_EQ(count("router_stats"), model.contains("experts") ? measured * layers : 0);
  EXPECT_GT(count("matrix_stats"), 0);
  EXPECT_EQ(count("equivariance WHERE claimed AND verdict IN ('inspect', 'broken')"), 0);
  EXPECT_EQ(count("matrix_stats WHERE abs(exact_norm / spectral_norm - 1) > 1e-4"), 0);
  for (const char* table : {"logit_stats", "attention_stats", "router_stats"})  // a weight of zeros has no stable rank
    EXPECT_EQ(count(fmt::format("{} WHERE nonfinite <> 0", table)), 0) << table;
}

class Training : public OnGpuWithParam<std::string> {
 protected:
  ~Training() override { at::globalContext().setDeterministicAlgorithms(false, false); }
};

// Twelve steps multiply what is rounded differently; a wrong formula is off by far more.
TEST_P(Training, HasTheLossesOfTheCpu) {
  for (const auto& [precision, bound] : {std::pair{"fp64", 1e-9}, std::pair{"fp32", 2e-3}}) {
    SCOPED_TRACE(precision);
    SmallRun ours(job(GetParam(), precision), kGpu), theirs(job(GetParam(), precision));
    EXPECT_EQ(ours.train(kNoCheckpoints).outcome.state, RunState::done);
    EXPECT_EQ(theirs.train(kNoCheckpoints).outcome.state, RunState::done);
    expect_near(ours.run_db(), theirs.run_db(), bound);
    expect_diagnosed(ours);
  }
}

TEST_P(Training, InBf16LearnsAsTheCpuDoes) {
  SmallRun ours(job(GetParam(), "bf16"), kGpu), theirs(job(GetParam(), "bf16"));
  EXPECT_EQ(ours.train(kNoCheckpoints).outcome.state, RunState::done);
  EXPECT_EQ(theirs.train(kNoCheckpoints).outcome.state, RunState::done);
  for (const char* sql : {"SELECT step, loss FROM loss_curve", "SELECT step, loss FROM eval_curve"}) {
    const Curve a = curve_of(ours.run_db(), sql), b = curve_of(theirs.run_db(), sql);
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [step, bits] : b) EXPECT_NEAR(number(a.at(step)), number(bits), 0.05 * number(bits)) << step;
  }
  expect_diagnosed(ours);
}

TEST_P(Training, DeterministicRepeatsAndResumesBitForBit) {
  for (const char* precision : {"fp32", "bf16"}) {
    SCOPED_TRACE(precision);
    const json config = deterministic(job(GetParam(), precision));
    SmallRun plain(config, kGpu), run(config, kGpu);
    const SmallRun::Attempt uninterrupted = plain.train(kNoCheckpoints);
    ASSERT_EQ(uninterrupted.outcome.state, RunState::done) << uninterrupted.outcome.message;
    const Curve losses = curve_of(plain.run_db(), "SELECT step, loss FROM loss_curve");
    ASSERT_EQ(losses.size(), static_cast<std::size_t>(kResumeSteps));
    expect_same_state(run.train(kEveryStep).state, uninterrupted.state);
    EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM loss_curve"), losses);
    for (const std::int64_t from : {std::int64_t{1}, std::int64_t{5}, kResumeSteps - 1}) {
      SCOPED_TRACE(fmt::format("resumed after step {}", from));
      const SmallRun::Attempt attempt = run.train(kNoCheckpoints, from);
      ASSERT_EQ(attempt.resumed, from);
      expect_same_state(attempt.state, uninterrupted.state);
      EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM loss_curve"), losses);
    }
    expect_diagnosed(plain);
  }
}

// A checkpoint does not know where it was made.
TEST_P(Training, GoesOnOnTheOtherDevice) {
  const json config = job(GetParam(), "fp64");
  SmallRun plain(config), run(config, kGpu);
  plain.train(kNoCheckpoints);
  run.train(kEveryStep);
  run.device = at::kCPU;
  EXPECT_EQ(run.train(kEveryStep, 6).resumed, 6);
  run.device = kGpu;
  EXPECT_EQ(run.train(kNoCheckpoints, 9).resumed, 9);
  expect_near(run.run_db(), plain.run_db(), 1e-9);
}

INSTANTIATE_TEST_SUITE_P(EveryArchitecture, Training,
                         ::testing::Values("qwen3-nano", "gemma3-nano", "olmoe-nano", "gpt_oss-nano"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name;
                         });

class WorkerOnGpu : public OnGpu {
 protected:
  ~WorkerOnGpu() override {
    at::globalContext().setDeterministicAlgorithms(false, false);
    at::globalContext().setFlushDenormal(false);
  }
};

// What `equisweep exec --device cuda:0` and `equisweep rerun --verify` do.
TEST_F(WorkerOnGpu, TrainsAJobAndItsRerunIsTheSame) {
  const TempFolder scratch;
  const std::filesystem::path run_dir = scratch.path() / "run", corpora = scratch.path() / "corpora";
  std::filesystem::create_directories(run_dir);
  json config = deterministic(job("olmoe-nano", "bf16"));
  config["log"]["weights"] = "final";
  std::ofstream(run_dir / "config.yaml") << config.dump();
  ASSERT_EQ(run_worker({.run_dir = run_dir, .corpora = corpora, .device = "cuda:0", .threads = 1}), ExitCode::ok);
  EXPECT_EQ(open_read_only(run_dir / "run.db")->execAndGet("SELECT device FROM attempts").getString(), "cuda:0");
  std::size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(run_dir))
    if (file.path().extension() == ".safetensors") {
      ++files;
      const SafetensorsFile weights(file.path());
      for (const std::string& name : weights.names())
        EXPECT_TRUE(at::isfinite(weights.tensor(name)).all().item<bool>()) << name;
    }
  EXPECT_EQ(files, 1U);
  const RerunResult again = rerun_job({.run_dir = run_dir, .corpora = corpora});
  EXPECT_TRUE(again.same());
  EXPECT_EQ(again.steps, kResumeSteps);
}

}  // namespace test_training
}  // namespace equisweep::testing
