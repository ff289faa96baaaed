// Saved state: named by weight, in the weight's shape, independent of banks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "optimizers/optimizer.h"
#include "variants.h"

namespace equisweep {
namespace test_optimizer_state {

using namespace testing;
using nlohmann::json;

std::vector<Param> weights(at::ScalarType dtype) {
  const Layout heads{LayoutKind::heads_columns, 2};
  return {make_param("gate.0", Role::mlp_gate, {}, gaussian({6, 4}, 1, dtype)),
          make_param("up.0", Role::mlp_up, {}, gaussian({6, 4}, 2, dtype)),
          make_param("down.0", Role::mlp_down, {}, gaussian({4, 6}, 3, dtype)),
          make_param("o", Role::attention_o, heads, gaussian({4, 6}, 4, dtype)),
          make_param("pair", Role::experts_gate_up, {LayoutKind::gate_up_stacked}, gaussian({2, 6, 4}, 5, dtype)),
          make_param("norm", Role::vector, {LayoutKind::vector}, gaussian({4}, 6, dtype))};
}

json one_bank_each() {
  return {{"default", entry("adamw")},
          {"mlp_gate", entry("muon")},
          {"mlp_up", entry("muon")},
          {"mlp_down", entry("muon")},
          {"attention", entry("row_norm", {{"view", "heads"}})},
          {"experts", entry("row_norm", {{"view", "pair"}})}};
}

json shared_banks() {
  json stack = one_bank_each();
  for (const char* name : {"mlp_gate", "mlp_up", "mlp_down"}) stack.erase(name);
  stack["mlp"] = entry("muon");
  return stack;
}

at::Tensor gradient_of(const std::string& name, at::IntArrayRef shape, std::uint64_t step) {
  return gaussian(shape, derive_seed(step, name));
}

void train(std::vector<Param>& params, Optimizer& optimizer, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t step = from; step <= to; ++step) {
    for (Param& param : params) param.tensor.grad().copy_(gradient_of(param.name, param.tensor.sizes(), step));
    optimizer.step(1.0);
  }
}

using Saved = std::map<std::string, at::Tensor>;

Saved save(const Optimizer& optimizer) {
  Saved saved;
  optimizer.save_state([&](const std::string& key, const at::Tensor& tensor) { saved[key] = tensor.clone(); });
  return saved;
}

std::function<at::Tensor(const std::string&)> from(const Saved& saved) {
  return [&saved](const std::string& key) {
    const auto found = saved.find(key);
    if (found == saved.end()) throw Error("no tensor '" + key + "'");
    return found->second;
  };
}

TEST(OptimizerState, ResumesBitwiseAlsoWhenBankedDifferently) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    std::vector<Param> straight = weights(dtype);
    Optimizer uninterrupted(straight, one_bank_each());
    train(straight, uninterrupted, 1, 5);

    std::vector<Param> first = weights(dtype);
    Optimizer before(first, one_bank_each());
    train(first, before, 1, 2);
    const Saved saved = save(before);

    std::vector<Param> second = weights(dtype);
    for (std::size_t i = 0; i < second.size(); ++i) second[i].tensor.set_data(first[i].tensor.detach().clone());
    std::reverse(second.begin(), second.end());
    Optimizer after(second, shared_banks());
    after.load_state(before.steps(), from(saved));
    EXPECT_EQ(after.steps(), 2);
    const Saved again = save(after);
    for (const auto& [key, tensor] : saved) EXPECT_TRUE(same_bits(again.at(key), tensor)) << key;
    train(second, after, 3, 5);
    for (std::ptrdiff_t i = 0; i < std::ssize(straight); ++i)
      EXPECT_TRUE(same_bits(second.rbegin()[i].tensor.detach(), straight.begin()[i].tensor.detach()))
          << straight.begin()[i].name << dtype;
  }
}

class EveryRuleState : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryRuleState, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

// Saved from one bank of two heads and a router, loaded into one bank each, in another order.
TEST_P(EveryRuleState, ResumesBitwiseAlsoWhenBankedDifferently) {
  const auto heads = [](at::ScalarType dtype) {
    return std::vector<Param>{make_param("head.0", Role::lm_head, {}, gaussian({7, 4}, 1, dtype)),
                              make_param("head.1", Role::router, {}, gaussian({7, 4}, 2, dtype))};
  };
  for (const json& variant : variants_of(GetParam()))
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const json together = {{"default", variant}}, apart = {{"lm_head", variant}, {"router", variant}};
      std::vector<Param> straight = heads(dtype);
      Optimizer uninterrupted(straight, together);
      train(straight, uninterrupted, 1, 2);
      const Saved saved = save(uninterrupted);
      std::vector<Param> resumed = heads(dtype);
      for (std::size_t i = 0; i < 2; ++i) resumed[i].tensor.set_data(straight[i].tensor.detach().clone());
      std::swap(resumed[0], resumed[1]);
      Optimizer after(resumed, apart);
      after.load_state(2, from(saved));
      for (const auto& [key, tensor] : save(after)) EXPECT_TRUE(same_bits(saved.at(key), tensor)) << key;
      train(straight, uninterrupted, 3, 4);
      train(resumed, after, 3, 4);
      for (std::size_t i = 0; i < 2; ++i)
        EXPECT_TRUE(same_bits(straight[i].tensor.detach(), resumed[1 - i].tensor.detach())) << variant << dtype;
    }
}

TEST(OptimizerState, IsNamedByWeightAndHasItsShape) {
  std::vector<Param> params = weights(at::kFloat);
  Optimizer optimizer(params, one_bank_each());
  train(params, optimizer, 1, 1);
  const Saved saved = save(optimizer);
  std::vector<std::string> keys;
  std::int64_t bytes = 0;
  for (const auto& [key, tensor] : saved) {
    keys.push_back(key);
    bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  EXPECT_THAT(keys, ::testing::ElementsAre("down.0/momentum", "gate.0/momentum", "norm/m", "norm/v", "o/momentum",
                                           "pair/momentum", "up.0/momentum"));
  EXPECT_EQ(optimizer.state_bytes(), bytes);
  for (const Param& param : params)
    if (param.name != "norm") {
      EXPECT_EQ(saved.at(param.name + "/momentum").sizes(), param.tensor.sizes());
    }
  // the momentum of `row_norm` after one step is (1 - beta) G, whatever the view was
  EXPECT_LT(relative_error(saved.at("pair/momentum"), 0.05 * gradient_of("pair", {2, 6, 4}, 1)), 1e-6);
  EXPECT_LT(relative_error(saved.at("o/momentum"), 0.05 * gradient_of("o", {4, 6}, 1)), 1e-6);
}

TEST(OptimizerState, NothingIsWrittenUnlessAllOfItFits) {
  std::vector<Param> params = weights(at::kFloat);
  Optimizer optimizer(params, one_bank_each());
  train(params, optimizer, 1, 2);
  const Saved before = save(optimizer);
  const auto refused = [&](const std::function<void(Saved&)>& damage, std::int64_t steps = 9) {
    Saved saved;
    for (const auto& [key, tensor] : before) saved[key] = tensor + 1;
    damage(saved);
    std::string message = "(nothing thrown)";
    try {
      optimizer.load_state(steps, from(saved));
    } catch (const Error& error) {
      message = error.what();
    }
    const Saved after = save(optimizer);
    for (const auto& [key, tensor] : before) EXPECT_TRUE(same_bits(after.at(key), tensor)) << key;
    EXPECT_EQ(optimizer.steps(), 2);
    return message;
  };
  EXPECT_EQ(refused([](Saved& saved) { saved.erase("norm/v"); }), "no tensor 'norm/v'");
  EXPECT_EQ(refused([](Saved& saved) { saved["norm/v"] = at::zeros({5}); }),
            "optimizer state 'norm/v' has shape [5] and dtype Float; the weight needs [4] and Float");
  EXPECT_EQ(refused([](Saved& saved) { saved["norm/v"] = at::zeros({4}, at::kDouble); }),
            "optimizer state 'norm/v' has shape [4] and dtype Double; the weight needs [4] and Float");
  EXPECT_EQ(refused([](Saved&) {}, -1), "optimizer state with -1 steps");
}

}  // namespace test_optimizer_state
}  // namespace equisweep
