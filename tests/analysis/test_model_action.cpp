// Actions on whole models: what they do to weights whose meaning is known, and that an audit finds the wrong ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/audit/groups.h"
#include "analysis/audit/model_audit.h"
#include "analysis/audit/shown.h"
#include "models/models.h"
#include "optimizers/rules.h"

namespace equisweep {
namespace test_model_action {

using nlohmann::json;

json small_config(const std::string& architecture) {
  json config = {{"architecture", architecture},
                 {"vocab", 12},
                 {"d", 8},
                 {"layers", 1},
                 {"heads", 4},
                 {"kv_heads", 2},
                 {"head_dim", 4}};
  if (architecture == "qwen3" || architecture == "gemma3") config["ff"] = 6;
  if (architecture == "olmoe" || architecture == "gpt_oss") {
    config.update({{"experts", 4}, {"top_k", 2}, {"expert_ff", 5}});
  }
  if (architecture == "gemma3" || architecture == "gpt_oss") config["window"] = 4;
  return complete_config(config);
}

AuditedModel audited(const std::string& architecture) {
  AuditedModel model;
  model.name = architecture;
  const json config = small_config(architecture);
  for (const auto& [key, value] : config.items()) model.fields.insert(key);
  model.make = [architecture](const json& overrides) {
    json changed = small_config(architecture);
    changed.update(overrides);
    return make_model(changed);
  };
  return model;
}

std::shared_ptr<const UpdateRule> rule(const std::string& name) {
  return make_rule(complete_entry({{"rule", name}, {"lr", 1}}));
}

ModelSubject subject(const std::string& name) {
  ModelSubject result;
  result.name = name;
  const auto own = rule(name);
  const auto of_vectors = own->coordinatewise() ? own : rule("sgd");
  for (const Role role : kRoles) result.uses[role] = {.rule = role == Role::vector ? of_vectors : own};
  return result;
}

const ModelFinding& cell(const ModelReport& report, const std::string& name, const std::string& action) {
  for (const ModelFinding& finding : report.findings)
    if (finding.subject == name && finding.action == action) return finding;
  throw std::runtime_error("no cell " + name + " " + action);
}

/// The rule with another claim.
struct Claiming : UpdateRule {
  std::shared_ptr<const UpdateRule> inner;
  Symmetry claim;
  Claiming(std::shared_ptr<const UpdateRule> rule_, Symmetry claim_) : inner(std::move(rule_)), claim(claim_) {}
  std::vector<std::string> slots() const override { return inner->slots(); }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    return inner->direction(gradient, state, block);
  }
  Symmetry symmetry() const override { return claim; }
  bool coordinatewise() const override { return inner->coordinatewise(); }
};

TEST(ModelAction, MovesWhatItsNameSays) {
  ClosedLoop loop(audited("gpt_oss"), json::object(), 1, 3);
  const ModelElement g = *model_action("neurons").draw(loop.shape(), 5);
  const Weights64 moved = loop.moved(g, loop.first());
  ASSERT_TRUE(loop.shape().interleaved);
  for (std::size_t i = 0; i < moved.size(); ++i) {
    const Param& param = loop.params()[i];
    const bool expert = param.name.find("experts.") != std::string::npos && !param.name.ends_with("down_proj_bias");
    EXPECT_EQ(!at::equal(moved[i], loop.first()[i]), expert) << param.name;
    if (!param.name.ends_with("experts.gate_up_proj")) continue;
    // Pairs stay together: column 2 j is the gate of the neuron whose up is 2 j + 1.
    const at::Tensor before = loop.first()[i], after = moved[i];
    const at::Tensor p = g.on.at({0, Space::neuron}).matrix;
    for (std::int64_t e = 0; e < before.size(0); ++e)
      for (std::int64_t j = 0; j < 5; ++j) {
        const std::int64_t from = p[e][j].argmax().item<std::int64_t>();
        for (const std::int64_t part : {0, 1})
          EXPECT_TRUE(at::equal(after[e].select(1, 2 * j + part), before[e].select(1, 2 * from + part)));
      }
  }
}

TEST(ModelAction, RenamesTokensAsItMovesTheirRows) {
  ClosedLoop loop(audited("qwen3"), json::object(), 1, 3);
  const ModelElement g = *model_action("vocabulary").draw(loop.shape(), 8);
  const Weights64 moved = loop.moved(g, loop.first());
  const at::Tensor names = act_on_tokens(g, at::arange(12));
  EXPECT_TRUE(at::equal(moved[0].index_select(0, names), loop.first()[0]));
  EXPECT_FALSE(at::equal(names, at::arange(12)));
}

TEST(ModelAction, QueriesFollowTheirKeysAndSinksTheirHeads) {
  ClosedLoop loop(audited("gpt_oss"), json::object(), 1, 3);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const ModelElement g = *model_action("heads").draw(loop.shape(), seed);
    const at::Tensor heads = g.on.at({0, Space::head}).matrix, keys = g.on.at({0, Space::key}).matrix;
    for (std::int64_t to = 0; to < 4; ++to) {
      const std::int64_t from = heads[to].argmax().item<std::int64_t>();
      // The first coordinate of the key head of `to` comes from that of `from`.
      EXPECT_EQ(keys[to / 2 * 4].argmax().item<std::int64_t>(), from / 2 * 4);
    }
  }
}

TEST(ModelAction, LeavesTheLossAloneIfNothingIsForgotten) {
  for (const std::string architecture : {"qwen3", "gemma3", "olmoe", "gpt_oss"}) {
    ClosedLoop loop(audited(architecture), json::object(), 1, 3);
    const double before = loop.loss(loop.first(), {}, {});
    for (const ModelAction& action : model_actions()) {
      const auto g = action.draw(loop.shape(), 4);
      if (!g) continue;
      const Weights64 moved = loop.moved(*g, loop.first());
      EXPECT_NEAR(loop.loss(moved, *g, {}), before, 1e-12 * before) << architecture << " " << action.name;
      // An element that leaves a weight out that it should move is no symmetry: the loss tells.
      for (std::size_t i = 0; i < moved.size(); ++i) {
        if (at::equal(moved[i], loop.first()[i]) || action.shift) continue;
        Weights64 forgotten = moved;
        forgotten[i] = loop.first()[i];
        EXPECT_GT(std::abs(loop.loss(forgotten, *g, {}) - before), 1e-9 * before)
            << architecture << " " << action.name << " without " << loop.params()[i].name;
      }
    }
  }
}

TEST(ModelAudit, AcquitsWhoKeepsAndConvictsWhoDoesNot) {
  ModelSubject liar = subject("row_norm");
  liar.name = "liar";
  const auto claims_all =
      std::make_shared<Claiming>(rule("row_norm"), Symmetry{Group::orthogonal, Group::orthogonal, false});
  for (auto& [role, use] : liar.uses)
    if (role != Role::vector) use.rule = claims_all;
  // A modest one: right, but it claims nothing.
  ModelSubject modest = subject("sgd");
  modest.name = "modest";
  const auto claims_nothing = std::make_shared<Claiming>(rule("sgd"), Symmetry{});
  for (auto& [role, use] : modest.uses) use.rule = claims_nothing;
  const ModelReport report = audit_models({audited("qwen3")}, {subject("sgd"), subject("adamw"), liar, modest},
                                          {.seed = 1, .steps = 6, .elements = 2, .threads = 2});
  EXPECT_FALSE(report.passed());
  for (const ModelFinding& finding : report.findings) {
    EXPECT_LT(finding.loss_change, kSameLoss) << finding.action;
    EXPECT_TRUE(finding.subject == "liar" || !finding.failed()) << finding.subject << " " << finding.action;
  }
  EXPECT_TRUE(cell(report, "sgd", "residual").claimed);
  EXPECT_LT(cell(report, "sgd", "residual").error, 1e-12);
  EXPECT_FALSE(cell(report, "adamw", "residual").claimed);
  EXPECT_GT(cell(report, "adamw", "residual").error, 0.1);
  EXPECT_TRUE(cell(report, "liar", "value_rotation").claimed);
  EXPECT_TRUE(cell(report, "liar", "value_rotation").failed());
  EXPECT_TRUE(cell(report, "liar", "head_shift").failed());
  EXPECT_FALSE(cell(report, "liar", "neurons").failed());
  EXPECT_FALSE(cell(report, "modest", "residual").claimed);
  EXPECT_EQ(cell(report, "modest", "residual").cell.verdict, Verdict::holds);
  for (const ModelBreak& b : report.breaks) EXPECT_TRUE(b.as_it_must) << b.action << " " << b.condition;
  EXPECT_EQ(report.breaks.size(), 6u);
}

/// The gradient until the last of three steps, which has no numbers; or, dead from the start, nothing.
struct Failing : UpdateRule {
  bool dead;
  explicit Failing(bool is_dead) : dead(is_dead) {}
  std::vector<std::string> slots() const override { return {}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    if (dead) return at::zeros_like(gradient);
    return ++state.step < 3 ? gradient : at::full_like(gradient, std::nan(""));
  }
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, false}; }
  bool coordinatewise() const override { return true; }
};

// Of one weight alone, so that every other weight of the model has its samples and keeps its symmetry.
TEST(ModelAudit, AWeightWithoutNumbersOrWithoutAnUpdateIsNotPassedOver) {
  for (const bool dead : {false, true}) {
    ModelSubject failing = subject("sgd");
    failing.name = "failing";
    failing.uses[Role::lm_head].rule = std::make_shared<Failing>(dead);
    const ModelReport report = audit_models({audited("qwen3")}, {subject("sgd"), subject("adamw"), failing},
                                            {.seed = 1, .steps = 3, .elements = 2, .threads = 2});
    std::int64_t claims = 0;
    for (const ModelFinding& finding : report.findings) {
      EXPECT_TRUE(finding.subject != "sgd" || !finding.failed()) << finding.action;
      if (finding.subject != "failing" || !finding.claimed) continue;
      ++claims;
      EXPECT_TRUE(finding.failed()) << finding.action << (dead ? " of a weight that stays" : " of a weight that is lost");
    }
    EXPECT_GT(claims, 8);
  }
}

TEST(ModelAudit, ALossThatIsNoNumberIsNotTheSameLoss) {
  ModelFinding finding;
  finding.claimed = true;
  finding.cell.verdict = Verdict::exact;
  EXPECT_FALSE(finding.failed());
  finding.loss_change = std::nan("");
  EXPECT_TRUE(finding.failed());
  EXPECT_EQ(cell_text(finding).substr(0, 11), "NO SYMMETRY");
}

TEST(ModelAudit, DoesNotDependOnTheThreads) {
  const auto run = [](std::int64_t threads) {
    return audit_models({audited("olmoe")}, {subject("sgd"), subject("adamw")},
                        {.seed = 2, .steps = 3, .elements = 2, .threads = threads});
  };
  const ModelReport a = run(1), b = run(3);
  ASSERT_EQ(a.findings.size(), b.findings.size());
  for (std::size_t i = 0; i < a.findings.size(); ++i) {
    EXPECT_EQ(a.findings[i].error, b.findings[i].error);
    EXPECT_EQ(a.findings[i].cell.floor, b.findings[i].cell.floor);
  }
}

}  // namespace test_model_action
}  // namespace equisweep
