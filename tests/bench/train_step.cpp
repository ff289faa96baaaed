// Forward, loss and backward of a model on 4,096 random tokens: items_per_second is tokens per second.
//
//   bench_train_step --benchmark_filter=qwen3-nano --benchmark_format=json
//
// The optimizer is not part of it. Threads: OMP_NUM_THREADS.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <nlohmann/json.hpp>
#include <string>

#include "models/models.h"

namespace equisweep {
namespace {

constexpr std::int64_t kTokens = 4096;

void train_step(benchmark::State& state, const std::string& name, std::int64_t T, at::ScalarType dtype) {
  const auto model = make_model(resolve_model(name, nlohmann::json::object()));
  initialize(*model, 1);
  model->set_compute_dtype(dtype);
  for (auto& p : model->params()) p.tensor.mutable_grad() = at::zeros_like(p.tensor);  // as the Optimizer's banks are
  const at::Tensor tokens = at::randint(model->vocabulary(), {kTokens / T, T + 1}, at::kLong);
  const at::Tensor inputs = tokens.narrow(1, 0, T), targets = tokens.narrow(1, 1, T);
  double loss = 0;
  for (auto _ : state) {
    for (auto& p : model->params()) p.tensor.mutable_grad().zero_();
    const at::Tensor l = model->loss(model->forward(inputs).hidden_BTD, targets);
    l.backward();
    loss = l.item<double>();
  }
  state.SetItemsProcessed(state.iterations() * kTokens);
  state.counters["loss"] = loss;
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  // Activations are freed and allocated anew in every step; glibc must keep their pages.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  for (const auto& name : equisweep::model_names()) {
    const bool nano_or_tiny = name.ends_with("-nano") || name.ends_with("-tiny");
    if (!nano_or_tiny && !name.ends_with("-small")) continue;
    for (const auto dtype : {at::kBFloat16, at::kFloat}) {
      benchmark::RegisterBenchmark((name + (dtype == at::kFloat ? "/fp32" : "/bf16")).c_str(), [=](benchmark::State& state) {
        equisweep::train_step(state, name, nano_or_tiny ? 128 : 256, dtype);
      })->Unit(benchmark::kMillisecond)->UseRealTime();
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
