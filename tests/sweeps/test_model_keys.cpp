// Keys of a sweep file that concern models: init_from, train.router, train.recompute, log.router, log.weights.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "tests/support/temp_folder.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_model_keys {

using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kGolden = fs::path(EQUISWEEP_SOURCE_DIR) / "tests/golden/hf";

std::string sweep(const std::string& grid, const std::string& train, const std::string& rest = "") {
  return "version: 1\nname: small\ndata: {corpus: synthetic, seq_len: 16, batch_tokens: 64}\ntrain: {steps: 10" + train +
         "}\ngrid: {" + grid + "}\nstacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}\n" + rest;
}

std::vector<Job> jobs_of(const std::string& text) { return expand(read_sweep(text, "f")); }

TEST(RouterKeys, AreLeftOutOfJobsThatHaveNoRouter) {
  const std::string grid = "model: [qwen3-nano, olmoe-nano]";
  const auto plain = jobs_of(sweep(grid, ""));
  const auto with =
      jobs_of(sweep(grid, ", router: {balance_loss: 0.01, z_loss: 1e-3}", "log: {router: {every: 3}, spectral: {}}\n"));
  ASSERT_EQ(with.size(), 2u);
  EXPECT_EQ(with[0].config.at("train"), plain[0].config.at("train"));
  EXPECT_EQ(with[0].config.at("log"), json::parse(R"({"spectral": {"every": 100, "exact_all": false, "exact_every": 100,
                                                                   "of": ["weight", "update"]}})"));
  EXPECT_EQ(with[1].config.at("train").at("router"), json::parse(R"({"balance_loss": 0.01, "z_loss": 0.001})"));
  EXPECT_EQ(with[1].config.at("log").at("router"), json::parse(R"({"every": 3})"));
}

// What is off is no part of a job: the runs are the same, not only their losses.
TEST(RouterKeys, SwitchedOffIsTheJobWithoutThem) {
  const std::string grid = "model: olmoe-nano";
  const std::string id = jobs_of(sweep(grid, ""))[0].id;
  EXPECT_EQ(jobs_of(sweep(grid, ", router: {balance_loss: 0}"))[0].id, id);
  EXPECT_EQ(jobs_of(sweep(grid, ", router: {balance_loss: 0, z_loss: 0.0}, recompute: false"))[0].id, id);
  EXPECT_NE(jobs_of(sweep(grid, ", router: {z_loss: 1e-4}"))[0].id, id);
  EXPECT_NE(jobs_of(sweep(grid, ", recompute: true"))[0].id, id);
  EXPECT_EQ(jobs_of(sweep(grid, ", kernels: fused"))[0].id, id);
  EXPECT_NE(jobs_of(sweep(grid, ", kernels: reference"))[0].id, id);
}

struct Case {
  const char* name;
  std::string text, message;
};

class RefusedModelKey : public ::testing::TestWithParam<Case> {};

TEST_P(RefusedModelKey, IsRefusedWithItsPlace) { expect_message(errors_of(GetParam().text), GetParam().message); }

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedModelKey,
    ::testing::Values(
        Case{"router_terms_nobody_uses", sweep("model: [qwen3-nano, gemma3-nano]", ", router: {z_loss: 1e-3}"),
             "f:4:20: train.router: no model of the sweep has a router; allowed: only beside models with experts, e.g. "
             "olmoe-nano"},
        Case{"zero_terms_nobody_uses", sweep("model: qwen3-nano", ", router: {}"),
             "f:4:20: train.router: no model of the sweep has a router; allowed: only beside models with experts, e.g. "
             "olmoe-nano"},
        Case{"router_log_nobody_uses", sweep("model: qwen3-nano", "", "log: {router: {}}\n"),
             "f:7:7: log.router: no model of the sweep has a router; allowed: only beside models with experts, e.g. "
             "olmoe-nano"},
        Case{"negative_coefficient", sweep("model: olmoe-nano", ", router: {balance_loss: -1}"),
             "f:4:43: train.router.balance_loss: -1 is out of range; allowed: a number >= 0"},
        Case{"unknown_term", sweep("model: olmoe-nano", ", router: {balance: 1}"),
             "f:4:29: train.router: unknown key 'balance'; allowed: balance_loss, z_loss"},
        Case{"recompute_as_number", sweep("model: olmoe-nano", ", recompute: 1"),
             "f:4:31: train.recompute: 1 is not true or false; allowed: true or false"},
        Case{"weights_of_every_step", sweep("model: olmoe-nano", "", "log: {weights: all}\n"),
             "f:7:16: log.weights: 'all' is unknown; allowed: one of: final"},
        Case{"no_folder", sweep("", "", "init_from: nowhere\n"),
             "f:7:12: init_from: nowhere: is no folder; one with config.json and model.safetensors is expected"}));

std::string from(const std::string& folder, const std::string& grid, const std::string& rest = "") {
  return sweep(grid, "", "init_from: " + (kGolden / folder).string() + "\n" + rest);
}

TEST(InitFrom, FolderSaysWhatTheModelIs) {
  const SweepSpec spec = read_sweep(from("olmoe-a", "lr_scale: [1, 2]"), "f");
  ASSERT_EQ(spec.models.size(), 1u);
  EXPECT_EQ(spec.models[0].name, "olmoe-a");
  EXPECT_TRUE(spec.models[0].has_role(Role::router));
  const auto jobs = expand(spec);
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].config.at("model").at("architecture"), "olmoe");
  EXPECT_EQ(jobs[0].config.at("model").at("vocab"), 89);
  EXPECT_EQ(jobs[0].config.at("init_from").at("path"), (kGolden / "olmoe-a").string());
  EXPECT_EQ(jobs[0].config.at("init_from").at("content").get<std::string>().size(), 32u);
}

TEST(InitFrom, ContentIsPartOfTheJob) {
  const TempFolder temp;
  const fs::path folder = temp / "weights";
  const auto id = [&] { return jobs_of(sweep("", "", "init_from: " + folder.string() + "\n"))[0].id; };
  fs::copy(kGolden / "qwen3-a", folder);
  const std::string first = id();
  EXPECT_EQ(id(), first);
  // Another spelling of config.json is the same model.
  fs::copy_file(folder / "config.v4.json", folder / "config.json", fs::copy_options::overwrite_existing);
  EXPECT_EQ(id(), first);
  // The last byte belongs to the sign and exponent of some weight.
  std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const char byte = static_cast<char>(file.get() ^ 0x80);
  file.seekp(-1, std::ios::end);
  file.put(byte);
  file.close();
  EXPECT_NE(id(), first);
}

TEST(InitFrom, RefusesWhatItMakesUseless) {
  EXPECT_EQ(errors_of(from("qwen3-a", "seed: [0, 1]")),
            "f:5:8: grid.seed: has no effect, because init_from gives the initial weights; allowed: no grid.seed");
  const auto seed_of = [](const std::string& where, const std::string& name) {
    return where + ": " + name + ".seed: has no effect, because init_from gives the initial weights; allowed: no " + name +
           ".seed";
  };
  EXPECT_EQ(errors_of(from("qwen3-a", "", "zip: {seed: [0, 1]}\n")), seed_of("f:8:7", "zip"));
  EXPECT_EQ(errors_of(from("qwen3-a", "", "include: [{lr_scale: 2}, {seed: 1}, {lr_scale: 4, seed: 2}]\n")),
            seed_of("f:8:27", "include") + "\n" + seed_of("f:8:51", "include"));
  EXPECT_EQ(errors_of(from("qwen3-a", "", "include: [{lr_scale: 2}]\n")), "");
  EXPECT_EQ(errors_of(from("qwen3-a", "", "model: {layers: 3}\n")),
            "f:8:1: model: has no effect, because init_from says what the model is; allowed: no key 'model'");
}

TEST(InitFrom, NamedModelMustBeThatOfTheFolder) {
  const std::string same = "model: {vocab: 97, d: 32, layers: 2, heads: 4, kv_heads: 2, head_dim: 16, ff: 56}\n";
  EXPECT_EQ(errors_of(from("qwen3-a", "model: qwen3-nano", same)), "");
  const std::string other =
      "model: {vocab: 97, d: 32, layers: 2, heads: 4, kv_heads: 2, head_dim: 16, ff: 60, tied: true}\n";
  EXPECT_EQ(
      errors_of(from("qwen3-a", "model: qwen3-nano", other)),
      "f:5:8: grid.model: qwen3-nano is not the model of init_from: ff 56, here 60; tied false, here true; allowed: no "
      "grid.model: init_from says what the model is");
}

}  // namespace test_model_keys
}  // namespace equisweep
