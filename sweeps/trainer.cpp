#include "sweeps/trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "analysis/diagnostics/diagnostics.h"
#include "core/data/batches.h"
#include "core/error.h"
#include "core/fault_point.h"
#include "core/repeated_work.h"
#include "models/blocks/moe.h"
#include "models/huggingface/weights.h"
#include "models/models.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules.h"
#include "optimizers/schedule.h"
#include "sweeps/job.h"
#include "sweeps/training_state.h"

namespace equisweep {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string shape_json(const at::Tensor& t) { return nlohmann::json(t.sizes().vec()).dump(); }

/// A diagnostic whose time on the host is taken, so that its cost stands beside its results.
class TimedDiagnostic : public StepObserver {
 public:
  explicit TimedDiagnostic(std::unique_ptr<Diagnostic> inner) : inner_(std::move(inner)) {}

  bool wants(std::int64_t step) const override { return inner_->wants(step); }
  void observe(const BankStep& bank) override {
    const auto start = Clock::now();
    inner_->observe(bank);
    seconds_ += seconds_since(start);
  }
  void observe_forward(std::int64_t step, const Forward& forward) {
    if (!wants(step)) return;
    const auto start = Clock::now();
    inner_->observe_forward(step, forward);
    seconds_ += seconds_since(start);
  }
  void flush() { inner_->flush(); }
  /// Time since the last call.
  double take_seconds() { return std::exchange(seconds_, 0.0); }

 private:
  std::unique_ptr<Diagnostic> inner_;
  double seconds_ = 0;
};

double not_finite(Fault fault) {
  return fault == Fault::inf ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
}

/// Without the sign of a NaN, which says nothing and differs between processors.
std::string number_text(double number) { return std::isnan(number) ? "nan" : fmt::format("{}", number); }

double spoilt(double loss) {
  const Fault fault = fault_point("train.loss");
  return fault == Fault::none ? loss : not_finite(fault);
}

/// One entry of one weight's gradient: the last matrix of the last layer, which is an expert's where there are experts. True
/// if it did.
bool spoil_gradient(std::span<Param> params) {
  const Fault fault = fault_point("train.gradient");
  if (fault == Fault::none) return false;
  const auto param =
      std::find_if(params.rbegin(), params.rend(), [](const Param& p) { return p.layer >= 0 && p.tensor.dim() > 1; });
  if (param != params.rend()) param->tensor.grad().view(-1)[-1] = not_finite(fault);
  return true;
}

}  // namespace

struct Trainer::Impl {
  Impl(const nlohmann::json& cfg, Corpus corpus, at::Device dev, RunStore& run_store, const TrainerOptions& options)
      : config(cfg),
        device(dev),
        store(run_store),
        checkpointer(options.checkpointer),
        environment(options.environment),
        model(make_model(cfg.at("model"))),
        schedule(cfg.at("schedule"), steps()),
        batches(std::move(corpus), cfg.at("data").at("seq_len"), cfg.at("data").at("batch_tokens"),
                cfg.at("data").at("seed"), cfg.at("data").at("target_offset")) {
    const Precision precision = precision_of(cfg);
    if (cfg.at("train").value("deterministic", false)) {
      ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);  // read when cuBLAS starts
      at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    }
    if (!options.resume) initialize_weights();
    for (Param& p : model->params()) p.tensor.set_data(p.tensor.detach().to(device, precision.weights));
    model->set_compute_dtype(precision.compute);
    model->set_recompute(cfg.at("train").value("recompute", false));
    optimizer = std::make_unique<Optimizer>(model->params(), cfg.at("stack"));
    if (options.resume) resume(*options.resume);
    register_blocks();
  }

  std::int64_t steps() const { return config.at("train").at("steps"); }
  std::int64_t batch_tokens() const { return config.at("data").at("batch_tokens"); }

  void initialize_weights() {
    if (!config.contains("init_from")) return initialize(*model, config.at("seed").get<std::uint64_t>());
    const std::filesystem::path folder = config.at("init_from").at("path").get<std::string>();
    load_huggingface_weights(*model, folder);
    if (hash_weights(*model) != config.at("init_from").at("content"))
      throw DataError(folder.string(), "its weights are not those that the sweep was planned with; run the sweep again");
  }

  void resume(const Checkpoint& checkpoint) {
    if (checkpoint.corpus != batches.corpus().digest) {
      throw DataError(batches.corpus().name,
                      "this corpus has changed since the checkpoint was made: restore it, or delete "
                      "the run's folder to train on the new one from the beginning");
    }
    restore_training_state(checkpoint, *model, *optimizer);
    resumed = checkpoint.step;
    resumed_evaluated = checkpoint.evaluated;
    training_seconds = checkpoint.seconds;
  }

  /// Numbers the weights, writes them down, and switches the diagnostics on that the sweep file asks for.
  void register_blocks() {
    std::vector<Role> roles;
    for (const Param& p : model->params()) roles.push_back(p.role);
    std::unordered_map<std::string, std::string> entry_of;
    for (const auto& [role, entry] : assign_roles(config.at("stack"), roles)) entry_of.emplace(name_of(role), entry);
    std::vector<BlockRow> rows;
    std::map<std::string, std::int64_t> number;
    for (const Param& p : model->params()) {
      const std::string role(name_of(p.role));
      const std::string& entry = entry_of.at(role);
      const auto block = static_cast<std::int64_t>(rows.size());
      number.emplace(p.name, block);
      rows.push_back({block, p.name, role, p.layer, shape_json(p.tensor), entry, config.at("stack").at(entry).at("rule")});
    }
    store.add_blocks(rows);
    const auto top_k = config.at("model").value("top_k", std::int64_t{0});
    DiagnosticContext context{store, number, top_k};
    for (const Param& p : model->params()) {
      context.roles.emplace(p.name, p.role);
      context.inner_roundoff.emplace(p.name,
                                     roundoff_inside(config.at("stack").at(entry_of.at(std::string(name_of(p.role))))));
    }
    for (const auto& [name, options] : config.at("log").items()) {
      if (!options.is_object()) continue;  // what is kept of the run, no diagnostic
      const DiagnosticInfo& info = find_diagnostic(name);
      diagnostics.push_back(std::make_unique<TimedDiagnostic>(info.make(options, context)));
      if (!info.of_routers) optimizer->add_observer(diagnostics.back().get());
    }
  }

  /// Loss and gradient norm of the batch; diagnostics see the forward pass of step `watched`, of 0 none.
  std::vector<at::Tensor> gradient(std::int64_t watched);
  std::vector<at::Tensor> gradient_of(const Batch& batch, std::int64_t step);
  /// The loss with the terms of train.router, where they are on.
  at::Tensor objective(const at::Tensor& loss, const Forward& f) const;
  Outcome run(const TrainerHooks& hooks);
  Outcome train(const TrainerHooks& hooks);
  bool evaluate(std::int64_t step, const TrainerHooks& hooks);
  Checkpoint checkpoint(std::int64_t step, bool evaluated) const;
  Outcome preempted(std::int64_t step, bool evaluated);
  Outcome diverged(std::int64_t step, const std::string& why);
  void flush_diagnostics() {
    for (const auto& d : diagnostics) d->flush();
  }
  std::string divergence(std::int64_t step, double loss, double grad_norm) const;

  nlohmann::json config;
  at::Device device;
  RunStore& store;
  Checkpointer* checkpointer;
  std::string environment;
  std::unique_ptr<LanguageModel> model;
  Schedule schedule;
  Batches batches;
  std::unique_ptr<Optimizer> optimizer;
  std::vector<std::unique_ptr<TimedDiagnostic>> diagnostics;
  std::int64_t resumed = 0;  ///< updates made by earlier attempts
  bool resumed_evaluated = false;
  at::Tensor tokens_BT, targets_BT;      ///< of the step, on the device
  std::optional<RepeatedWork> repeated;  ///< gradient(), where it can be recorded
  double training_seconds = 0;           ///< evaluation left out
  double last_loss = std::numeric_limits<double>::quiet_NaN();
};

/// Why the run has diverged at this step, or "".
std::string Trainer::Impl::divergence(std::int64_t step, double loss, double grad_norm) const {
  const auto& stop = config.at("stop");
  if (stop.at("nonfinite").get<bool>()) {
    if (!std::isfinite(loss)) return fmt::format("loss is {} at step {}", number_text(loss), step);
    if (!std::isfinite(grad_norm)) return fmt::format("gradient norm is {} at step {}", number_text(grad_norm), step);
  }
  if (stop.contains("loss_above")) {
    const double value = stop.at("loss_above").at("value");
    if (step > stop.at("loss_above").at("after").get<std::int64_t>() && !(loss <= value))
      return fmt::format("loss {} is above {} at step {}", number_text(loss), value, step);
  }
  return "";
}

at::Tensor Trainer::Impl::objective(const at::Tensor& loss, const Forward& f) const {
  const auto& train = config.at("train");
  if (!train.contains("router")) return loss;
  const double balance = train.at("router").at("balance_loss"), z = train.at("router").at("z_loss");
  at::Tensor sum = loss;
  if (balance > 0) sum = sum + balance * load_balancing_loss(f.router_logits_NE, config.at("model").at("top_k"));
  if (z > 0) sum = sum + z * router_z_loss(f.router_logits_NE);
  return sum;
}

std::vector<at::Tensor> Trainer::Impl::gradient(std::int64_t watched) {
  const Forward f = model->forward(tokens_BT);
  const at::Tensor loss = model->loss(f.hidden_BTD, targets_BT);
  if (watched > 0)
    for (const auto& d : diagnostics) d->observe_forward(watched, f);
  objective(loss, f).backward();
  return {loss.detach(), optimizer->gradient_norm()};
}

std::vector<at::Tensor> Trainer::Impl::gradient_of(const Batch& batch, std::int64_t step) {
  if (!tokens_BT.defined() || device.is_cpu()) {
    tokens_BT = batch.tokens_BT.to(device);
    targets_BT = batch.targets_BT.to(device);
    if (device.is_cuda() && model->recordable(device) && !config.at("train").contains("router"))
      repeated.emplace(device, [this] { return gradient(0); });
  } else {
    tokens_BT.copy_(batch.tokens_BT);
    targets_BT.copy_(batch.targets_BT);
  }
  const auto wants = [&](const auto& d) { return d->wants(step); };
  if (!repeated || std::any_of(diagnostics.begin(), diagnostics.end(), wants)) return gradient(step);
  const bool refused = !repeated->refusal().empty();
  std::vector<at::Tensor> results = repeated->run();
  if (!refused && !repeated->refusal().empty())
    store.add_event(step, "warning", "steps are slower than they could be: no CUDA graph of them: " + repeated->refusal());
  return results;
}

/// False, and nothing written, if it was given up on request.
bool Trainer::Impl::evaluate(std::int64_t step, const TrainerHooks& hooks) {
  const at::NoGradGuard no_grad;
  const std::int64_t n = batches.val_batches(config.at("train").at("eval").at("tokens"));
  double sum = 0;
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const Batch batch = batches.val(i);
    const Forward f = model->forward(batch.tokens_BT.to(device));
    const auto count = batch.tokens_BT.numel();
    sum += model->loss(f.hidden_BTD, batch.targets_BT.to(device)).item<double>() * static_cast<double>(count);
    tokens += count;
    hooks.progress({step, steps(), last_loss, 0, "eval"});
    fault_point("train.eval");
    if (i + 1 < n && hooks.stop_requested()) return false;
  }
  EvalRow row{.step = step,
              .tokens = step * batch_tokens(),
              .seconds = training_seconds,
              .loss = sum / static_cast<double>(tokens),
              .bits_per_byte = std::nullopt,
              .eval_tokens = tokens};
  if (const auto& width = batches.corpus().bytes_per_token) row.bits_per_byte = row.loss / (std::numbers::ln2 * *width);
  store.add(row);
  return true;
}

Checkpoint Trainer::Impl::checkpoint(std::int64_t step, bool evaluated) const {
  return {.job = job_id(config),
          .step = step,
          .tokens = step * batch_tokens(),
          .seconds = training_seconds,
          .evaluated = evaluated,
          .corpus = batches.corpus().digest,
          .environment = environment,
          .tensors = training_state(*model, *optimizer)};
}

Outcome Trainer::Impl::preempted(std::int64_t step, bool evaluated) {
  std::string where = step == 0 ? "before step 1" : fmt::format("after step {}", step);
  const bool moved = step > resumed || evaluated != resumed_evaluated;  // else the checkpoint is there already
  if (checkpointer && checkpointer->on() && step > 0 && moved) {
    flush_diagnostics();
    if (!checkpointer->write(checkpoint(step, evaluated))) where += ", without a checkpoint of it";
  }
  store.add_event(step, "preempted", "asked to stop");
  return {RunState::preempted, "asked to stop " + where};
}

Outcome Trainer::Impl::diverged(std::int64_t step, const std::string& why) {
  store.add_event(step, "diverged", why);
  // Nothing has been updated with this step's gradient: what there is, is finite.
  if (checkpointer && checkpointer->on() && step > 1) {
    flush_diagnostics();
    checkpointer->write_last(checkpoint(step - 1, true));
  }
  return {RunState::diverged, why};
}

Outcome Trainer::Impl::run(const TrainerHooks& hooks) {
  Outcome outcome = train(hooks);
  flush_diagnostics();
  return outcome;
}

Outcome Trainer::Impl::train(const TrainerHooks& hooks) {
  const double grad_clip = config.at("train").at("grad_clip");
  const std::int64_t eval_every = config.at("train").at("eval").at("every");
  const bool evaluation_left = resumed == 0 || !resumed_evaluated;
  if (hooks.stop_requested()) return preempted(resumed, !evaluation_left);
  if (evaluation_left && !evaluate(resumed, hooks)) return preempted(resumed, false);
  for (std::int64_t step = resumed + 1; step <= steps(); ++step) {
    fault_point("train.step");
    const auto start = Clock::now();
    const Batch batch = batches.train(step);
    const std::vector<at::Tensor> loss_and_norm = gradient_of(batch, step);
    const at::Tensor norm = spoil_gradient(model->params()) ? optimizer->gradient_norm() : loss_and_norm[1];
    const double loss = spoilt(loss_and_norm[0].item<double>()), grad_norm = norm.item<double>();

    StepRow row{.step = step,
                .tokens = step * batch_tokens(),
                .seconds = 0,
                .loss = loss,
                .lr = 0,
                .grad_norm = grad_norm,
                .step_seconds = 0,
                .optimizer_seconds = 0,
                .diagnostics_seconds = 0};
    const double factor = schedule.factor(step);
    row.lr = optimizer->learning_rates(factor).front().second;
    const std::string why = divergence(step, loss, grad_norm);
    if (why.empty()) {
      const auto diagnosed = [&] {
        double seconds = 0;
        for (const auto& d : diagnostics) seconds += d->take_seconds();
        return seconds;
      };
      row.diagnostics_seconds = diagnosed();
      const auto update_start = Clock::now();
      if (grad_clip > 0) optimizer->clip(norm, grad_clip);
      optimizer->step(factor, Optimizer::Gradients::zero);  // as they are before the first step
      const double within = diagnosed();
      row.optimizer_seconds = seconds_since(update_start) - within;
      row.diagnostics_seconds += within;
    }
    row.step_seconds = seconds_since(start);
    training_seconds += row.step_seconds;
    row.seconds = training_seconds;
    last_loss = loss;
    store.add(row);
    if (!why.empty()) return diverged(step, why);
    hooks.progress({step, steps(), loss, static_cast<double>(batch_tokens()) / row.step_seconds, "train"});
    const bool evaluated = (step % eval_every != 0 && step != steps()) || evaluate(step, hooks);
    if (!evaluated || (step < steps() && hooks.stop_requested())) return preempted(step, evaluated);
    if (step < steps() && checkpointer && checkpointer->due(step)) {
      flush_diagnostics();
      checkpointer->write(checkpoint(step, true));
    }
  }
  return {RunState::done, ""};
}

Trainer::Trainer(const nlohmann::json& config, Corpus corpus, at::Device device, RunStore& store,
                 const TrainerOptions& options)
    : impl_(std::make_unique<Impl>(config, std::move(corpus), device, store, options)) {}
Trainer::~Trainer() = default;
Outcome Trainer::run(const TrainerHooks& hooks) { return impl_->run(hooks); }
void Trainer::save_weights(const std::filesystem::path& file) const {
  equisweep::save_weights(*impl_->model, file, precision_of(impl_->config).weights);
}
std::vector<NamedTensor> Trainer::state() const { return training_state(*impl_->model, *impl_->optimizer); }
std::int64_t Trainer::parameters() const { return impl_->model->parameter_count(); }
std::int64_t Trainer::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Param& p : impl_->model->params()) bytes += static_cast<std::int64_t>(p.tensor.nbytes());
  return bytes;
}
std::int64_t Trainer::state_bytes() const { return impl_->optimizer->state_bytes(); }

}  // namespace equisweep
