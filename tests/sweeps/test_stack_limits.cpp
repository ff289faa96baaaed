// What `validate` finds in the stacks without expanding them: views that a layout lacks, options that clash in one of many
// settings, and files whose axes are long.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <algorithm>
#include <set>
#include <string>

#include "models/models.h"
#include "sweeps/file/stacks.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_stack_limits {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string sweep_of(const std::string& model, const std::string& stacks) {
  return "version: 1\nname: x\ntrain: {steps: 7}\ngrid: {model: " + model + "}\nstacks:\n" + stacks;
}

TEST(StackViews, AreRefusedWithTheirPlaceWhereALayoutLacksThem) {
  EXPECT_EQ(
      errors_of(sweep_of("qwen3-nano",
                         "  a: {default: {rule: adamw, lr: 1}, mlp_gate: {rule: muon, lr: 1, view: [natural, heads]}}\n")),
      "f:6:48: stacks.a.mlp_gate on qwen3-nano: model.layers.0.mlp.gate_proj.weight has layout matrix, which has no view "
      "'heads'; allowed: natural, whole, row, col");
  const std::string both =
      errors_of(sweep_of("olmoe-nano", "  a: {default: {rule: adamw, lr: 1}, experts: {rule: muon, lr: 1, view: heads}}\n"));
  EXPECT_THAT(both, HasSubstr("f:6:47: stacks.a.experts on olmoe-nano: model.layers.0.mlp.experts.gate_up_proj has layout "
                              "gate_up_stacked, which has no view 'heads'; allowed: natural, whole, split, pair"));
  EXPECT_THAT(both, HasSubstr("has layout experts_down, which has no view 'heads'"));
}

// The oracle is what the Optimizer does with each weight at the start of a job: core's own view of it.
TEST(StackViews, AreAcceptedExactlyWhereEveryWeightOfTheEntryHasThem) {
  for (const Architecture& architecture : architectures()) {
    const std::string model = fmt::format("{}-nano", architecture.name);
    const std::vector<Param> weights = describe_params(resolve_model(model, nlohmann::json::object()));
    std::set<std::string> entries = {"matrix"};
    for (const Param& weight : weights)
      if (weight.role != Role::vector) entries.emplace(name_of(weight.role));
    for (const std::string& entry : entries)
      for (const ViewKind view : {ViewKind::natural, ViewKind::whole, ViewKind::row, ViewKind::col, ViewKind::heads,
                                  ViewKind::split, ViewKind::pair}) {
        const auto lacks = [&](const Param& weight) {
          const auto claims = claims_on(weight.role);
          if (std::find(claims.begin(), claims.end(), entry) == claims.end()) return false;
          try {
            view_of(weight, view);
          } catch (const UsageError&) {
            return true;
          }
          return false;
        };
        const std::string errors = errors_of(
            sweep_of(model, fmt::format("  a: {{default: {{rule: adamw, lr: 1}}, {}: {{rule: muon, lr: 1, view: {}}}}}\n",
                                        entry, name_of(view))));
        EXPECT_EQ(errors != "", std::any_of(weights.begin(), weights.end(), lacks))
            << model << ' ' << entry << ' ' << name_of(view) << ' ' << errors;
      }
  }
}

struct Clash {
  const char* entry;  ///< options of an entry for matrices
  const char* message;
};

class SettingsOfAnEntry : public ::testing::TestWithParam<Clash> {};

// Of a list of numbers not every one is tried; what is refused in any setting is found all the same, and once.
TEST_P(SettingsOfAnEntry, AreJudgedTogether) {
  const auto& [entry, message] = GetParam();
  const std::string errors =
      errors_of(sweep_of("qwen3-nano", fmt::format("  a: {{default: {{rule: adamw, lr: 1}}, matrix: {{{}}}}}\n", entry)));
  if (*message == '\0') {
    EXPECT_EQ(errors, "");
  } else {
    EXPECT_THAT(errors, HasSubstr(message));
    EXPECT_LE(std::count(errors.begin(), errors.end(), '\n'), 3) << errors;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, SettingsOfAnEntry,
    ::testing::Values(
        Clash{"rule: scion, lr: 0.1, lmo: [row, col], normalized: true", ""},
        Clash{"rule: scion, lr: 0.1, lmo: [row, spectral], normalized: true",
              "'normalized' has no effect with lmo spectral"},
        Clash{"rule: scion, lr: 0.1, constrained: [false, true]", ""},
        Clash{"rule: scion, lr: 0.1, constrained: [false, true], weight_decay: [0, 0.1, 0.2]", "beside constrained"},
        Clash{"rule: scion, lr: [0.5, 1.5, 1], constrained: [false, true]", "lr 1.5 with constrained"},
        Clash{"rule: hybrid, lr: 0.1, alpha: [0.5, 0, 1, 2, 3, 4]", ""},
        Clash{"rule: hybrid, lr: 0.1, alpha: [0.5, 0, 0.25, 1, 1.5, 2, 3], order: [row_then_polar, polar_then_row]",
              "alpha has no effect"},
        Clash{"rule: muon, lr: 0.1, polar: {method: inv_sqrt, steps: [3, 12, 5]}", ""},
        Clash{"rule: muon, lr: 0.1, polar: {method: inv_sqrt, steps: [3, 13, 5]}", "13 steps of method inv_sqrt"},
        Clash{"rule: muon, lr: 0.1, polar: {steps: [2, 1, 3], coefficients: [1.5, -0.5, 0, 1.5, -0.5, 0]}",
              "coefficients for 2"},
        Clash{"rule: muon, lr: 0.1, polar: {safety: [2, 0.5, 3]}", "safety 0.5"},
        Clash{"rule: sgd, lr: [0.1, 5, 0.2], weight_decay: [0, 0.3, 0.1]", "lr 5 with weight_decay 0.3"},
        Clash{"rule: sgd, lr: [0.1, 5, 0.2], weight_decay: [0, 0.2, 0.1]", ""},
        Clash{"rule: muon, lr: {by_architecture: {qwen3: 1, gemma3: 2}}, weight_decay: [0.1, 0.7]",
              "lr 2 with weight_decay 0.7"}));

TEST(StackKinds, EveryLmoOfARuleIsJudgedOnVectors) {
  const auto text = [](const char* lmo) {
    return sweep_of("qwen3-nano", fmt::format("  a: {{default: {{rule: scion, lr: 0.1, lmo: {}}}}}\n", lmo));
  };
  EXPECT_EQ(errors_of(text("sign")), "");
  EXPECT_THAT(errors_of(text("[sign, spectral]")), HasSubstr("scion is a rule for matrices and cannot serve role vector"));
}

// A file of a few lines asks for as much as it likes; that it is too much is found without expanding any of it.
TEST(StackAxes, ManyLongOnesAreRefusedAsTooManyJobs) {
  std::string stacks = "  base: {baseline: true, default: {rule: adamw, lr: 1}}\n";
  for (int i = 0; i < 200; ++i)
    stacks += fmt::format("  s{}: {{default: {{rule: adamw, lr: {{log: [1e-5, 1, 10000]}}}}}}\n", i);
  EXPECT_THAT(errors_of(sweep_of("qwen3-nano", stacks)), StartsWith("f:4:1: 2000001 jobs: "));
}

std::vector<std::string> notes_of(const std::string& model, const std::string& train, const std::string& entry,
                                  const std::string& rest = "") {
  return stack_notes(read_sweep("version: 1\nname: x\ntrain: {steps: 7" + train + "}\ngrid: {model: " + model + "}\n" +
                                    rest + "stacks: {a: {default: {rule: adamw, lr: 1}, " + entry + "}}\n",
                                "f"));
}

TEST(StackNotes, SayWhatACentredRuleCannotFollow) {
  using ::testing::ElementsAre;
  using ::testing::IsEmpty;
  const std::string z_loss = ", router: {z_loss: 1e-3}", centered = ", centered: [false, true]}";
  const std::string router = "router: {rule: row_norm, lr: 1", head = "lm_head: {rule: row_norm, lr: 1";
  EXPECT_THAT(notes_of("olmoe-nano", z_loss, router + centered),
              ElementsAre(HasSubstr("a on olmoe-nano: a centred router cannot follow")));
  EXPECT_THAT(notes_of("olmoe-nano", z_loss, router + "}"), IsEmpty());
  EXPECT_THAT(notes_of("olmoe-nano", ", router: {balance_loss: 1e-3}", router + centered), IsEmpty());
  EXPECT_THAT(notes_of("gemma3-nano", "", head + centered, "model: {softcap: 30, tied: false}\n"),
              ElementsAre(HasSubstr("a on gemma3-nano: softcap 30")));
  EXPECT_THAT(notes_of("gemma3-nano", "", head + "}", "model: {softcap: 30, tied: false}\n"), IsEmpty());
  EXPECT_THAT(notes_of("gemma3-nano", "", head + centered, "model: {tied: false}\n"), IsEmpty());
}

}  // namespace test_stack_limits
}  // namespace equisweep
