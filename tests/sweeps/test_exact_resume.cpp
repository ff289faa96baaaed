// A run that is continued from the checkpoint of any of its steps ends bitwise where the uninterrupted run ends: weights,
// optimizer state, training losses and validation losses, for every rule, every way to a polar factor, every architecture
// and precision.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "analysis/diagnostics/diagnostics.h"
#include "core/error.h"
#include "core/fault_point.h"
#include "core/field.h"
#include "tests/optimizers/variants.h"
#include "tests/sweeps/training_fixture.h"

namespace equisweep::testing {
namespace test_exact_resume {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Trains `config` once without checkpoints, once with one after every step, and then on from each of those.
void expect_exact_resume(const json& config) {
  SmallRun plain(config);
  const SmallRun::Attempt uninterrupted = plain.train(kNoCheckpoints);
  ASSERT_EQ(uninterrupted.outcome.state, RunState::done) << uninterrupted.outcome.message;
  const Curve losses = curve_of(plain.run_db(), "SELECT step, loss FROM steps");
  const Curve evals = curve_of(plain.run_db(), "SELECT step, loss FROM evals");
  ASSERT_EQ(losses.size(), static_cast<std::size_t>(kResumeSteps));
  ASSERT_EQ(evals.size(), 4u);
  std::set<std::uint64_t> distinct;
  for (const auto& [step, loss] : losses) distinct.insert(loss);
  ASSERT_EQ(distinct.size(), losses.size()) << "the loss stands still, so it shows nothing";

  SmallRun run(config);
  expect_same_state(run.train(kEveryStep).state, uninterrupted.state);
  for (std::int64_t from = 1; from < kResumeSteps; ++from) {
    SCOPED_TRACE(fmt::format("resumed after step {}", from));
    const SmallRun::Attempt attempt = run.train(kNoCheckpoints, from);
    ASSERT_EQ(attempt.resumed, from);
    EXPECT_EQ(attempt.outcome.state, RunState::done);
    expect_same_state(attempt.state, uninterrupted.state);
    const std::string own = fmt::format("WHERE attempt = {}", run.attempts);
    Curve later_losses = losses, later_evals = evals;
    std::erase_if(later_losses, [&](const auto& point) { return point.first <= from; });
    std::erase_if(later_evals, [&](const auto& point) { return point.first <= from; });
    EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM steps " + own), later_losses);
    EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM evals " + own), later_evals);
    EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM loss_curve"), losses);
    EXPECT_EQ(curve_of(run.run_db(), "SELECT step, loss FROM eval_curve"), evals);
    if (::testing::Test::HasFailure()) return;
  }
}

json stack_with(const json& matrix) { return {{"default", stack_entry("adamw")}, {"matrix", matrix}}; }

/// Every rule, and for those that take polar factors every method.
std::vector<json> rules_and_methods() {
  std::vector<json> result;
  for (const RuleInfo& rule : rules()) {
    const std::string name(rule.name);
    result.push_back(stack_entry(name));
    if (!find_field(rule.fields, "polar")) continue;
    for (const PolarMethod& method : polar_methods())
      if (const auto entry = accepted({{"rule", name}, {"lr", 0.01}, {"polar", {{"method", method.name}}}});
          entry && std::find(result.begin(), result.end(), *entry) == result.end())
        result.push_back(*entry);
  }
  return result;
}

std::string case_name(const json& entry) {
  std::string name = entry.at("rule");
  if (entry.contains("polar")) name += "_" + entry.at("polar").at("method").get<std::string>();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

class ExactResumeOfRule : public ::testing::TestWithParam<json> {};
TEST_P(ExactResumeOfRule, FromEveryStep) {
  expect_exact_resume(small_job("qwen3-nano", kSmallDimensions, stack_with(GetParam())));
}
INSTANTIATE_TEST_SUITE_P(Table, ExactResumeOfRule, ::testing::ValuesIn(rules_and_methods()),
                         [](const auto& p) { return case_name(p.param); });

using ModelAndPrecision = std::tuple<std::string, std::string>;
class ExactResumeOfModel : public ::testing::TestWithParam<ModelAndPrecision> {};
TEST_P(ExactResumeOfModel, FromEveryStep) {
  const auto& [model, precision] = GetParam();
  json stack = {{"default", stack_entry("adamw")}, {"matrix", stack_entry("muon")}, {"embedding", stack_entry("row_norm")}};
  const json config = resolve_model(model, json::object());
  if (!config.value("tie_embeddings", false)) stack["lm_head"] = stack_entry("row_norm", {{"centered", true}});
  if (config.contains("experts")) stack["router"] = stack_entry("left_polar", {{"centered", true}});
  std::set<std::string> roles;
  for (const Param& p : describe_params(config)) roles.insert(std::string(name_of(p.role)));
  for (const char* role : {"embedding", "lm_head", "router"})
    if (!roles.contains(role)) stack.erase(role);
  json job = small_job(model, json::object(), stack, precision);
  job["log"]["spectral"] = complete(find_diagnostic("spectral").fields, {{"every", 3}}, "log");
  expect_exact_resume(job);
}
INSTANTIATE_TEST_SUITE_P(Table, ExactResumeOfModel,
                         ::testing::Combine(::testing::ValuesIn([] {
                                              std::vector<std::string> names;
                                              for (const Architecture& a : architectures())
                                                names.push_back(std::string(a.name) + "-nano");
                                              return names;
                                            }()),
                                            ::testing::Values("fp32", "bf16")),
                         [](const auto& p) {
                           std::string name = std::get<0>(p.param) + "_" + std::get<1>(p.param);
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

TEST(ExactResume, InDoublePrecision) {
  expect_exact_resume(small_job("qwen3-nano", kSmallDimensions, stack_with(stack_entry("muon")), "fp64"));
}

class Interrupted : public ::testing::Test {
 protected:
  Interrupted() { plain_state_ = plain_.train(kNoCheckpoints).state; }
  ~Interrupted() override { arm_faults(""); }

  std::string events(const SmallRun& run, const std::string& kind) const {
    const auto db = open_read_only(run.run_db());
    SQLite::Statement query(*db, "SELECT step || ': ' || message || char(10) FROM events WHERE kind = ?");
    query.bind(1, kind);
    std::string all;
    while (query.executeStep()) all += query.getColumn(0).getString();
    return all;
  }

  void expect_like_uninterrupted(const SmallRun& run, const SmallRun::Attempt& last) const {
    EXPECT_EQ(last.outcome.state, RunState::done) << last.outcome.message;
    expect_same_state(last.state, plain_state_);
    for (const char* view : {"loss_curve", "eval_curve"}) {
      const std::string sql = std::string("SELECT step, loss FROM ") + view;
      EXPECT_EQ(curve_of(run.run_db(), sql), curve_of(plain_.run_db(), sql)) << view;
    }
  }

  const json config_ = small_job("qwen3-nano", kSmallDimensions, stack_with(stack_entry("muon")));
  SmallRun plain_{config_};
  std::vector<NamedTensor> plain_state_;
};

// Dying is leaving run() by an exception: nothing more is written, and the rows after the checkpoint stay with their
// attempt.
TEST_F(Interrupted, DyingAtAnyStepAndAgainWithFewCheckpoints) {
  const CheckpointPolicy every_five = {.every = 5, .minutes = 0, .keep = 1};
  for (std::int64_t death = 1; death <= kResumeSteps; ++death) {
    SCOPED_TRACE(death);
    SmallRun run(config_);
    arm_faults(fmt::format("train.step:{0}=raise", death));
    EXPECT_THROW(run.train(every_five), Error);
    arm_faults("train.step:2=raise");  // the second attempt does not get far
    EXPECT_THROW(run.train(every_five), Error);
    arm_faults("");
    const SmallRun::Attempt last = run.train(every_five);
    EXPECT_EQ(last.resumed, death > 10 ? 10 : death > 5 ? 5 : 0);
    expect_like_uninterrupted(run, last);
    // The first attempt wrote every step before its death; those after the checkpoint do not count.
    const auto db = open_read_only(run.run_db());
    EXPECT_EQ(db->execAndGet("SELECT count(*) FROM steps WHERE attempt = 1").getInt64(), death - 1);
    EXPECT_EQ(db->execAndGet("SELECT count(*) FROM loss_curve JOIN live_attempts USING (run, attempt) "
                             "WHERE attempt = 1 AND step > until_step")
                  .getInt64(),
              0);
  }
}

// Asked at the n-th time that the trainer asks: before the first step, after each step, within each evaluation.
TEST_F(Interrupted, AskedToStopAtAnyMoment) {
  std::int64_t questions = 0;
  {
    TrainerHooks hooks;
    hooks.stop_requested = [&] { return ++questions < 0; };
    SmallRun(config_).train(kNoCheckpoints, 0, hooks);
  }
  EXPECT_GT(questions, kResumeSteps);
  const CheckpointPolicy rarely = {.every = 0, .minutes = 1e6, .keep = 2};
  for (std::int64_t n = 1; n <= questions; ++n) {
    SCOPED_TRACE(n);
    SmallRun run(config_);
    std::int64_t asked = 0;
    TrainerHooks hooks;
    hooks.stop_requested = [&] { return ++asked >= n; };
    const SmallRun::Attempt first = run.train(rarely, kResumeSteps, hooks);
    EXPECT_EQ(first.outcome.state, RunState::preempted);
    EXPECT_EQ(asked, n) << "it went on";
    const SmallRun::Attempt second = run.train(rarely, kResumeSteps, hooks);  // still asked to
    EXPECT_EQ(second.outcome.state, RunState::preempted);
    EXPECT_EQ(second.resumed, std::ssize(curve_of(run.run_db(), "SELECT step, loss FROM loss_curve")));
    expect_like_uninterrupted(run, run.train(rarely));
  }
}

TEST_F(Interrupted, WithoutCheckpointsItBeginsAnew) {
  SmallRun run(config_);
  TrainerHooks hooks;
  int asked = 0;
  hooks.stop_requested = [&] { return ++asked > 6; };
  EXPECT_EQ(run.train(kNoCheckpoints, kResumeSteps, hooks).outcome.state, RunState::preempted);
  EXPECT_FALSE(std::filesystem::exists(run.checkpoints()));
  expect_like_uninterrupted(run, run.train(kNoCheckpoints));
}

TEST_F(Interrupted, ACheckpointThatCannotBeWrittenDoesNotEndTheRun) {
  for (const char* kind : {"enospc", "eio"}) {
    SmallRun run(config_);
    arm_faults(fmt::format("checkpoint.sync:2={}", kind));
    const SmallRun::Attempt attempt = run.train({.every = 3, .minutes = 0, .keep = 5});
    arm_faults("");
    expect_like_uninterrupted(run, attempt);
    EXPECT_THAT(events(run, "warning"), HasSubstr("6: no checkpoint of step 6: "));
    EXPECT_FALSE(std::filesystem::exists(checkpoint_file(run.checkpoints(), 6)));
    EXPECT_TRUE(std::filesystem::exists(checkpoint_file(run.checkpoints(), 3)));
    EXPECT_TRUE(std::filesystem::exists(checkpoint_file(run.checkpoints(), 9)));
  }
}

TEST_F(Interrupted, AZombieWritesNoCheckpoint) {
  SmallRun run(config_);
  RunStore zombie(run.run_db(), job_id(config_), canonical(config_), {.attempt = 1, .started_at = "S"});
  Checkpointer checkpointer(run.checkpoints(), kEveryStep, zombie);
  Trainer trainer(config_, run.corpus, at::kCPU, zombie, {.checkpointer = &checkpointer});
  RunStore owner(run.run_db(), job_id(config_), canonical(config_), {.attempt = 2, .started_at = "S"});
  EXPECT_THROW(trainer.run({}), DatabaseError);
  EXPECT_FALSE(std::filesystem::exists(run.checkpoints()));
}

TEST_F(Interrupted, ADamagedCheckpointIsNeverUsedInPart) {
  SmallRun run(config_);
  arm_faults("train.step:8=raise");
  EXPECT_THROW(run.train({.every = 2, .minutes = 0, .keep = 3}), Error);
  arm_faults("");
  std::filesystem::resize_file(checkpoint_file(run.checkpoints(), 6),
                               std::filesystem::file_size(checkpoint_file(run.checkpoints(), 6)) - 1);
  const SmallRun::Attempt last = run.train(kNoCheckpoints);
  EXPECT_EQ(last.resumed, 4);
  expect_like_uninterrupted(run, last);
}

TEST_F(Interrupted, ACorpusThatWasReplacedIsNoticed) {
  SmallRun run(config_);
  arm_faults("train.step:4=raise");
  EXPECT_THROW(run.train(kEveryStep), Error);
  arm_faults("");
  run.corpus.info.digest = "another";
  EXPECT_THROW(run.train(kEveryStep), DataError);
}

/// What is not finite, and in which model.
using Spoilt = std::tuple<std::string, std::string>;
class NotFinite : public ::testing::TestWithParam<Spoilt> {
 protected:
  ~NotFinite() override { arm_faults(""); }
};

TEST_P(NotFinite, StopsBeforeTheUpdateAndKeepsTheStateBefore) {
  const auto& [model, fault] = GetParam();
  const json config = small_job(model, {{"vocab", 61}}, stack_with(stack_entry("muon")));
  SmallRun reference(config);
  reference.train(kEveryStep);
  const Checkpoint before = read_checkpoint(checkpoint_file(reference.checkpoints(), 6), job_id(config), reference.layout);
  SmallRun run(config);
  arm_faults(fault);
  const SmallRun::Attempt attempt = run.train({.every = 2, .minutes = 0, .keep = 2});
  arm_faults("");
  EXPECT_EQ(attempt.outcome.state, RunState::diverged);
  EXPECT_THAT(attempt.outcome.message, HasSubstr("at step 7"));
  expect_same_state(attempt.state, before.tensors);
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(run.checkpoints()))
    files.push_back(entry.path().filename().string());
  EXPECT_THAT(files, ElementsAre("step-000000006.ckpt"));
  expect_same_state(read_checkpoint(checkpoint_file(run.checkpoints(), 6), job_id(config), run.layout).tensors,
                    before.tensors);
}

INSTANTIATE_TEST_SUITE_P(Run, NotFinite,
                         ::testing::Combine(::testing::Values("qwen3-nano", "olmoe-nano"),
                                            ::testing::Values("train.loss:7=nan", "train.loss:7=inf", "train.gradient:7=nan",
                                                              "train.gradient:7=inf")),
                         [](const auto& p) {
                           std::string name = std::get<0>(p.param) + "_" + std::get<1>(p.param);
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

}  // namespace test_exact_resume
}  // namespace equisweep::testing
