// Every recorded update of tests/golden/optim/pure is reached through the real Optimizer within the tolerance of its
// sidecar.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "core/safetensors.h"
#include "optimizers/verify.h"
#include "support.h"
#include "tests/support/temp_folder.h"

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

using Tensors = std::map<std::string, at::Tensor>;

/// The results of a copy of one case whose sidecar and tensors were changed.
std::vector<ReplayResult> replayed(const std::string& id, const std::function<void(json&, Tensors&)>& edit) {
  const TempFolder folder;
  json sidecar = json::parse(std::ifstream(kGolden / "pure" / (id + ".json")));
  const SafetensorsFile original(kGolden / "pure" / (id + ".safetensors"));
  Tensors tensors;
  for (const std::string& name : original.names()) tensors[name] = original.tensor(name);
  edit(sidecar, tensors);
  const std::vector<NamedTensor> list(tensors.begin(), tensors.end());
  write_safetensors(folder / (id + ".safetensors"), list);
  std::ofstream(folder / (id + ".json")) << sidecar;
  return verify_recording(folder / (id + ".json"));
}

ReplayResult edited(const std::string& id, const std::function<void(json&)>& edit) {
  return replayed(id, [&](json& sidecar, Tensors&) { edit(sidecar); }).front();
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

// A NaN is past every tolerance, on whichever side it is, and infinite, so that tables show it.
TEST(Replay, WhatIsNotFiniteFails) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const std::string name : {"G1", "W0", "W1", "W3", "W5", "state.momentum"})
    for (const double value : {nan, infinity})
      for (const ReplayResult& result :
           replayed("muon_pe__24x8_gaussian", [&](json&, Tensors& t) { t.at(name).view(-1)[5] = value; })) {
        EXPECT_EQ(result.problem, "");
        EXPECT_EQ(result.verdict, ReplayVerdict::fail) << name << ' ' << value;
        EXPECT_EQ(result.error, infinity) << name << ' ' << value;
      }
  for (const ReplayResult& result : replayed("muon_pe__24x8_gaussian", [&](json&, Tensors& t) {
         for (const char* name : {"W1", "W2", "W3", "W4", "W5"}) t.at(name).fill_(nan);
       }))
    EXPECT_EQ(result.error, infinity);
}

TEST(Replay, ARecordingThatNothingIsComparedWithFails) {
  const auto results = replayed("muon_pe__24x8_gaussian", [](json& s, Tensors& tensors) {
    for (auto& [name, tensor] : tensors) tensor = tensor.to(at::kFloat);
    s["tolerance"] = {{"fp64", 1e-9}, {"fp32", nullptr}};
  });
  ASSERT_EQ(results.size(), 1U);
  EXPECT_EQ(results[0].verdict, ReplayVerdict::fail);
  EXPECT_THAT(results[0].problem, ::testing::HasSubstr("nothing is compared: tolerance is null for fp32"));
}

TEST(Replay, RecordedStateBelongsToTheRule) {
  const auto problem_of = [](const std::function<void(json&, Tensors&)>& edit) {
    const ReplayResult result = replayed("muon_pe__24x8_gaussian", edit).front();
    EXPECT_EQ(result.verdict, ReplayVerdict::fail);
    return result.problem;
  };
  const auto renamed = [](const std::string& name) {
    return [=](json&, Tensors& t) { t[name] = t.extract("state.momentum").mapped(); };
  };
  EXPECT_THAT(
      problem_of(renamed("state.momentun")),
      ::testing::HasSubstr("rule muon has no state 'momentun'; allowed: one of: momentum; did you mean 'momentum'?"));
  EXPECT_THAT(problem_of(renamed("momentum")), ::testing::HasSubstr("unknown tensor 'momentum'"));
  EXPECT_THAT(problem_of(renamed("W6")), ::testing::HasSubstr("unknown tensor 'W6'"));
  EXPECT_THAT(problem_of([](json&, Tensors& t) { t.at("state.momentum") = t.at("state.momentum").slice(0, 0, 1).clone(); }),
              ::testing::HasSubstr("state.momentum has not the shape of W0"));
  EXPECT_THAT(problem_of([](json& s, Tensors&) { s["layout"] = "heads_qkv", s["dims"]["heads"] = 5; }),
              ::testing::HasSubstr("[5 * h, d]"));
}

TEST(Replay, UnknownKeysOfASidecarAreRefused) {
  const auto problem = [](const std::function<void(json&)>& edit) { return edited("muon_pe__24x8_gaussian", edit).problem; };
  EXPECT_THAT(problem([](json& s) { s["tolerances"] = s["tolerance"]; }), ::testing::HasSubstr("unknown key 'tolerances'"));
  EXPECT_THAT(problem([](json& s) { s["tolerances"] = s["tolerance"]; }), ::testing::HasSubstr("did you mean 'tolerance'?"));
  EXPECT_THAT(problem([](json& s) { s["tolerance"]["fp16"] = 1; }), ::testing::HasSubstr("unknown key 'tolerance.fp16'"));
  EXPECT_THAT(problem([](json& s) { s["dims"]["head"] = 2; }), ::testing::HasSubstr("unknown key 'dims.head'"));
  EXPECT_THAT(problem([](json& s) { s["relation"] = "difers"; }), ::testing::HasSubstr("did you mean 'differs'?"));
  EXPECT_THAT(problem([](json& s) { s["kind"] = "publishd"; }), ::testing::HasSubstr("did you mean 'published'?"));
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
  EXPECT_THAT(problem([](json& s) {
                for (int i = 0; i < 64; ++i) s["options"]["deep"] = json::array({s["options"]["deep"]});
              }),
              ::testing::HasSubstr("nested more than 64 deep"));
  EXPECT_THAT(usage_error([] { verify_recordings(kGolden / "nowhere"); }), ::testing::HasSubstr("no folder"));
}

}  // namespace test_replay
}  // namespace equisweep
