// The Optimizer's banks: in-place accumulation, clipping, decay, and equality with one weight at a time.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/role.h"
#include "core/step_observer.h"
#include "optimizers/optimizer.h"
#include "support.h"

namespace equisweep {
namespace test_banks {

using namespace testing;
using nlohmann::json;

/// A weight of every kind of layout, three of the first shape.
std::vector<Param> zoo(at::ScalarType dtype = at::kDouble) {
  std::vector<Param> params;
  const auto add = [&](const char* name, Role role, Layout layout, std::vector<std::int64_t> shape) {
    params.push_back(make_param(name, role, layout, gaussian(shape, 100 + params.size(), dtype)));
  };
  add("gate.0", Role::mlp_gate, {}, {6, 4});
  add("up.0", Role::mlp_up, {}, {6, 4});
  add("gate.1", Role::mlp_gate, {}, {6, 4});
  add("down.0", Role::mlp_down, {}, {4, 6});
  add("q", Role::attention_q, {LayoutKind::heads_rows, 3}, {6, 4});
  add("o", Role::attention_o, {LayoutKind::heads_columns, 3}, {4, 6});
  add("experts.gate_up", Role::experts_gate_up, {LayoutKind::gate_up_interleaved}, {2, 4, 6});
  add("experts.down", Role::experts_down, {LayoutKind::experts_down}, {2, 4, 3});
  add("norm", Role::vector, {LayoutKind::vector}, {4});
  return params;
}

json zoo_stack() {
  return {{"default", entry("adamw", {{"weight_decay", 0.1}})},
          {"matrix", entry("muon", {{"weight_decay", 0.1}, {"polar", {{"method", "svd"}}}})},
          {"mlp", entry("row_norm")},
          {"attention_o", entry("row_norm", {{"view", "heads"}, {"weight_decay", 0.1}})},
          {"experts_gate_up", entry("row_norm", {{"view", "pair"}, {"weight_decay", 0.1}})}};
}

/// The entry of zoo_stack() that claims `param`, alone.
json stack_of(const Param& param) {
  const json stack = zoo_stack();
  for (const std::string_view name : claims_on(param.role))
    if (const std::string entry_name(name); stack.contains(entry_name)) return {{entry_name, stack.at(entry_name)}};
  return {};
}

void set_gradients(std::vector<Param>& params, std::uint64_t seed) {
  for (std::size_t i = 0; i < params.size(); ++i)
    params[i].tensor.grad().copy_(gaussian(params[i].tensor.sizes(), seed * 1000 + i));
}

TEST(Banks, BackwardAccumulatesInPlaceAlsoForAWeightUsedTwice) {
  std::vector<Param> params = zoo();
  Optimizer optimizer(params, zoo_stack());
  const at::Tensor w = params[0].tensor, v = params[2].tensor;
  const void *weight_memory = w.data_ptr(), *gradient_memory = w.grad().data_ptr();
  EXPECT_TRUE(w.is_leaf() && w.requires_grad());
  const at::Tensor x = gaussian({5, 4}, 1), y = gaussian({5, 4}, 2);
  for (int repeat = 1; repeat <= 2; ++repeat) {
    (at::linear(x, w).sum() + 3 * at::linear(y, w).sum() + at::linear(x, v).sum()).backward();
    EXPECT_EQ(w.data_ptr(), weight_memory);
    EXPECT_EQ(w.grad().data_ptr(), gradient_memory);
    const at::Tensor of_x = x.sum(0).expand({6, 4}), of_y = y.sum(0).expand({6, 4});
    EXPECT_LT(relative_error(w.grad(), repeat * (of_x + 3 * of_y)), 1e-14);
    EXPECT_LT(relative_error(v.grad(), repeat * of_x), 1e-14);
  }
  optimizer.zero_grad();
  EXPECT_EQ(norm_of(w.grad()), 0);
  EXPECT_EQ(w.grad().data_ptr(), gradient_memory);
  optimizer.step(1.0);
  EXPECT_EQ(w.data_ptr(), weight_memory);
  (at::linear(x, w).sum()).backward();  // the graph after an update is a new one
  EXPECT_LT(relative_error(w.grad(), x.sum(0).expand({6, 4})), 1e-14);
}

TEST(Banks, EveryWeightEndsWhereItWouldAlone) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    std::vector<Param> together = zoo(dtype);
    Optimizer banked(together, zoo_stack());
    std::vector<std::vector<Param>> alone;
    for (const Param& param : zoo(dtype)) alone.push_back({param});
    std::vector<Optimizer> each;
    for (auto& one : alone) each.emplace_back(one, stack_of(one[0]));
    for (std::uint64_t step = 1; step <= 3; ++step) {
      set_gradients(together, step);
      for (std::size_t i = 0; i < alone.size(); ++i) {
        alone[i][0].tensor.grad().copy_(together[i].tensor.grad());
        each[i].step(0.5);
      }
      banked.step(0.5);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_TRUE(same_bits(together[i].tensor.detach(), alone[i][0].tensor.detach()))
            << together[i].name << ' ' << dtype << " step " << step;
    }
  }
}

TEST(Banks, DecayComesFirstOnTheOldWeight) {
  std::vector<Param> params = {make_param("w", Role::mlp_gate, {}, at::tensor({4.0, -2.0}, at::kDouble).view({1, 2}))};
  Optimizer optimizer(params, {{"default", entry("sgd", {{"lr", 0.5}, {"weight_decay", 0.25}, {"beta", 0.0}})}});
  params[0].tensor.grad().copy_(at::tensor({1.0, 3.0}, at::kDouble).view({1, 2}));
  optimizer.step(1.0);  // 4 (1 - 1/8) - 1/2 = 3, -2 (1 - 1/8) - 3/2 = -3.25
  EXPECT_TRUE(same_bits(params[0].tensor.detach(), at::tensor({3.0, -3.25}, at::kDouble).view({1, 2})));
  optimizer.step(0.5);  // 3 (1 - 1/16) - 1/4 = 2.5625, -3.25 (1 - 1/16) - 3/4
  EXPECT_TRUE(same_bits(params[0].tensor.detach(), at::tensor({2.5625, -3.796875}, at::kDouble).view({1, 2})));
}

TEST(Banks, NarrowWeightsKeepAWideStateAndAreRoundedOnce) {
  std::vector<Param> params = {make_param("w", Role::mlp_gate, {}, at::full({1, 1}, 1.0, at::kBFloat16))};
  Optimizer optimizer(params, {{"default", entry("sgd", {{"lr", 1.0}, {"weight_decay", 0.001}, {"beta", 0.0}})}});
  params[0].tensor.grad().fill_(0x1p-7);  // neither the decay nor the step alone moves 1 in bf16
  optimizer.step(0.4);                    // 1 - 0.0004 - 0.003125 = 0.996475 -> 0.99609375
  EXPECT_EQ(params[0].tensor.item<float>(), 0.99609375f);
  optimizer.save_state([](const std::string&, const at::Tensor& state) { EXPECT_EQ(state.scalar_type(), at::kFloat); });
}

/// What rules and observers are given.
class GradientNorms : public StepObserver {
 public:
  bool wants(std::int64_t) const override { return true; }
  void observe(const BankStep& bank) override { squares += std::pow(norm_of(bank.gradient), 2); }
  double squares = 0;
};

TEST(Banks, GradientNormAndClippingMatchBruteForce) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    std::vector<Param> params = zoo(dtype);
    Optimizer optimizer(params, zoo_stack());
    set_gradients(params, 7);
    double squares = 0;
    std::vector<at::Tensor> before;
    for (const Param& param : params) {
      before.push_back(param.tensor.grad().to(at::kDouble).clone());
      squares += std::pow(norm_of(param.tensor.grad()), 2);
    }
    const double norm = std::sqrt(squares), rounding = dtype == at::kDouble ? 1e-14 : 1e-6;
    EXPECT_NEAR(optimizer.gradient_norm().item<double>(), norm, norm * rounding);
    optimizer.clip(optimizer.gradient_norm(), 2 * norm);
    optimizer.step(0.0);
    EXPECT_TRUE(same_bits(params[3].tensor.grad().to(at::kDouble), before[3]));
    GradientNorms seen;
    optimizer.add_observer(&seen);
    optimizer.clip(optimizer.gradient_norm(), 0.5);
    optimizer.step(0.0);
    EXPECT_NEAR(std::sqrt(seen.squares), 0.5, 1e-5);
    for (std::size_t i = 0; i < params.size(); ++i)
      EXPECT_LT(relative_error(params[i].tensor.grad(), before[i] * (0.5 / (norm + 1e-6))), 10 * rounding) << params[i].name;
  }
}

TEST(Banks, LearningRatesFollowTheFactor) {
  std::vector<Param> params = zoo();
  const json stack = {{"default", entry("adamw", {{"lr", 0.25}})}, {"mlp", entry("row_norm", {{"lr", 2}})}};
  const Optimizer optimizer(params, stack);
  EXPECT_EQ(optimizer.learning_rates(0.5), (std::vector<std::pair<std::string, double>>{{"default", 0.125}, {"mlp", 1.0}}));
}

/// Recomputes W <- retained W - lr U from what it is shown, to be compared with what the Optimizer does.
class Watcher : public StepObserver {
 public:
  bool wants(std::int64_t step) const override { return step == 2; }
  void observe(const BankStep& bank) override {
    EXPECT_EQ(bank.step, 2);
    EXPECT_EQ(bank.weight.sizes(), bank.direction.sizes());
    EXPECT_EQ(bank.weight.size(0), static_cast<std::int64_t>(bank.params.size()));
    EXPECT_EQ(bank.state.step, 2);
    EXPECT_EQ(to_stored(bank.view, bank.gradient)[0].sizes(), bank.params[0]->tensor.sizes());
    const at::Tensor next = to_stored(bank.view, bank.retained * bank.weight - bank.lr * bank.direction);
    for (std::size_t i = 0; i < bank.params.size(); ++i) {
      EXPECT_TRUE(
          same_bits(to_stored(bank.view, bank.weight)[static_cast<std::int64_t>(i)], bank.params[i]->tensor.detach()));
      expected[bank.params[i]->name] = next[static_cast<std::int64_t>(i)].clone();
    }
  }
  std::map<std::string, at::Tensor> expected;
};

TEST(Banks, ObserversSeeEveryBankBeforeItsWeightsAreOverwritten) {
  std::vector<Param> params = zoo();
  Optimizer optimizer(params, zoo_stack());
  Watcher watcher;
  optimizer.add_observer(&watcher);
  for (std::uint64_t step = 1; step <= 2; ++step) {
    set_gradients(params, step);
    optimizer.step(1.0);
  }
  EXPECT_EQ(optimizer.steps(), 2);
  ASSERT_EQ(watcher.expected.size(), params.size());
  for (const Param& param : params)
    EXPECT_LT(relative_error(param.tensor.detach(), watcher.expected.at(param.name)), 1e-15) << param.name;
}

}  // namespace test_banks
}  // namespace equisweep
