// A whole training step, forward, loss, backward, clipping and AdamW, on tokens that follow a Zipf law: 4,096 of them for
// nano to small; items_per_second is tokens per second.
//
//   bench_train_step --benchmark_filter=qwen3-nano --benchmark_format=json
//   bench_train_step --serve --model qwen3-tiny --precision bf16      as a contestant of race.py (scripts/race)
//   bench_train_step --serve --model qwen3-paper --precision bf16 --device cuda
//
// Precisions: fp32, and bf16 with fp32 weights. Threads: OMP_NUM_THREADS.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/repeated_work.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "tests/bench/serve.h"

namespace equisweep {
namespace {

using nlohmann::json;

/// Sequences and tokens of each, as the peers' sizes.json has them.
struct BatchShape {
  std::int64_t sequences, length;
  std::int64_t tokens() const { return sequences * length; }
};

BatchShape batch_of(const std::string& name) {
  if (name.ends_with("-paper")) return {16, 1024};
  if (name.ends_with("-mid")) return {4, 512};
  if (name.ends_with("-small")) return {16, 256};
  return {32, 128};
}

class Training {
 public:
  Training(const std::string& name, const std::string& precision, at::Device device = at::kCPU)
      : model_(make_model(resolve_model(name, json::object()))) {
    initialize(*model_, 1);
    convert_weights(*model_, device, at::kFloat);
    model_->set_compute_dtype(precision == "bf16" ? at::kBFloat16 : at::kFloat);
    const json stack = {{"default", complete_entry({{"rule", "adamw"}, {"lr", 1e-3}})}};
    optimizer_ = std::make_unique<Optimizer>(model_->params(), stack);
    const auto [B, T] = batch_of(name);
    const at::Tensor zipf = at::arange(1, model_->vocabulary() + 1, at::kFloat).reciprocal();
    const at::Tensor tokens = at::multinomial(zipf, B * (T + 1), true).reshape({B, T + 1}).to(device);
    inputs_ = tokens.narrow(1, 0, T).contiguous();
    targets_ = tokens.narrow(1, 1, T).contiguous();
    if (device.is_cuda() && model_->recordable(device)) repeated_.emplace(device, [this] { return gradient(); });
  }

  double step() {
    const std::vector<at::Tensor> loss_and_norm = repeated_ ? repeated_->run() : gradient();
    optimizer_->clip(loss_and_norm[1], 1.0);
    optimizer_->step(1.0, Optimizer::Gradients::zero);
    return loss_and_norm[0].item<double>();
  }

 private:
  std::vector<at::Tensor> gradient() {
    const at::Tensor loss = model_->loss(model_->forward(inputs_).hidden_BTD, targets_);
    loss.backward();
    return {loss.detach(), optimizer_->gradient_norm()};
  }

  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<Optimizer> optimizer_;
  at::Tensor inputs_, targets_;
  std::optional<RepeatedWork> repeated_;
};

void time_step(benchmark::State& state, const std::string& name, const std::string& precision) {
  Training training(name, precision);
  double loss = training.step();
  for (auto _ : state) loss = training.step();
  state.SetItemsProcessed(state.iterations() * batch_of(name).tokens());
  state.counters["loss"] = loss;
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  using namespace equisweep;
  keep_freed_pages();
  const std::vector<std::string> args(argv + 1, argv + argc);
  const bool on_device = args.size() == 7 && args[5] == "--device";
  if ((args.size() == 5 || on_device) && args[0] == "--serve" && args[1] == "--model" && args[3] == "--precision") {
    const std::string device = on_device ? args[6] : "cpu";
    Training training(args[2], args[4], at::Device(device));
    const double loss = training.step();
    return serve({{"adamw", [&] { training.step(); }}}, {{"model", args[2]},
                                                         {"precision", args[4]},
                                                         {"device", device},
                                                         {"threads", at::get_num_threads()},
                                                         {"tokens", batch_of(args[2]).tokens()},
                                                         {"loss", loss}});
  }
  for (const auto& name : model_names()) {
    if (!name.ends_with("-nano") && !name.ends_with("-tiny") && !name.ends_with("-small")) continue;
    for (const char* precision : {"bf16", "fp32"})
      benchmark::RegisterBenchmark((name + "/" + precision).c_str(), time_step, name, precision)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
