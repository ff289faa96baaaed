// Diagnostics change nothing: every architecture, trained with all of them and with none, has the same losses and weights,
// bit for bit.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <bit>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "models/models.h"
#include "optimizers/rules.h"
#include "optimizers/schedule.h"
#include "sweeps/job.h"
#include "sweeps/trainer.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_diagnostics {

using nlohmann::json;

constexpr int kSteps = 12;

json job(const std::string& model, const json& log) {
  const auto entry = [](json options) { return complete_entry(options); };
  json config = {
      {"data", {{"corpus", "synthetic"}, {"seq_len", 32}, {"batch_tokens", 128}, {"seed", 1}, {"target_offset", 1}}},
      {"log", json::object()},
      {"model", resolve_model(model, {{"vocab", 64}})},
      {"schedule", complete(schedule_fields(), {{"type", "constant"}}, "schedule")},
      {"seed", 3},
      {"stack",
       {{"default", entry({{"rule", "adamw"}, {"lr", 1e-3}})},
        {"matrix", entry({{"rule", "muon"}, {"lr", 0.02}})},
        {"lm_head", entry({{"rule", "row_norm"}, {"lr", 0.01}, {"centered", true}})}}},
      {"stop", {{"nonfinite", true}}},
      {"train", {{"steps", kSteps}, {"precision", "bf16"}, {"grad_clip", 1.0}, {"eval", {{"every", 100}, {"tokens", 64}}}}}};
  for (const auto& [name, given] : log.items()) config["log"][name] = complete(find_diagnostic(name).fields, given, "log");
  return config;
}

struct Trained {
  std::vector<std::uint64_t> losses;
  std::string weights;
  std::map<std::string, std::int64_t> rows;
};

Trained train(const json& config) {
  const TempFolder folder;
  {
    RunStore store(folder / "run.db", job_id(config), canonical(config), {.attempt = 1, .started_at = "S"});
    Trainer trainer(config, open_corpus("synthetic", config.at("model").at("vocab"), 1, ""), at::kCPU, store);
    EXPECT_EQ(trainer.run({}).state, RunState::done);
    trainer.save_weights(folder / "weights.safetensors");
    store.flush();
  }
  Trained result;
  const auto db = open_read_only(folder / "run.db");
  SQLite::Statement query(*db, "SELECT loss FROM steps ORDER BY step");
  while (query.executeStep()) result.losses.push_back(std::bit_cast<std::uint64_t>(query.getColumn(0).getDouble()));
  for (const char* table :
       {"block_stats", "matrix_stats", "equivariance", "router_stats", "expert_load", "logit_stats", "attention_stats"})
    result.rows[table] = db->execAndGet(std::string("SELECT count(*) FROM ") + table).getInt64();
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM equivariance WHERE claimed AND verdict IN ('inspect', 'broken')").getInt(),
            0);
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM matrix_stats WHERE abs(exact_norm / spectral_norm - 1) > 1e-4").getInt(),
            0);
  EXPECT_EQ(db->execAndGet("SELECT count(*) FROM steps WHERE optimizer_seconds < 0 OR diagnostics_seconds < 0").getInt(), 0);
  std::ifstream file(folder / "weights.safetensors", std::ios::binary);
  result.weights.assign(std::istreambuf_iterator<char>(file), {});
  return result;
}

class Diagnostics : public ::testing::TestWithParam<const char*> {};

TEST_P(Diagnostics, ChangeNothing) {
  const std::string model = GetParam();
  const bool experts = model.starts_with("olmoe") || model.starts_with("gpt_oss");
  json all = json::object();
  for (const DiagnosticInfo& row : diagnostics())
    if (!row.of_routers || experts) all[row.name] = {{"every", 2}};
  all["spectral"]["of"] = {"weight", "update", "momentum", "gradient"};
  all["spectral"]["exact_every"] = 4;
  all["equivariance"]["groups"] = {"claimed", "rows.orthogonal"};
  const Trained with = train(job(model, all)), without = train(job(model, json::object()));
  ASSERT_EQ(with.losses.size(), static_cast<std::size_t>(kSteps));
  EXPECT_EQ(with.losses, without.losses);
  EXPECT_FALSE(with.weights.empty());
  EXPECT_EQ(with.weights, without.weights);
  for (const auto& [table, rows] : without.rows) EXPECT_EQ(rows, 0) << table;
  const std::int64_t layers = 2, heads = job(model, {}).at("model").at("heads"), measured = 7;  // step 1 and six more
  EXPECT_EQ(with.rows.at("logit_stats"), measured);
  EXPECT_EQ(with.rows.at("attention_stats"), measured * layers * heads);
  EXPECT_EQ(with.rows.at("equivariance"), 2 * (measured - 1));
  EXPECT_EQ(with.rows.at("router_stats"), experts ? measured * layers : 0);
  EXPECT_EQ(with.rows.at("matrix_stats") % measured, 0);
  EXPECT_GE(with.rows.at("matrix_stats"), 4 * with.rows.at("block_stats"));
}

INSTANTIATE_TEST_SUITE_P(EveryArchitecture, Diagnostics,
                         ::testing::Values("qwen3-nano", "gemma3-nano", "olmoe-nano", "gpt_oss-nano"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name;
                         });

}  // namespace test_diagnostics
}  // namespace equisweep
