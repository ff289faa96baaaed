// Whole steps on a GPU against the loops of the CPU, and work that is recorded.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/repeated_work.h"
#include "core/step_observer.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "tests/cuda/gpu.h"

namespace equisweep::test_cuda_steps {
namespace {

using nlohmann::json;

class CudaSteps : public testing::OnGpu {};

class Watcher final : public StepObserver {
 public:
  bool wants(std::int64_t) const override { return true; }
  void observe(const BankStep&) override {}
};

at::Tensor draw(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

/// Weights after four clipped steps of `entry` on a device.
struct Run {
  at::Device device;
  at::ScalarType dtype = at::kFloat;
  bool watched = false, zero = true;
  Role even = Role::lm_head, odd = Role::mlp_down;  ///< rows are the units of the former, columns those of the latter
};

std::vector<at::Tensor> weights_after(const json& entry, const std::vector<std::vector<std::int64_t>>& shapes,
                                      const Run& run) {
  std::vector<Param> params;
  const Role roles[] = {run.even, run.odd};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    Param p;
    p.name = "w" + std::to_string(i);
    p.role = roles[i % 2];
    p.tensor = draw(shapes[i], i).to(run.device, run.dtype).requires_grad_();
    params.push_back(p);
  }
  Optimizer optimizer(params, json{{"default", entry}});
  Watcher watcher;
  if (run.watched) optimizer.add_observer(&watcher);
  for (std::uint64_t step = 0; step < 4; ++step) {
    for (std::size_t i = 0; i < shapes.size(); ++i) params[i].tensor.grad().copy_(draw(shapes[i], 100 + 10 * step + i));
    optimizer.clip(at::scalar_tensor(8.0, at::TensorOptions().device(run.device).dtype(run.dtype)), 2.0);
    optimizer.step(0.5, run.zero ? Optimizer::Gradients::zero : Optimizer::Gradients::keep);
    for (const Param& p : params) {
      if (run.zero) {
        EXPECT_EQ(p.tensor.grad().abs().max().item<double>(), 0);
      }
    }
  }
  std::vector<at::Tensor> result;
  for (const Param& p : params) result.push_back(p.tensor.detach().cpu());
  return result;
}

json entry_of(json given) {
  given["lr"] = 0.02;
  given["weight_decay"] = 0.1;
  return complete_entry(given);
}

const std::vector<std::vector<std::int64_t>> kShapes = {{33, 7}, {16, 64}, {300, 140}, {128, 256}};

TEST_F(CudaSteps, ElementwiseRulesHaveTheBitsOfTheProcessor) {
  for (const json& given :
       {json{{"rule", "adamw"}}, json{{"rule", "sgd"}}, json{{"rule", "sgd"}, {"nesterov", true}}, json{{"rule", "sign"}}}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      const auto cpu = weights_after(entry_of(given), kShapes, {.device = at::kCPU, .dtype = dtype});
      const auto gpu = weights_after(entry_of(given), kShapes, {.device = at::kCUDA, .dtype = dtype});
      for (std::size_t i = 0; i < cpu.size(); ++i) EXPECT_TRUE(at::equal(cpu[i], gpu[i])) << given << " weight " << i;
    }
  }
}

TEST_F(CudaSteps, EveryRuleTakesTheStepOfTheProcessor) {
  for (const RuleInfo& rule : rules()) {
    std::vector<json> forms = {{{"rule", rule.name}}};
    if (find_field(rule.fields, "nesterov")) forms.push_back({{"rule", rule.name}, {"nesterov", true}});
    if (find_field(rule.fields, "centered")) forms.push_back({{"rule", rule.name}, {"centered", true}});
    if (find_field(rule.fields, "alpha")) forms.push_back({{"rule", rule.name}, {"alpha", 0.0}});
    for (const json& given : forms) {
      const json entry = entry_of(given);
      const Role odd = given.value("centered", false) ? Role::lm_head : Role::mlp_down;
      // Polar factors of nearly singular blocks raise rounding: fp64 on both sides shows that the formula is one.
      const auto cpu = weights_after(entry, kShapes, {.device = at::kCPU, .dtype = at::kDouble, .odd = odd});
      const auto gpu = weights_after(entry, kShapes, {.device = at::kCUDA, .dtype = at::kDouble, .odd = odd});
      for (std::size_t i = 0; i < cpu.size(); ++i) {
        const double size = (cpu[i] - draw(kShapes[i], i)).norm().item<double>();
        EXPECT_LE((cpu[i] - gpu[i]).norm().item<double>(), 1e-9 * size) << given << " weight " << i;
      }
    }
  }
}

TEST_F(CudaSteps, WatchingAStepDoesNotChangeIt) {
  for (const json& given : {json{{"rule", "adamw"}}, json{{"rule", "row_norm"}}, json{{"rule", "muon"}},
                            json{{"rule", "muon"}, {"polar", {{"precision", "bf16"}}}}, json{{"rule", "hybrid"}}}) {
    const auto blind = weights_after(entry_of(given), kShapes, {.device = at::kCUDA});
    const auto watched = weights_after(entry_of(given), kShapes, {.device = at::kCUDA, .watched = true, .zero = false});
    for (std::size_t i = 0; i < blind.size(); ++i) EXPECT_TRUE(at::equal(blind[i], watched[i])) << given << " weight " << i;
  }
}

/// Loss and gradients of every architecture: queued, recorded, replayed.
TEST_F(CudaSteps, ReplayedWorkHasTheSameBits) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  for (const char* name : {"qwen3-nano", "gemma3-nano", "olmoe-nano", "gpt_oss-nano"}) {
    const auto model = make_model(resolve_model(name, json::object()));
    initialize(*model, 1);
    convert_weights(*model, at::kCUDA, at::kFloat);
    model->set_compute_dtype(at::kBFloat16);
    if (!model->recordable(at::Device(at::kCUDA, 0))) {
      EXPECT_TRUE(std::string(name).starts_with("olmoe") || std::string(name).starts_with("gpt_oss")) << name;
      continue;
    }
    Optimizer optimizer(model->params(), json{{"default", complete_entry({{"rule", "adamw"}, {"lr", 1e-3}})}});
    const at::Tensor tokens = at::empty({4, 32}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
    const auto fill = [&](std::int64_t step) { tokens.copy_(at::arange(128).mul(7 + step).remainder(512).view({4, 32})); };
    const auto gradient = [&] {
      const at::Tensor loss = model->loss(model->forward(tokens).hidden_BTD, tokens);
      loss.backward();
      return std::vector<at::Tensor>{loss.detach(), optimizer.gradient_norm()};
    };
    RepeatedWork work(at::Device(at::kCUDA, 0), gradient);
    for (std::int64_t step = 0; step < 8; ++step) {
      fill(step);
      const std::vector<at::Tensor> plain = gradient();
      std::vector<at::Tensor> expected;
      for (const Param& p : model->params()) expected.push_back(p.tensor.grad().clone());
      optimizer.zero_grad();
      const std::vector<at::Tensor>& replayed = work.run();
      EXPECT_TRUE(at::equal(plain[0], replayed[0])) << name << " loss of step " << step;
      EXPECT_TRUE(at::equal(plain[1], replayed[1])) << name << " norm of step " << step;
      for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(expected[i], model->params()[i].tensor.grad())) << name << " " << model->params()[i].name;
      optimizer.step(1.0, Optimizer::Gradients::zero);
    }
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST_F(CudaSteps, WorkThatWaitsForTheDeviceIsRunAsItIs) {
  const at::Tensor x = at::zeros({4}, at::kCUDA);
  RepeatedWork work(at::Device(at::kCUDA, 0), [&] {
    x.add_(1);
    return std::vector<at::Tensor>{x + x.sum().item<double>()};
  });
  for (int call = 1; call <= 7; ++call) {
    EXPECT_EQ(work.run()[0][0].item<double>(), 5.0 * call);
    EXPECT_EQ(work.refusal().empty(), call < 4) << call << work.refusal();
  }
  // Allocation and recording go on as if nothing had been.
  RepeatedWork other(at::Device(at::kCUDA, 0), [&] { return std::vector<at::Tensor>{x.add_(1) + 1}; });
  for (int call = 1; call <= 7; ++call) EXPECT_EQ(other.run()[0][0].item<double>(), 8.0 + call);
  EXPECT_EQ(other.refusal(), "");
}

}  // namespace
}  // namespace equisweep::test_cuda_steps
