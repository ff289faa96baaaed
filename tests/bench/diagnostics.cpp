// What diagnostics cost: training in bf16 on 4,096 tokens a step with a diagnostic on and off, in one process, in turns.
//
//   bench_diagnostics                                   tiny and small
//   bench_diagnostics --sizes tiny --only olmoe --rounds 15 --json costs.json
//   OMP_NUM_THREADS=1 bench_diagnostics --clock cpu     processor time in place of wall time, where the machine is busy
//
// A diagnostic at pace p works in one step of p, so what it costs is measured at pace 1 and divided by p. It works while
// weights are updated, and reads what the forward pass left behind: a round is therefore an update without it, and one with
// it and with all that it does of the forward pass, on the same weights. The cost is the mean of the middle half of the
// differences, held against the median of whole steps (forward, backward, clipping, update).
// The equivariance diagnostic takes the blocks in turn: one window of `gradients` steps for each role, alternating step by
// step with updates without; its cost is that of a role times its share of the blocks.
// "together" is the sum at default paces. "at once" is the check that nothing is missed by looking at updates alone: whole
// steps without any, and with all but audits in every step, over the sum of what they cost alone.
// Rows go to a database in a file, as in a run.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "analysis/diagnostics/diagnostics.h"
#include "core/median.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "tests/bench/serve.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace {

using nlohmann::json;

constexpr std::int64_t kTokens = 4096;

/// Of the wall clock, or processor time of all threads: on a machine that does other things beside.
clockid_t timed_by = CLOCK_MONOTONIC;
double now() {
  timespec time{};
  ::clock_gettime(timed_by, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}
double seconds_since(double start) { return now() - start; }

/// Mean of the middle half: what a diagnostic does may differ from time to time, and what the machine does is left out.
double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t quarter = values.size() / 4;
  double sum = 0;
  for (std::size_t i = quarter; i < values.size() - quarter; ++i) sum += values[i];
  return sum / static_cast<double>(values.size() - 2 * quarter);
}

/// Shows steps to diagnostics only while it is switched on, and numbers those steps itself.
class Switch : public StepObserver {
 public:
  std::vector<Diagnostic*> on;
  bool wants(std::int64_t) const override { return !on.empty(); }
  void observe(const BankStep& bank) override {
    BankStep own = bank;
    own.step = number_;
    for (Diagnostic* diagnostic : on)
      if (diagnostic->wants(number_)) diagnostic->observe(own);
  }
  /// Before a step: what diagnostics do of its forward pass.
  void begin(const Forward& forward) {
    ++number_;
    for (Diagnostic* diagnostic : on)
      if (diagnostic->wants(number_)) diagnostic->observe_forward(number_, forward);
  }
  void end() {
    for (Diagnostic* diagnostic : on) diagnostic->flush();
  }
  std::int64_t number() const { return number_; }
  /// The next step begins a window.
  void align(std::int64_t window) { number_ = (number_ + window - 1) / window * window; }

 private:
  std::int64_t number_ = 0;
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
      if (param.role != Role::vector) ++blocks_of_[std::string(name_of(param.role))];
    }
    context_.experts_per_token = model_->config().value("top_k", std::int64_t{0});
    const std::int64_t T = name.ends_with("-nano") || name.ends_with("-tiny") ? 128 : 256;
    const at::Tensor zipf = at::arange(1, model_->vocabulary() + 1, at::kFloat).reciprocal();
    const at::Tensor tokens = at::multinomial(zipf, kTokens / T * (T + 1), true).reshape({kTokens / T, T + 1});
    inputs_ = tokens.narrow(1, 0, T).contiguous();
    targets_ = tokens.narrow(1, 1, T).contiguous();
  }

  /// Seconds of a whole step with these diagnostics.
  double step(const std::vector<Diagnostic*>& with) {
    switch_.on = with;
    const auto start = now();
    optimizer_->zero_grad();
    forward_ = model_->forward(inputs_);
    const at::Tensor loss = model_->loss(forward_.hidden_BTD, targets_);
    if (!with.empty()) switch_.begin(forward_);
    loss.backward();
    optimizer_->clip(optimizer_->gradient_norm(), 1.0);
    optimizer_->step(1.0);
    switch_.end();
    return seconds_since(start);
  }

  /// Seconds of another update with the gradients of the last step.
  double update(Diagnostic* with) {
    switch_.on.clear();
    if (with != nullptr) switch_.on.push_back(with);
    const auto start = now();
    if (with != nullptr) switch_.begin(forward_);
    optimizer_->step(1.0);
    switch_.end();
    return seconds_since(start);
  }

  Switch& observers() { return switch_; }
  const DiagnosticContext& context() const { return context_; }
  const std::map<std::string, std::int64_t>& blocks_of() const { return blocks_of_; }

 private:
  std::unique_ptr<LanguageModel> model_;
  DiagnosticContext context_;
  std::map<std::string, std::int64_t> blocks_of_;  // of each role
  std::unique_ptr<Optimizer> optimizer_;
  Switch switch_;
  at::Tensor inputs_, targets_;
  Forward forward_;
};

struct Cost {
  double seconds = 0;  ///< of one measurement: of a step, or of an audit
  double low = 0, high = 0;
};

/// `rounds` updates without and with, in turns.
Cost at_pace_one(const DiagnosticInfo& info, Training& training, int rounds) {
  json given = complete(info.fields, json::object(), info.name);
  given["every"] = 1;
  const auto diagnostic = info.make(given, training.context());
  training.update(diagnostic.get());  // the first is a cold start
  std::vector<double> extra;
  for (int round = 0; round < rounds; ++round) {
    const double without = training.update(nullptr);
    extra.push_back(training.update(diagnostic.get()) - without);
  }
  std::sort(extra.begin(), extra.end());
  return {std::max(0.0, middle(extra)), extra[extra.size() / 4], extra[extra.size() * 3 / 4]};
}

/// Whole windows, at least one for each role.
Cost of_audits(const DiagnosticInfo& info, Training& training, int rounds) {
  Cost cost;
  double blocks = 0;
  for (const auto& [role, count] : training.blocks_of()) {
    json given = complete(info.fields, json::object(), info.name);
    const auto window = given.at("gradients").get<std::int64_t>();
    given["every"] = window;
    given["blocks"] = json::array({role});
    const auto diagnostic = info.make(given, training.context());
    std::vector<double> audits;
    for (int round = 0; round < std::max(1, rounds / 4); ++round) {
      double extra = 0;
      training.observers().align(window);
      for (std::int64_t i = 0; i < window; ++i) {
        const double without = training.update(nullptr);
        extra += training.update(diagnostic.get()) - without;
      }
      audits.push_back(extra);
    }
    std::sort(audits.begin(), audits.end());
    const auto share = static_cast<double>(count);
    cost.seconds += share * std::max(0.0, median(audits));
    cost.low += share * audits.front();
    cost.high += share * audits.back();
    blocks += share;
  }
  return {cost.seconds / blocks, cost.low / blocks, cost.high / blocks};
}

/// Extra seconds of a step with all but audits in it.
double at_once(Training& training, int rounds) {
  std::vector<std::unique_ptr<Diagnostic>> all;
  for (const DiagnosticInfo& info : diagnostics()) {
    if (info.name == "equivariance" || (info.of_routers && training.context().experts_per_token == 0)) continue;
    json given = complete(info.fields, json::object(), info.name);
    given["every"] = 1;
    all.push_back(info.make(given, training.context()));
  }
  std::vector<Diagnostic*> on;
  for (const auto& diagnostic : all) on.push_back(diagnostic.get());
  training.step(on);
  std::vector<double> extra;
  for (int round = 0; round < rounds; ++round) {
    const double without = training.step({});
    extra.push_back(training.step(on) - without);
  }
  return middle(extra);
}

}  // namespace
}  // namespace equisweep

int main(int argc, char** argv) {
  using namespace equisweep;
  keep_freed_pages();
  std::string sizes = "tiny,small", file, only;
  int rounds = 12;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--sizes") {
      sizes = value;
    } else if (option == "--rounds") {
      rounds = std::max(1, std::atoi(value.c_str()));
    } else if (option == "--json") {
      file = value;
    } else if (option == "--only") {
      only = value;
    } else if (option == "--clock" && (value == "wall" || value == "cpu")) {
      timed_by = value == "cpu" ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    } else {
      fmt::print(stderr,
                 "bench_diagnostics: {} {} is unknown; there are --sizes, --only, --rounds, --json and --clock wall|cpu\n",
                 option, value);
      return 2;
    }
  }
  const auto started = now();
  const TempFolder scratch;
  const auto database = scratch / "run.db";
  json results = json::array();
  fmt::print("{:15} {:>9} {:12} {:>10} {:>22} {:>6} {:>8}\n", "model", "ms a step", "diagnostic", "ms a time", "spread",
             "every", "cost");
  for (const auto& name : model_names()) {
    const std::string size = name.substr(name.rfind('-') + 1);
    if (("," + sizes + ",").find("," + size + ",") == std::string::npos) continue;
    if (name.find(only) == std::string::npos) continue;
    std::filesystem::remove(database);
    RunStore store(database, "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
    Training training(name, store);
    std::vector<double> plain;
    for (int i = 0; i < 3 + rounds / 2; ++i) plain.push_back(training.step({}));
    plain.erase(plain.begin(), plain.begin() + 2);
    const double step = median(plain);
    double together = 0, each_step = 0;
    for (const DiagnosticInfo& info : diagnostics()) {
      if (info.of_routers && training.context().experts_per_token == 0) continue;
      const bool audits = info.name == "equivariance";
      const Cost cost = audits ? of_audits(info, training, rounds) : at_pace_one(info, training, rounds);
      const json options = complete(info.fields, json::object(), info.name);
      const auto every = options.at("every").get<double>();
      together += cost.seconds / every / step;
      if (!audits) each_step += cost.seconds;
      fmt::print("{:15} {:9.1f} {:12} {:10.2f} {:>22} {:6} {:7.2f}%\n", name, step * 1e3, info.name, cost.seconds * 1e3,
                 fmt::format("{:.2f} to {:.2f}", cost.low * 1e3, cost.high * 1e3), every, 100 * cost.seconds / every / step);
      std::fflush(stdout);
      results.push_back({{"model", name},
                         {"diagnostic", std::string(info.name)},
                         {"step_seconds", step},
                         {"extra_seconds", cost.seconds},
                         {"spread", {cost.low, cost.high}},
                         {"every", every},
                         {"share", cost.seconds / every / step}});
    }
    const double check = at_once(training, std::max(2, rounds / 3)) / each_step;
    fmt::print("{:15} {:>9} {:12} {:>10} {:>22} {:>6} {:7.2f}%   at once / alone {:.2f}\n", name, "", "together", "", "", "",
               100 * together, check);
    results.push_back({{"model", name}, {"diagnostic", "together"}, {"share", together}, {"at_once_over_alone", check}});
    std::fflush(stdout);
  }
  std::filesystem::remove(database);
  fmt::print("{} threads, {} rounds, {:.0f} s\n", at::get_num_threads(), rounds, seconds_since(started));
  if (!file.empty())
    std::ofstream(file) << json{{"threads", at::get_num_threads()}, {"rounds", rounds}, {"results", results}}.dump(1)
                        << "\n";
}
