// B sequences of T tokens.
#include "analysis/audit/closed_loop.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/rng.h"

namespace equisweep {
namespace {

constexpr std::int64_t kSequences = 3, kTokens = 9;

/// Activations of order one, so that every path of the model is in use: attention is not uniform, experts are chosen for a
/// reason, sinks and biases matter.
at::Tensor draw_weight(const Param& param, bool gain, std::uint64_t seed) {
  if (gain)
    return param.init == Init::ones ? at::ones(param.tensor.sizes(), at::kDouble)
                                    : at::zeros(param.tensor.sizes(), at::kDouble);
  auto generator = make_generator(seed, param.name);
  const at::Tensor x = at::randn(param.tensor.sizes(), generator, at::kDouble);
  if (param.role == Role::vector) return x * 0.3;
  if (param.role == Role::embedding) return x * 0.7;
  const BlockInfo fan = [&] {
    const MatrixView view = view_of(param);
    return BlockInfo{view.fan_out, view.fan_in};
  }();
  return x / std::sqrt(static_cast<double>(fan.fan_in));
}

at::Tensor mean_square_logsumexp(const at::Tensor& logits) { return logits.logsumexp(-1).square().mean(); }

}  // namespace

ClosedLoop::ClosedLoop(const AuditedModel& model, const nlohmann::json& overrides, std::int64_t steps, std::uint64_t seed,
                       at::Device device)
    : model_(model.make(overrides)), device_(device), shape_(shape_of_model(model_->config())), steps_(steps) {
  model_->set_compute_dtype(at::kDouble);
  for (Param& param : model_->params()) {
    param.tensor.set_data(param.tensor.detach().to(device_, at::kDouble));
    shape_.interleaved = shape_.interleaved || param.layout.kind == LayoutKind::gate_up_interleaved;
  }
  for (const Param& param : model_->params()) {
    gain_.push_back(axes_of(param, shape_).gain);
    first_.push_back(draw_weight(param, gain_.back(), derive_seed(seed, "weights")));
  }
  auto generator = make_generator(seed, "tokens");
  tokens_ = at::randint(shape_.vocab, {steps, kSequences, kTokens + 1}, generator, at::kLong);
}

Weights64 ClosedLoop::moved(const ModelElement& g, const Weights64& weights) {
  Weights64 result;
  for (std::size_t i = 0; i < weights.size(); ++i)
    result.push_back(act_on_weight(g, model_->params()[i], shape_, weights[i]));
  return result;
}

void ClosedLoop::set(const Weights64& weights) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < weights.size(); ++i) model_->params()[i].tensor.copy_(weights[i]);
}

at::Tensor ClosedLoop::objective(std::int64_t step, const ModelElement& g, const LoopMode& mode) const {
  const at::Tensor text = act_on_tokens(g, tokens_[step]).to(device_);
  const Forward forward = model_->forward(text.narrow(1, 0, kTokens));
  at::Tensor loss = model_->loss(forward.hidden_BTD, text.narrow(1, 1, kTokens));
  if (mode.head_z_loss > 0) loss = loss + mode.head_z_loss * mean_square_logsumexp(model_->logits(forward.hidden_BTD));
  if (mode.router_z_loss > 0)
    for (const at::Tensor& logits : forward.router_logits_NE)
      loss = loss + mode.router_z_loss * mean_square_logsumexp(logits);
  return loss;
}

double ClosedLoop::loss(const Weights64& weights, const ModelElement& g, const LoopMode& mode) {
  set(weights);
  const at::NoGradGuard no_grad;
  return objective(0, g, mode).item<double>();
}

MatrixView ClosedLoop::view_of_use(const RuleUse& use, const Param& param) const {
  return make_view(use.layout.value_or(param.layout), param.tensor.sizes(), use.view, unit_is_column(param.role));
}

std::vector<double> ClosedLoop::learning_rates(const ModelSubject& subject, const LoopMode& mode) {
  set(first_);
  for (Param& param : model_->params()) param.tensor.mutable_grad() = at::Tensor();
  objective(0, {}, mode).backward();
  const at::NoGradGuard no_grad;
  std::vector<double> lrs;
  for (std::size_t i = 0; i < first_.size(); ++i) {
    const Param& param = model_->params()[i];
    const RuleUse& use = subject.uses.at(param.role);
    const MatrixView view = view_of_use(use, param);
    const at::Tensor gradient = to_blocks(view, param.tensor.grad()).contiguous();
    RuleState state = make_state(*use.rule, gradient.sizes(), gradient.options());
    const double size =
        use.rule->direction(gradient, state, {view.fan_out, view.fan_in}).square().sum().sqrt().item<double>();
    // Gains that start at 0 stand for 1.
    const double weight =
        std::max(first_[i].square().sum().sqrt().item<double>(), 0.3 * std::sqrt(static_cast<double>(first_[i].numel())));
    lrs.push_back(size > 0 ? kFirstStep * weight / size : 0);
  }
  return lrs;
}

Weights64 ClosedLoop::train(const ModelSubject& subject, const Weights64& start, const ModelElement& g, const LoopMode& mode,
                            const std::vector<double>& lrs, std::optional<std::uint64_t> noise_seed) {
  const std::span<Param> params = model_->params();
  set(start);
  std::vector<MatrixView> views;
  std::vector<RuleState> states;
  for (const Param& param : params) {
    const RuleUse& use = subject.uses.at(param.role);
    views.push_back(view_of_use(use, param));
    states.push_back(make_state(*use.rule, views.back().blocks, param.tensor.options().requires_grad(false)));
  }
  const auto round_weights = [&](std::int64_t step) {
    if (!noise_seed) return;
    auto generator = make_generator(*noise_seed, "rounding", static_cast<std::uint64_t>(step));
    for (Param& param : params) {
      const at::Tensor r = at::rand(param.tensor.sizes(), generator, at::kDouble).mul_(2).sub_(1);
      param.tensor.add_(param.tensor * r.to(device_) * 0x1p-53);
    }
  };
  for (std::int64_t step = 0; step < steps_; ++step) {
    {
      const at::NoGradGuard no_grad;
      round_weights(step);
    }
    for (Param& param : params) param.tensor.mutable_grad() = at::Tensor();
    objective(step, g, mode).backward();
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < params.size(); ++i) {
      if (mode.frozen_gains && gain_[i]) continue;
      const RuleUse& use = subject.uses.at(params[i].role);
      const at::Tensor gradient = to_blocks(views[i], params[i].tensor.grad()).contiguous();
      const at::Tensor direction = use.rule->direction(gradient, states[i], {views[i].fan_out, views[i].fan_in});
      params[i].tensor.mul_(use.rule->retained(lrs[i], 0)).sub_(to_stored(views[i], direction), lrs[i]);
    }
  }
  Weights64 result;
  for (const Param& param : params)
    result.push_back(param.tensor.detach().to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true));
  return result;
}

}  // namespace equisweep
