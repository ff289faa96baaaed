// One optimizer step over all weights of a model, with random gradients: every rule of the table as a whole stack.
//
//   bench_optimizer_step --benchmark_filter=qwen3-tiny
//   bench_optimizer_step --serve --arch qwen3 --size tiny      as a contestant of race.py (scripts/race)
//   bench_optimizer_step --serve --arch qwen3 --size paper --device cuda --stack adamw,muon-bf16
//
// Counters: ns_param; GB_s, the bytes that one pass over weight, gradient and state must move, over the time; GFLOP_s, the
// flops of five polynomial steps, over the time; x_floor, the time over what this machine's copy bandwidth and matrix
// products (both measured at the start) allow. Bytes a parameter in fp32: 12 for weight and gradient, 8 a state tensor, 4
// for a polar factor, 8 for centring; flops of k x l, k <= l: (20 l/k + 10) k^3. Threads: OMP_NUM_THREADS.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/kernels.h"
#include "core/step_observer.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "tests/bench/serve.h"

namespace equisweep {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

json entry(json given) {
  given["lr"] = 0.01;
  return complete_entry(given);
}

/// The rule on every matrix (muon on hidden ones), centred where the logits share a shift, AdamW on the rest.
json stack_of(const RuleInfo& rule, const std::string& precision) {
  json given = {{"rule", rule.name}};
  if (!precision.empty()) given["polar"] = {{"precision", precision}};
  json stack = {{"default", entry({{"rule", "adamw"}})}, {"matrix", entry(given)}};
  if (rule.name == "muon") return stack;
  stack["embedding"] = entry(given);
  if (find_field(rule.fields, "centered")) given["centered"] = true;
  stack["lm_head"] = stack["router"] = entry(given);
  return stack;
}

std::map<std::string, json> stacks() {
  std::map<std::string, json> result;
  for (const RuleInfo& rule : rules()) {
    const std::string name(rule.name);
    if (find_field(rule.fields, "polar")) {
      result[name + "-bf16"] = stack_of(rule, "bf16");
      result[name + "-fp32"] = stack_of(rule, "fp32");
    } else {
      result[name] = stack_of(rule, "");
    }
  }
  for (const char* precision : {"bf16", "fp32"}) {
    const json polar = {{"precision", precision}};
    json stack = {{"default", entry({{"rule", "adamw"}})},
                  {"embedding", entry({{"rule", "row_norm"}})},
                  {"lm_head", entry({{"rule", "row_norm"}, {"centered", true}})},
                  {"matrix", entry({{"rule", "muon"}, {"polar", polar}})},
                  {"router", entry({{"rule", "left_polar"}, {"centered", true}, {"polar", polar}})}};
    for (const char* name : {"attention_q", "attention_k", "attention_v", "attention_o"})
      stack[name] = entry({{"rule", "muon"}, {"view", "heads"}, {"polar", polar}});
    result[fmt::format("recipe-{}", precision)] = stack;
  }
  return result;
}

/// What one step must move and multiply.
struct Work {
  double params = 0, bytes = 0, bf16_flops = 0, fp32_flops = 0;
};

class Survey final : public StepObserver {
 public:
  explicit Survey(const json& stack) : stack_(stack) {}
  bool wants(std::int64_t step) const override { return step == 1; }
  void observe(const BankStep& bank) override {
    const Role role = bank.params.front()->role;
    json options;
    for (const std::string_view name : claims_on(role))
      if (options.is_null() && stack_.contains(name)) options = stack_.at(std::string(name));
    const auto count = static_cast<double>(bank.weight.numel());
    const bool polar = options.contains("polar");
    work.params += count;
    work.bytes += count * (12 + 8 * static_cast<double>(bank.state.slots.size()) + (polar ? 4 : 0) +
                           (bank.rule.symmetry().shift ? 8 : 0));
    if (!polar) return;
    const auto m = static_cast<double>(bank.weight.size(-2)), n = static_cast<double>(bank.weight.size(-1));
    const double k = std::min(m, n), l = std::max(m, n);
    (options.at("polar").at("precision") == "bf16" ? work.bf16_flops : work.fp32_flops) +=
        count / (m * n) * (20 * l / k + 10) * k * k * k;
  }
  Work work;

 private:
  const json& stack_;
};

/// Bytes and flops a second that this machine reaches in products of the models' size.
struct Machine {
  double bandwidth = 0, bf16 = 0, fp32 = 0;
  double floor(const Work& work) const { return work.bytes / bandwidth + work.bf16_flops / bf16 + work.fp32_flops / fp32; }
};

template <typename F>
double best_of(int repeats, F&& run) {
  double best = HUGE_VAL;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    run();
    best = std::min(best, seconds_since(start));
  }
  return best;
}

const Machine& machine() {
  static const Machine measured = [] {
    Machine m;
    const at::Tensor a = at::randn({1 << 24}), b = at::empty_like(a);
    m.bandwidth = 8.0 * (1 << 24) / best_of(10, [&] { b.copy_(a); });
    for (const auto dtype : {at::kBFloat16, at::kFloat}) {
      const at::Tensor x = at::randn({16, 256, 768}).to(dtype);
      at::Tensor y = at::empty({16, 256, 256}, x.options());
      (dtype == at::kFloat ? m.fp32 : m.bf16) = 2.0 * 16 * 256 * 256 * 768 / best_of(10, [&] { at::bmm_out(y, x, x.mT()); });
    }
    return m;
  }();
  return measured;
}

/// The entries of `stack` that claim a weight of the model.
json claiming(const json& stack, std::span<const Param> params) {
  json result = json::object();
  for (const Param& param : params)
    for (const std::string_view name : claims_on(param.role))
      if (stack.contains(name)) {
        result[std::string(name)] = stack.at(std::string(name));
        break;
      }
  return result;
}

/// A model's weights with random gradients, claimed by a stack, after its first step.
struct Contest {
  Contest(const std::string& name, json given, at::Device device = at::kCPU) : stack(std::move(given)), survey(stack) {
    initialize(*model(name), 1);
    convert_weights(*owner, device, at::kFloat);
    optimizer = std::make_unique<Optimizer>(owner->params(), claiming(stack, owner->params()));
    for (const Param& param : owner->params()) param.tensor.grad().normal_(0, 1e-3);
    optimizer->add_observer(&survey);
    for (int warm_up = 0; warm_up < 2; ++warm_up) optimizer->step(1.0);
  }
  /// One step, until the device has made it.
  void step() {
    optimizer->step(1.0);
    const at::Tensor& weight = owner->params().back().tensor;
    if (weight.is_cuda()) weight.detach().view(-1)[0].item<float>();
  }
  LanguageModel* model(const std::string& name) {
    owner = make_model(resolve_model(name, json::object()));
    return owner.get();
  }
  json stack;
  Survey survey;
  std::unique_ptr<LanguageModel> owner;
  std::unique_ptr<Optimizer> optimizer;
};

/// First directions of all matrices, as weights that were zero move.
std::vector<at::Tensor> first_step(const std::string& name, const json& stack, at::ScalarType dtype, at::Device device) {
  const auto model = make_model(resolve_model(name, json::object()));
  for (Param& param : model->params())
    param.tensor.set_data(at::zeros(param.tensor.sizes(), at::TensorOptions().dtype(dtype).device(device)));
  Optimizer optimizer(model->params(), claiming(stack, model->params()));
  at::manual_seed(2);
  for (const Param& param : model->params()) param.tensor.grad().copy_(at::randn(param.tensor.sizes()).mul_(1e-3));
  optimizer.step(1.0);
  std::vector<at::Tensor> result;
  for (const Param& param : model->params())
    if (param.tensor.dim() > 1) result.push_back(param.tensor.detach().cpu().to(at::kDouble));
  return result;
}

/// Largest relative distance of a first update of a matrix from the definition of its rule in fp64.
double error_of(const std::string& name, const json& stack, at::Device device) {
  json exact = stack;
  for (auto& [entry_name, options] : exact.items())
    if (options.contains("polar")) options["polar"]["precision"] = "fp64";
  const std::vector<at::Tensor> ours = first_step(name, stack, at::kFloat, device);
  set_kernels(Kernels::reference);
  const std::vector<at::Tensor> defined = first_step(name, exact, at::kDouble, device);
  set_kernels(Kernels::fused);
  double worst = 0;
  for (std::size_t i = 0; i < ours.size(); ++i)
    worst = std::max(worst, (ours[i] - defined[i]).norm().item<double>() / defined[i].norm().item<double>());
  return worst;
}

void time_step(benchmark::State& state, const std::string& model, const json& stack) {
  Contest contest(model, stack);
  const Work work = contest.survey.work;
  const auto start = Clock::now();
  for (auto _ : state) contest.optimizer->step(1.0);
  const double step = seconds_since(start) / static_cast<double>(state.iterations());
  state.counters["ns_param"] = 1e9 * step / work.params;
  state.counters["GB_s"] = 1e-9 * work.bytes / step;
  state.counters["GFLOP_s"] = 1e-9 * (work.bf16_flops + work.fp32_flops) / step;
  state.counters["x_floor"] = step / machine().floor(work);
}

/// A cell for each stack; see tests/bench/serve.h.
int race(const std::string& arch, const std::string& size, at::Device device, const std::string& only) {
  std::vector<std::unique_ptr<Contest>> contests;
  std::vector<std::pair<std::string, std::function<void()>>> cells;
  json errors;
  for (const auto& [name, stack] : stacks()) {
    if (!only.empty() && ("," + only + ",").find("," + name + ",") == std::string::npos) continue;
    if (size != "paper") errors[name] = error_of(arch + "-" + size, stack, device);
    contests.push_back(std::make_unique<Contest>(arch + "-" + size, stack, device));
    cells.emplace_back(name, [contest = contests.back().get()] { contest->step(); });
  }
  return serve(cells, {{"arch", arch},
                       {"size", size},
                       {"threads", at::get_num_threads()},
                       {"errors", errors},
                       {"params", contests.front()->survey.work.params}});
}

void register_all() {
  for (const std::string& model : model_names()) {
    const std::string size = model.substr(model.rfind('-') + 1);
    if (size != "nano" && size != "tiny" && size != "small") continue;
    for (const auto& [name, stack] : stacks())
      benchmark::RegisterBenchmark((model + "/" + name).c_str(), time_step, model, stack)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
  }
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  equisweep::keep_freed_pages();
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (!args.empty() && args[0] == "--serve") {
    std::map<std::string, std::string> given = {{"--arch", ""}, {"--size", ""}, {"--device", "cpu"}, {"--stack", ""}};
    for (std::size_t i = 1; i < args.size(); i += 2) {
      if (!given.contains(args[i]) || i + 1 == args.size()) {
        fmt::print(stderr, "bench_optimizer_step --serve --arch A --size S [--device D] [--stack NAME,...]\n");
        return 2;
      }
      given[args[i]] = args[i + 1];
    }
    return equisweep::race(given["--arch"], given["--size"], at::Device(given["--device"]), given["--stack"]);
  }
  equisweep::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  fmt::print(stderr, "this machine: copies {:.1f} GB/s; batched products {:.0f} GFLOP/s in bf16, {:.0f} in fp32\n",
             1e-9 * equisweep::machine().bandwidth, 1e-9 * equisweep::machine().bf16, 1e-9 * equisweep::machine().fp32);
  benchmark::RunSpecifiedBenchmarks();
}
