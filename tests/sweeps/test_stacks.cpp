// `stacks:` of sweep files: entries, options, inheritance, axes.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "sweeps/plan.h"
#include "tests/sweeps/sweep_text.h"

namespace equisweep {
namespace test_stacks {

using nlohmann::json;

/// A sweep of one model with these stacks and one seed.
std::string with_stacks(const std::string& stacks, const std::string& grid = "") {
  return "version: 1\nname: x\ntrain: {steps: 7}\ngrid: {model: qwen3-nano" + grid + "}\nstacks:\n" + stacks;
}

struct Case {
  const char* name;
  std::string stacks;
  std::string message;
};

class MalformedStack : public ::testing::TestWithParam<Case> {};

TEST_P(MalformedStack, IsRefusedWithItsPlace) {
  expect_message(errors_of(with_stacks(GetParam().stacks)), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Table, MalformedStack,
    ::testing::Values(
        Case{"no_map", "  a: adamw\n",
             "f:6:6: stacks.a: 'adamw' is not a map; allowed: a map with the keys: baseline, extends, default, vector, ..."},
        Case{"name", "  a.b: {default: {rule: adamw, lr: 1}}\n",
             "f:6:3: 'a.b' cannot be the name of a stack; allowed: letters, digits, _ and -, at most 60"},
        Case{"no_entry", "  a: {baseline: true}\n",
             "f:6:3: stacks.a: no entry; allowed: at least one of: default, vector, ..."},
        Case{"unknown_entry", "  a: {default: {rule: adamw, lr: 1}, head: {rule: adamw, lr: 1}}\n",
             "f:6:38: stacks.a: unknown key 'head'; allowed: baseline, extends, default, vector, ..."},
        Case{"entry_no_map", "  a: {default: adamw}\n",
             "f:6:16: stacks.a.default: 'adamw' is not a map; allowed: a map like {rule: adamw, lr: 3e-3}"},
        Case{"no_rule", "  a: {default: {lr: 1}}\n",
             "f:6:16: key 'stacks.a.default.rule' is missing; allowed: one of: adamw, ..."},
        Case{"unknown_rule", "  a: {default: {rule: adamwx, lr: 1}}\n",
             "f:6:23: stacks.a.default.rule: 'adamwx' is unknown; allowed: ...; did you mean "
             "'adamw'?"},
        Case{"no_lr", "  a: {default: {rule: adamw}}\n",
             "f:6:16: stacks.a.default: rule adamw: key 'lr' is missing; allowed: a number > 0..."},
        Case{"lr_nan", "  a: {default: {rule: adamw, lr: nan}}\n",
             "f:6:34: 'nan' is not a finite number; allowed: finite numbers, or text in quotes"},
        Case{"lr_text", "  a: {default: {rule: adamw, lr: fast}}\n",
             "f:6:34: stacks.a.default.lr: 'fast' is not a number; allowed: a number > 0..."},
        Case{"lr_negative", "  a: {default: {rule: adamw, lr: [0.1, -1]}}\n",
             "f:6:40: stacks.a.default.lr: -1 is out of range; allowed: a number > 0..."},
        Case{"lr_twice", "  a: {default: {rule: adamw, lr: [0.1, 1e-1]}}\n",
             "f:6:40: stacks.a.default.lr: 1e-1 stands in the list twice; allowed: each value once"},
        Case{"unknown_option", "  a: {default: {rule: adamw, lr: 1, beta: 0.9}}\n",
             "f:6:37: stacks.a.default: unknown option 'beta' of rule adamw; allowed: rule, lr, weight_decay, view, betas, "
             "eps; did you mean 'betas'?"},
        Case{"unknown_nested_option",
             "  a: {default: {rule: adamw, lr: 1}, matrix: {rule: muon, lr: 1, polar: {stpes: 3}}}\n",
             "f:6:74: stacks.a.matrix.polar: unknown option 'stpes' of rule muon; allowed: method, steps, precision, "
             "coefficients, safety, damping; did you mean 'steps'?"},
        Case{"options_that_clash",
             "  a: {default: {rule: adamw, lr: 1}, matrix: {rule: muon, lr: 1, polar: {method: svd, steps: 3}}}\n",
             "f:6:46: stacks.a.matrix: polar: 'steps' has no effect with method svd; allowed: method, precision"},
        Case{"list_too_short", "  a: {default: {rule: adamw, lr: 1, betas: [0.9]}}\n",
             "f:6:44: stacks.a.default.betas: a list of 1 is given where 2 belong; allowed: a list of 2 numbers..."},
        Case{"option_of_one_rule_only", "  a: {default: {rule: [adamw, sgd], lr: 1, betas: [0.9, 0.95]}}\n",
             "f:6:44: stacks.a.default: unknown option 'betas' of rule sgd; allowed: rule, lr, weight_decay, view, ..."},
        Case{"unclaimed_role", "  a: {matrix: {rule: muon, lr: 1}}\n",
             "f:6:3: stacks.a on qwen3-nano: stack: no entry claims embedding, vector, lm_head (roles found: embedding, "
             "vector, lm_head, attention_q, attention_k, attention_v, attention_o, mlp_gate, mlp_up, mlp_down; entries "
             "named: matrix); allowed: every role is claimed, by an entry of its own or by 'default'"},
        Case{"matrix_rule_on_vectors", "  a: {default: {rule: muon, lr: 1}}\n",
             "f:6:3: stacks.a on qwen3-nano: stack: entry 'default': muon is a rule for matrices and cannot serve role "
             "vector; allowed: a separate entry 'vector' with another rule"},
        Case{"entry_for_nothing", "  a: {default: {rule: adamw, lr: 1}, router: {rule: row_norm, lr: 1}}\n",
             "f:6:46: stacks.a.router: no weight of any model of the sweep is left for this entry; allowed: entries for the "
             "roles of the models: attention_k, attention_o, attention_q, attention_v, embedding, lm_head, mlp_down, "
             "mlp_gate, mlp_up, vector"},
        Case{"entry_that_others_cover",
             "  a: {default: {rule: adamw, lr: 1}, matrix: {rule: muon, lr: 1}, attention: {rule: muon, lr: 1}, mlp: {rule: "
             "muon, lr: 1}}\n",
             "f:6:46: stacks.a.matrix: no weight of any model of the sweep is left for this entry; allowed: entries for the "
             "roles of the models: attention_k, attention_o, attention_q, attention_v, embedding, lm_head, mlp_down, "
             "mlp_gate, mlp_up, vector"},
        Case{"extends_nothing", "  a: {extends: b, default: {rule: adamw, lr: 1}}\n",
             "f:6:16: stacks.a.extends: 'b' is no stack of this file, and no named one; allowed: one of: a, "
             "builtin/adamw...; did "
             "you mean 'a'?"},
        Case{"extends_itself", "  a: {extends: a}\n",
             "f:6:3: extends goes round in a circle: a -> a; allowed: a stack that does not lead back here"},
        Case{"circle", "  a: {extends: b, baseline: true}\n  b: {extends: c}\n  c: {extends: a}\n",
             "f:6:3: extends goes round in a circle: a -> b -> c -> a; allowed: a stack that does not lead back here"},
        Case{"no_baseline", "  a: {default: {rule: adamw, lr: 1}}\n  b: {default: {rule: adamw, lr: 2}}\n",
             "f:5:1: none of the 2 stacks that run are marked baseline; allowed: baseline: true in exactly one of them, "
             "with which the report compares the others"},
        Case{"two_baselines",
             "  a: {baseline: true, default: {rule: adamw, lr: 1}}\n  b: {baseline: true, default: {rule: adamw, lr: 2}}\n",
             "f:5:1: 2 of the 2 stacks that run are marked baseline; allowed: baseline: true in exactly one of them, with "
             "which the report compares the others"},
        Case{"baseline_as_text", "  a: {baseline: always, default: {rule: adamw, lr: 1}}\n",
             "f:6:17: stacks.a.baseline: 'always' is not true or false; allowed: true or false"},
        Case{"unknown_generator", "  a: {default: {rule: adamw, lr: {pow: [1, 2]}}}\n",
             "f:6:35: stacks.a.default.lr: unknown rule for a list 'pow'; allowed: a value, a list, {log2: [a, b]}, {log: "
             "[a, b, n]} or {range: [a, b]}"},
        Case{"generator_arguments", "  a: {default: {rule: adamw, lr: {log2: [1, 3]}}}\n",
             "f:6:41: stacks.a.default.lr: log2 needs 0 < a <= b, and b = a, 2a, 4a, ...; allowed: a value, a list, {log2: "
             "[a, b]}, {log: [a, b, n]} or {range: [a, b]}"},
        Case{"generator_too_long", "  a: {default: {rule: adamw, lr: {range: [1, 1000000000000]}}}\n",
             "f:6:42: stacks.a.default.lr: 1000000000000 values; at most 100000 can stand in a list; allowed: a value, a "
             "list, {log2: [a, b]}, {log: [a, b, n]} or {range: [a, b]}"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Stacks, CenteredRulesAreRefusedWhereAShiftIsNoSymmetry) {
  const auto text = [](const char* entry) {
    return with_stacks("  a: {default: {rule: adamw, lr: 1}, " + std::string(entry) +
                       ": {rule: row_norm, lr: 1, centered: [false, true]}}\n");
  };
  EXPECT_EQ(errors_of(text("lm_head")), "");
  EXPECT_EQ(errors_of(text("embedding")).substr(0, 76),
            "f:6:3: stacks.a on qwen3-nano: stack: entry 'embedding': centered cannot ser");
  EXPECT_EQ(errors_of(text("embedding") + "model: {tied: true}\n").substr(0, 76),
            "f:6:3: stacks.a on qwen3-nano: stack: entry 'embedding': centered cannot ser");
}

TEST(Stacks, StacksThatDoNotRunNeedNotFitTheModels) {
  const std::string stacks = "  a: {default: {rule: adamw, lr: 1}}\n  b: {extends: a, router: {rule: row_norm, lr: 1}}\n";
  EXPECT_EQ(errors_of(with_stacks(stacks, ", stack: a")), "");
  EXPECT_NE(errors_of(with_stacks(stacks, ", stack: b")), "");
}

json stack_of(const std::string& stacks, const std::string& name) {
  const SweepSpec spec = read_sweep(with_stacks(stacks, ", stack: " + name), "f");
  return expand(spec).at(0).config.at("stack");
}

TEST(Stacks, ExtendsReplacesEntriesWithARuleAndOverlaysThoseWithout) {
  const std::string stacks =
      "  base:\n    default: {rule: adamw, lr: 1, eps: 1e-6}\n    matrix: {rule: muon, lr: 2, beta: 0.8, polar: {steps: "
      "3}}\n"
      "  child: {extends: base, default: {rule: adamw, lr: 3}, matrix: {lr: 4}}\n"
      "  grandchild: {extends: child, lm_head: {rule: row_norm, lr: 5}}\n";
  const json child = stack_of(stacks, "child"), grandchild = stack_of(stacks, "grandchild");
  EXPECT_EQ(child.at("default").at("eps"), 1e-8);  // a new rule starts from the defaults
  EXPECT_EQ(child.at("default").at("lr"), 3);
  EXPECT_EQ(child.at("matrix").at("lr"), 4);  // without a rule, only what is named changes
  EXPECT_EQ(child.at("matrix").at("beta"), 0.8);
  EXPECT_EQ(child.at("matrix").at("polar").at("steps"), 3);
  EXPECT_EQ(grandchild.at("lm_head").at("lr"), 5);
  json without = grandchild;
  without.erase("lm_head");
  EXPECT_EQ(without, child);
}

TEST(Stacks, ParentsMayComeLater) {
  EXPECT_EQ(stack_of("  child: {extends: base, lm_head: {rule: row_norm, lr: 5}}\n  base: {default: {rule: adamw, lr: 1}}\n",
                     "child")
                .size(),
            2U);
}

TEST(Stacks, BaselineIsNotInherited) {
  const SweepSpec spec = read_sweep(
      with_stacks("  a: {baseline: true, default: {rule: adamw, lr: 1}}\n  b: {extends: a, default: {lr: 2}}\n"), "f");
  EXPECT_TRUE(spec.stacks[0].baseline);
  EXPECT_FALSE(spec.stacks[1].baseline);
}

TEST(Stacks, ListsAreAxesUnlessTheOptionItselfIsAList) {
  const SweepSpec spec =
      read_sweep(with_stacks("  a:\n    default: {rule: adamw, lr: 1, betas: [[0.9, 0.95], [0.9, 0.99]]}\n"
                             "    matrix: {rule: [muon, sgd], lr: {log: [0.1, 10, 3]}}\n    lm_head: {rule: adamw, lr: 1, "
                             "betas: [0.8, 0.9]}\n"),
                 "f");
  const std::vector<Job> jobs = expand(spec);
  ASSERT_EQ(jobs.size(), 12U);
  EXPECT_EQ(jobs[0].axes, json::parse(R"({"default.betas": [0.9, 0.95], "matrix.lr": 0.1, "matrix.rule": "muon"})"));
  EXPECT_EQ(jobs[1].axes.at("matrix.lr"), 1);
  EXPECT_EQ(jobs[11].axes, json::parse(R"({"default.betas": [0.9, 0.99], "matrix.lr": 10.0, "matrix.rule": "sgd"})"));
  EXPECT_EQ(jobs[11].config.at("stack").at("matrix").at("rule"), "sgd");
  EXPECT_EQ(jobs[0].config.at("stack").at("lm_head").at("betas"), json::parse("[0.8, 0.9]"));
}

TEST(Stacks, NestedOptionsAreAxesToo) {
  const SweepSpec spec = read_sweep(with_stacks("  a:\n    default: {rule: adamw, lr: 1}\n    matrix: {rule: muon, lr: 1, "
                                                "polar: {method: newton_schulz, steps: [3, 5]}}\n"),
                                    "f");
  const std::vector<Job> jobs = expand(spec);
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(jobs[1].axes, json::parse(R"({"matrix.polar.steps": 5})"));
  EXPECT_EQ(jobs[0].config.at("stack").at("matrix").at("polar").at("steps"), 3);
}

}  // namespace test_stacks
}  // namespace equisweep
