#pragma once
// Small jobs that are trained within the test process.

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/data/corpus.h"
#include "core/database.h"
#include "core/field.h"
#include "core/run_store.h"
#include "models/models.h"
#include "optimizers/rules.h"
#include "optimizers/schedule.h"
#include "sweeps/checkpointer.h"
#include "sweeps/job.h"
#include "sweeps/trainer.h"
#include "sweeps/training_state.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {

inline constexpr std::int64_t kResumeSteps = 12;

/// The config of a job of kResumeSteps steps, with an evaluation every 4.
inline nlohmann::json small_job(const std::string& model, const nlohmann::json& dimensions, const nlohmann::json& stack,
                                const std::string& precision = "fp32") {
  return {
      {"data", {{"corpus", "synthetic"}, {"seq_len", 16}, {"batch_tokens", 32}, {"seed", 1}, {"target_offset", 1}}},
      {"log", nlohmann::json::object()},
      {"model", resolve_model(model, dimensions)},
      {"schedule", complete(schedule_fields(), {{"type", "wsd"}, {"warmup", 3}, {"decay", 0.5}}, "schedule")},
      {"seed", 3},
      {"stack", stack},
      {"stop", {{"nonfinite", true}}},
      {"train",
       {{"steps", kResumeSteps}, {"precision", precision}, {"grad_clip", 1.0}, {"eval", {{"every", 4}, {"tokens", 64}}}}}};
}

inline const nlohmann::json kSmallDimensions = {{"vocab", 61},   {"d", 16},       {"layers", 1}, {"heads", 2},
                                                {"kv_heads", 1}, {"head_dim", 8}, {"ff", 24}};

inline nlohmann::json stack_entry(const std::string& rule, nlohmann::json options = nlohmann::json::object()) {
  options["rule"] = rule;
  if (!options.contains("lr")) options["lr"] = 0.01;
  return complete_entry(options);
}

inline bool bitwise_equal(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

using Curve = std::map<std::int64_t, std::uint64_t>;  ///< bits of the loss by step

inline Curve curve_of(const std::filesystem::path& run_db, const std::string& sql) {
  const auto db = open_read_only(run_db);
  SQLite::Statement query(*db, sql);
  Curve result;
  while (query.executeStep())
    EXPECT_TRUE(
        result.emplace(query.getColumn(0).getInt64(), std::bit_cast<std::uint64_t>(query.getColumn(1).getDouble())).second);
  return result;
}

/// On the CPU.
inline std::vector<NamedTensor> copy_of(const std::vector<NamedTensor>& state) {
  std::vector<NamedTensor> result;
  for (const auto& [name, tensor] : state)
    result.emplace_back(name, tensor.to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
  return result;
}

inline void expect_same_state(const std::vector<NamedTensor>& a, const std::vector<NamedTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_TRUE(bitwise_equal(a[i].second, b[i].second)) << a[i].first;
  }
}

/// A run in a folder of its own, one attempt after the other.
class SmallRun {
 public:
  explicit SmallRun(nlohmann::json job, at::Device where = at::kCPU)
      : config(std::move(job)), device(where), layout(training_state_layout(config)) {
    // One corpus for all runs of a vocabulary: counting its tokens takes longer than the training.
    static std::map<std::int64_t, Corpus> corpora;
    const std::int64_t vocabulary = config.at("model").at("vocab");
    auto found = corpora.find(vocabulary);
    if (found == corpora.end()) found = corpora.emplace(vocabulary, open_corpus("synthetic", vocabulary, 1, "")).first;
    corpus = found->second;
  }

  /// One attempt that goes on from the newest checkpoint of at most `from` steps; what is left in memory at its end.
  struct Attempt {
    Outcome outcome;
    std::vector<NamedTensor> state;
    std::int64_t resumed = 0;
  };
  Attempt train(const CheckpointPolicy& policy, std::int64_t from = kResumeSteps, const TrainerHooks& hooks = {}) {
    const FoundCheckpoint found = find_checkpoint(checkpoints(), job_id(config), layout, from);
    Attempt result;
    result.resumed = found.checkpoint ? found.checkpoint->step : 0;
    RunStore store(run_db(), job_id(config), canonical(config),
                   {.attempt = ++attempts, .resume_step = result.resumed, .started_at = "S"});
    store.set_flush_interval(std::chrono::hours(1));
    Checkpointer checkpointer(checkpoints(), policy, store);
    Trainer trainer(config, corpus, device, store,
                    {.checkpointer = &checkpointer, .resume = found.checkpoint ? &*found.checkpoint : nullptr});
    result.outcome = trainer.run(hooks);
    result.state = copy_of(trainer.state());
    store.finish({.state = result.outcome.state, .message = result.outcome.message, .ended_at = "E"});
    return result;
  }

  std::filesystem::path run_db() const { return folder / "run.db"; }
  std::filesystem::path checkpoints() const { return folder / "ckpt"; }

  nlohmann::json config;
  at::Device device;  ///< of the next attempt
  std::vector<NamedTensor> layout;
  Corpus corpus;
  TempFolder folder;
  std::int64_t attempts = 0;
};

inline constexpr CheckpointPolicy kNoCheckpoints = {.every = 0, .minutes = 0, .keep = 1};
inline constexpr CheckpointPolicy kEveryStep = {.every = 1, .minutes = 0, .keep = kResumeSteps};

}  // namespace equisweep::testing
