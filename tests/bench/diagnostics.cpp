// What diagnostics cost: whole training steps (bf16, 4,096 tokens) with a diagnostic on and off, in one process, in turns.
//
//   bench_diagnostics                       nano and tiny
//   bench_diagnostics --sizes tiny,small --rounds 9 --json costs.json
//
// A diagnostic at pace p works in one step of p, so its cost a step is measured at pace 1 and divided: a round is a step
// without and a step with it, on the same weights; the cost is the mean of the middle half of the differences, over the median step without.
// The equivariance diagnostic works in a window of every interval: a round is kAuditWindow steps without and with. "all" is
// the sum at default paces. Rows go to a database in memory's place (a file in the temporary folder), as in a run.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "analysis/diagnostics/diagnostics.h"
#include "analysis/diagnostics/equivariance.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "tests/bench/serve.h"

namespace equisweep {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kTokens = 4096;

/// Shows steps to a diagnostic only when it is switched on, and numbers them as if it had pace 1.
class Switch : public StepObserver {
 public:
  bool on = false;
  Diagnostic* diagnostic = nullptr;
  bool wants(std::int64_t step) const override { return on && diagnostic->wants(step); }
  void observe(const BankStep& bank) override { diagnostic->observe(bank); }
};

class Training {
 public:
  Training(const std::string& name, RunStore& store)
      : model_(make_model(resolve_model(name, json::object()))), context_{.store = store, .blocks = {}} {
    initialize(*model_, 1);
    model_->set_compute_dtype(at::kBFloat16);
    const json stack = {{"default", complete_entry({{"rule", "adamw"}, {"lr", 1e-4}})},
                        {"matrix", complete_entry({{"rule", "muon"}, {"lr", 1e-3}})}};
    optimizer_ = std::make_unique<Optimizer>(model_->params(), stack);
    optimizer_->add_observer(&switch_);
    for (const Param& param : model_->params()) {
      context_.blocks.emplace(param.name, static_cast<std::int64_t>(context_.blocks.size()));
      context_.roles.emplace(param.name, param.role);
    }
    context_.experts_per_token = model_->config().value("top_k", std::int64_t{0});
    const std::int64_t T = name.ends_with("-small") ? 256 : 128;
    const at::Tensor zipf = at::arange(1, model_->vocabulary() + 1, at::kFloat).reciprocal();
    const at::Tensor tokens = at::multinomial(zipf, kTokens / T * (T + 1), true).reshape({kTokens / T, T + 1});
    inputs_ = tokens.narrow(1, 0, T).contiguous();
    targets_ = tokens.narrow(1, 1, T).contiguous();
  }

  /// Seconds of one step.
  double step(Diagnostic* diagnostic) {
    switch_.on = diagnostic != nullptr;
    switch_.diagnostic = diagnostic;
    const auto start = Clock::now();
    optimizer_->zero_grad();
    const Forward forward = model_->forward(inputs_);
    const at::Tensor loss = model_->loss(forward.hidden_BTD, targets_);
    if (diagnostic != nullptr && diagnostic->wants(optimizer_->steps() + 1))
      diagnostic->observe_forward(optimizer_->steps() + 1, forward);
    loss.backward();
    optimizer_->clip(optimizer_->gradient_norm(), 1.0);
    optimizer_->step(1.0);
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  std::int64_t steps() const { return optimizer_->steps(); }
  const DiagnosticContext& context() const { return context_; }

 private:
  std::unique_ptr<LanguageModel> model_;
  DiagnosticContext context_;
  std::unique_ptr<Optimizer> optimizer_;
  Switch switch_;
  at::Tensor inputs_, targets_;
};

/// Mean of the middle half: what a diagnostic does may differ from time to time, and what the machine does is left out.
double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t quarter = values.size() / 4;
  double sum = 0;
  for (std::size_t i = quarter; i < values.size() - quarter; ++i) sum += values[i];
  return sum / static_cast<double>(values.size() - 2 * quarter);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Extra seconds of one measurement of `info`, and the seconds of a step without, each of `rounds`.
void race(const DiagnosticInfo& info, Training& training, int rounds, std::vector<double>& extra,
          std::vector<double>& plain) {
  json given = complete(info.fields, json::object(), info.name);
  const bool windowed = info.name == "equivariance";
  const std::int64_t length = windowed ? kAuditWindow : 1;
  if (!windowed) given["every"] = 1;
  const auto diagnostic = info.make(given, training.context());
  for (int round = 0; round < rounds; ++round) {
    // Windows end at multiples of the pace: with one as long as a window, every step is in one.
    std::unique_ptr<Diagnostic> audit;
    if (windowed) {
      while ((training.steps() + length) % length != 0) training.step(nullptr);
      json own = given;
      own["every"] = length;
      audit = info.make(own, training.context());
    }
    double without = 0, with = 0;
    for (std::int64_t i = 0; i < length; ++i) plain.push_back(training.step(nullptr)), without += plain.back();
    for (std::int64_t i = 0; i < length; ++i) with += training.step(windowed ? audit.get() : diagnostic.get());
    const auto start = Clock::now();
    (windowed ? audit.get() : diagnostic.get())->flush();
    with += std::chrono::duration<double>(Clock::now() - start).count();
    extra.push_back(with - without);
  }
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  using namespace equisweep;
  keep_freed_pages();
  std::string sizes = "nano,tiny", file, only;
  int rounds = 15;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--sizes") sizes = argv[i + 1];
    if (option == "--rounds") rounds = std::max(1, std::atoi(argv[i + 1]));
    if (option == "--json") file = argv[i + 1];
    if (option == "--only") only = argv[i + 1];
  }
  const auto database = std::filesystem::temp_directory_path() / fmt::format("equisweep-bench-{}.db", ::getpid());
  json results = json::array();
  fmt::print("{:15} {:>9} {:12} {:>10} {:>6} {:>8}\n", "model", "ms a step", "diagnostic", "ms a time", "every", "cost");
  for (const auto& name : model_names()) {
    const std::string size = name.substr(name.rfind('-') + 1);
    if (("," + sizes + ",").find("," + size + ",") == std::string::npos) continue;
    if (name.find(only) == std::string::npos) continue;
    std::filesystem::remove(database);
    RunStore store(database, "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
    Training training(name, store);
    for (int i = 0; i < 3; ++i) training.step(nullptr);
    double all = 0;
    for (const DiagnosticInfo& info : diagnostics()) {
      if (info.of_routers && training.context().experts_per_token == 0) continue;
      std::vector<double> extra, plain;
      race(info, training, rounds, extra, plain);
      const double step = median(plain), cost = std::max(0.0, middle(extra));
      const auto every = complete(info.fields, json::object(), info.name).at("every").get<double>();
      all += cost / every / step;
      std::sort(extra.begin(), extra.end());
      fmt::print("{:15} {:9.1f} {:12} {:10.2f} {:6} {:7.2f}%\n", name, step * 1e3, info.name, cost * 1e3, every,
                 100 * cost / every / step);
      results.push_back({{"model", name},
                         {"diagnostic", std::string(info.name)},
                         {"step_seconds", step},
                         {"extra_seconds", cost},
                         {"quartiles", {extra[extra.size() / 4], extra[extra.size() * 3 / 4]}},
                         {"every", every},
                         {"share", cost / every / step}});
    }
    fmt::print("{:15} {:>9} {:12} {:>10} {:>6} {:7.2f}%\n", name, "", "all", "", "", 100 * all);
    results.push_back({{"model", name}, {"diagnostic", "all"}, {"share", all}});
    std::fflush(stdout);
  }
  std::filesystem::remove(database);
  if (!file.empty())
    std::ofstream(file) << json{{"threads", at::get_num_threads()}, {"rounds", rounds}, {"results", results}}.dump(1)
                        << "\n";
}
