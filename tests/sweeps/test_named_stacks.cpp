// The named stacks: each is complete for every architecture, with the rates that are reported for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "models/models.h"
#include "optimizers/optimizer.h"
#include "sweeps/file/stacks.h"
#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_named_stacks {

using nlohmann::json;
using ::testing::HasSubstr;

std::string extending(const std::string& stack, const std::string& model, const std::string& changes = "") {
  std::string text = changed("grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}",
                             "grid: {model: " + model + "}");
  text = text.substr(0, text.find("stacks:"));
  return text + "stacks: {ours: {extends: " + stack + changes + "}}\n";
}

json stack_of(const std::string& stack, const std::string& model) {
  const std::vector<Job> jobs = expand(read_sweep(extending(stack, model), "f"));
  EXPECT_EQ(jobs.size(), 1U) << stack;
  return jobs.at(0).config.at("stack");
}

TEST(NamedStacks, ServeEveryArchitectureWithoutAnEntryToSpare) {
  EXPECT_EQ(named_stacks().size(), 14U);
  for (const NamedStack& named : named_stacks())
    for (const Architecture& architecture : architectures()) {
      const std::string name = "builtin/" + std::string(named.name), model = std::string(architecture.name) + "-nano";
      const json stack = stack_of(name, model);
      std::vector<Role> roles;
      for (const Param& p : describe_params(resolve_model(model, json::object()))) roles.push_back(p.role);
      EXPECT_NO_THROW(assign_roles(stack, roles)) << name << " on " << model;
    }
}

TEST(NamedStacks, HaveASummaryAndStandInTheDocumentation) {
  std::ostringstream text;
  text << std::ifstream(std::string(EQUISWEEP_SOURCE_DIR) + "/docs/rules.md").rdbuf();
  for (const NamedStackInfo& info : describe_named_stacks()) {
    EXPECT_FALSE(info.summary.empty()) << info.name;
    EXPECT_THAT(text.str(), HasSubstr("| `" + info.name + "` | " + info.summary + " |"));
  }
}

// The table of the published runs: other / muon / embedding / lm_head / router.
TEST(NamedStacks, StartFromTheReportedRates) {
  struct Row {
    std::string architecture;
    double other, muon, embedding, lm_head;
  };
  for (const Row& row : {Row{"qwen3", 5e-2, 2e-2, 5e-1, 5e-3}, Row{"gemma3", 5e-2, 2e-2, 2.5e-3, 2.5e-3},
                         Row{"olmoe", 1e-2, 5e-3, 5e-1, 5e-3}, Row{"gpt_oss", 5e-3, 1e-3, 1e-1, 1e-3}}) {
    const json stack = stack_of("builtin/symmetry-full", row.architecture + "-nano");
    EXPECT_EQ(stack.at("default").at("lr"), row.other) << row.architecture;
    EXPECT_EQ(stack.at("matrix").at("lr"), row.muon);
    EXPECT_EQ(stack.at("embedding").at("lr"), row.embedding);
    EXPECT_EQ(stack.at("lm_head").at("lr"), row.lm_head);
    EXPECT_EQ(stack.at("matrix").at("weight_decay"), 1e-3);
    EXPECT_EQ(stack.at("embedding").at("weight_decay"), 0);
    EXPECT_EQ(stack.contains("router"), row.architecture == "olmoe" || row.architecture == "gpt_oss");
    if (stack.contains("router")) {
      EXPECT_EQ(stack.at("router").at("lr"), 7.5e-4);
      EXPECT_EQ(stack.at("router").at("centered"), true);
    }
  }
  const json qwen3 = stack_of("builtin/muon", "qwen3-nano"), gemma3 = stack_of("builtin/muon", "gemma3-nano");
  EXPECT_EQ(qwen3.at("embedding").at("lr"), 1e-1);
  EXPECT_EQ(qwen3.at("lm_head").at("lr"), 1e-3);
  EXPECT_EQ(gemma3.at("embedding").at("lr"), 5e-4);
  EXPECT_EQ(gemma3.at("lm_head").at("lr"), 5e-4);
}

TEST(NamedStacks, DoNotDecideTheIdByEntriesThatNoWeightUses) {
  const auto id = [](const std::string& stack) { return expand(read_sweep(extending(stack, "qwen3-nano"), "f"))[0].id; };
  EXPECT_EQ(id("builtin/router-row-norm"), id("builtin/muon"));  // qwen3 has no router
  EXPECT_NE(id("builtin/vocab-row-norm"), id("builtin/muon"));
}

TEST(NamedStacks, WhatTheFileChangesMustBeUsed) {
  EXPECT_EQ(errors_of(extending("builtin/muon", "olmoe-nano", ", router: {lr: 1e-3}")), "");
  EXPECT_THAT(errors_of(extending("builtin/muon", "qwen3-nano", ", router: {lr: 1e-3}")),
              HasSubstr("stacks.ours.router: no weight of any model of the sweep is left for this entry"));
  const json stack =
      expand(read_sweep(extending("builtin/muon", "qwen3-nano", ", matrix: {lr: 0.5}"), "f"))[0].config.at("stack");
  EXPECT_EQ(stack.at("matrix").at("lr"), 0.5);
  EXPECT_EQ(stack.at("matrix").at("rule"), "muon");
}

TEST(NamedStacks, AnUnknownOneIsRefusedWithTheNearest) {
  EXPECT_THAT(errors_of(extending("builtin/muom", "qwen3-nano")), HasSubstr("did you mean 'builtin/muon'?"));
}

TEST(ByArchitecture, GivesEachModelItsValue) {
  const std::string text = changed("grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}",
                                   "grid: {model: [qwen3-nano, gemma3-nano], stack: [adamw, muon]}");
  const std::string rates = [&] {
    std::string t = text;
    const std::string from = "rule: muon, lr: 0.02";
    return t.replace(t.find(from), from.size(), "rule: muon, lr: {by_architecture: {qwen3: 0.25, gemma3: 0.5}}");
  }();
  for (const Job& job : expand(read_sweep(rates, "f"))) {
    if (job.stack != "muon") continue;
    EXPECT_EQ(job.config.at("stack").at("matrix").at("lr"), job.model == "qwen3-nano" ? 0.25 : 0.5) << job.model;
  }
}

TEST(ByArchitecture, IsCheckedLikeOtherValues) {
  const auto with = [](const std::string& map) {
    return changed("rule: muon, lr: 0.02", "rule: muon, lr: {by_architecture: " + map + "}");
  };
  EXPECT_EQ(
      errors_of(with("{gemma3: 0.5}")),
      "f:10:13: stacks.muon.matrix.lr: no value for architecture qwen3; allowed: by_architecture: {..., qwen3: VALUE}");
  EXPECT_EQ(errors_of(with("{qwen: 0.5}")),
            "f:10:49: stacks.muon.matrix.lr.by_architecture: unknown architecture 'qwen'; allowed: a value for each of: "
            "qwen3, gemma3, olmoe, gpt_oss; did you mean 'qwen3'?");
  EXPECT_THAT(errors_of(with("{qwen3: fast}")),
              HasSubstr("stacks.muon.matrix.lr.by_architecture.qwen3: 'fast' is not a number"));
  EXPECT_THAT(errors_of(with("0.5")), HasSubstr("stacks.muon.matrix.lr.by_architecture: 0.5 is not a map of values"));
}

}  // namespace test_named_stacks
}  // namespace equisweep
