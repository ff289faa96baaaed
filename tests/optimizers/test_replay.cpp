// Every recorded update of tests/golden/optim/pure is reached through the real Optimizer within the tolerance of its
// sidecar.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "optimizers/verify.h"
#include "support.h"

namespace equisweep {
namespace test_replay {

using namespace testing;
using nlohmann::json;
namespace fs = std::filesystem;

const fs::path kGolden = fs::path(EQUISWEEP_SOURCE_DIR) / "tests/golden/optim";

TEST(Replay, EveryPureRecordingIsReproduced) {
  std::set<std::string> rules_seen;
  std::size_t cases = 0;
  for (const ReplayResult& result : verify_recordings(kGolden / "pure")) {
    EXPECT_EQ(result.verdict, ReplayVerdict::pass) << result.id << ' ' << result.precision << ": error " << result.error
                                                   << ", tolerance " << result.tolerance << ' ' << result.problem;
    EXPECT_GT(result.tolerance, 0) << result.id;
    rules_seen.insert(result.rule);
    ++cases;
  }
  EXPECT_GT(cases, 2 * rules_seen.size());
  for (const RuleInfo& rule : rules()) EXPECT_TRUE(rules_seen.contains(std::string(rule.name))) << rule.name;
}

// The published code, run in fp64. How far we are from those that differ, and why, is the matter of test_deviations.cpp.
TEST(Replay, PublishedRecordingsAgreeWhereTheySayThatTheirFormulaIsOurs) {
  std::size_t equal = 0, different = 0;
  for (const ReplayResult& result : verify_recordings(kGolden / "published")) {
    EXPECT_EQ(result.problem, "") << result.id;
    const json sidecar = json::parse(std::ifstream(kGolden / "published" / (result.id + ".json")));
    const bool differs = sidecar.at("relation") == "differs";
    EXPECT_EQ(result.verdict, differs ? ReplayVerdict::differs : ReplayVerdict::pass)
        << result.id << ": error " << result.error << ", tolerance " << result.tolerance;
    ++(differs ? different : equal);
  }
  EXPECT_GT(equal, 20u);
  EXPECT_GT(different, 20u);
}

/// A copy of one case whose sidecar was changed by `edit`.
ReplayResult edited(const std::string& id, const std::function<void(json&)>& edit) {
  const fs::path folder = fs::path(::testing::TempDir()) / "equisweep_replay";
  fs::create_directories(folder);
  fs::copy_file(kGolden / "pure" / (id + ".safetensors"), folder / (id + ".safetensors"),
                fs::copy_options::overwrite_existing);
  json sidecar = json::parse(std::ifstream(kGolden / "pure" / (id + ".json")));
  edit(sidecar);
  std::ofstream(folder / (id + ".json")) << sidecar;
  return verify_recording(folder / (id + ".json")).front();
}

TEST(Replay, NoticesWrongOptionsAndLayouts) {
  const auto verdict = [](const std::string& id, const std::function<void(json&)>& edit) {
    return edited(id, edit).verdict;
  };
  EXPECT_EQ(verdict("muon_pe__24x8_gaussian", [](json&) {}), ReplayVerdict::pass);
  EXPECT_EQ(verdict("muon_pe__24x8_gaussian", [](json& s) { s["options"]["nesterov"] = false; }), ReplayVerdict::fail);
  EXPECT_EQ(verdict("muon_pe__24x8_gaussian", [](json& s) { s["options"]["polar"]["safety"] = 1.021; }),
            ReplayVerdict::fail);
  EXPECT_EQ(verdict("muon_pe__24x8_gaussian", [](json& s) { s["options"]["polar"]["coefficients"][4][2] = 0.4233; }),
            ReplayVerdict::fail);
  EXPECT_EQ(verdict("adamw_wd__12x12_tiny", [](json& s) { s["options"]["weight_decay"] = 0.1001; }), ReplayVerdict::fail);
  EXPECT_EQ(verdict("muon_split__olmoe_gate_up_3x10x6_gaussian", [](json& s) { s["options"]["view"] = "whole"; }),
            ReplayVerdict::fail);
  EXPECT_EQ(verdict("muon_pe__24x8_gaussian", [](json& s) { s["relation"] = "differs"; }), ReplayVerdict::differs);
}

TEST(Replay, FailsWithAReasonWhereACaseCannotBeReplayed) {
  const auto problem = [](const std::function<void(json&)>& edit) {
    const ReplayResult result = edited("muon_pe__24x8_gaussian", edit);
    EXPECT_EQ(result.verdict, ReplayVerdict::fail);
    return result.problem;
  };
  EXPECT_THAT(problem([](json& s) { s["rule"] = "muom"; }), ::testing::HasSubstr("did you mean 'muon'"));
  EXPECT_THAT(problem([](json& s) { s["options"]["beto"] = 1; }), ::testing::HasSubstr("'beto'"));
  EXPECT_THAT(problem([](json& s) { s["layout"] = "matrxi"; }), ::testing::HasSubstr("did you mean 'matrix'"));
  EXPECT_THAT(problem([](json& s) { s["options"]["polar"]["tiny"] = 1e-7; }), ::testing::HasSubstr("absolute 'tiny' 1e-07"));
  EXPECT_THAT(problem([](json& s) { s.erase("options"); }), ::testing::HasSubstr("options"));
  EXPECT_THAT(usage_error([] { verify_recordings(kGolden / "nowhere"); }), ::testing::HasSubstr("no folder"));
}

}  // namespace test_replay
}  // namespace equisweep
