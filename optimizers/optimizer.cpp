// K weights of a bank; blocks [K, ..., unit, feature].
#include "optimizers/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>

#include "core/error.h"
#include "optimizers/kernels/step.h"
#include "optimizers/rules.h"

namespace equisweep {

/// Weights of one entry, shape and layout in one tensor, with their gradients and state.
struct Optimizer::Bank {
  std::string entry;
  std::shared_ptr<const UpdateRule> rule;
  double lr = 0, weight_decay = 0;
  MatrixView view;
  std::vector<Param*> params;
  at::Tensor weight, gradient;                ///< [K, stored...]
  at::Tensor weight_blocks, gradient_blocks;  ///< the same memory as blocks; undefined where blocks need a copy
  RuleState state;                            ///< in blocks, strided like the stored weight where possible

  BlockInfo info() const { return {view.fan_out, view.fan_in}; }
  at::ScalarType working_dtype() const { return state_options().dtype().toScalarType(); }
  at::TensorOptions state_options() const {
    return at::TensorOptions().device(weight.device()).dtype(at::promote_types(weight.scalar_type(), at::kFloat));
  }
  at::Tensor blocks_of(const at::Tensor& alias, const at::Tensor& stored) const {
    return alias.defined() ? alias : to_blocks(view, stored);
  }
};

namespace {

void refuse_doubles(std::span<Param> params) {
  std::set<std::string> names;
  std::map<const void*, const Param*> tensors;
  std::vector<Problem> problems;
  for (const Param& param : params) {
    TORCH_CHECK(param.tensor.defined() && param.tensor.is_leaf() && param.tensor.requires_grad(), "weight ", param.name,
                " is not a leaf that requires a gradient");
    const auto complain = [&](const std::string& what) {
      problems.push_back({{}, what, "every weight is claimed exactly once"});
    };
    if (!names.insert(param.name).second) complain(fmt::format("weight '{}' is there twice", printable(param.name)));
    const auto [other, fresh] = tensors.emplace(param.tensor.unsafeGetTensorImpl(), &param);
    if (!fresh)
      complain(
          fmt::format("weights '{}' and '{}' are the same tensor", printable(other->second->name), printable(param.name)));
  }
  if (!problems.empty()) throw UsageError(std::move(problems));
}

MatrixView view_of_entry(const Param& param, const std::string& entry, const nlohmann::json& options) {
  const std::string wanted = options.value("view", "natural");
  ViewKind kind = ViewKind::natural;
  for (const ViewKind candidate :
       {ViewKind::whole, ViewKind::row, ViewKind::col, ViewKind::heads, ViewKind::split, ViewKind::pair})
    if (name_of(candidate) == wanted) kind = candidate;
  try {
    return view_of(param, kind);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("stack: entry '{}', weight '{}': {}", entry, printable(param.name), error.what()));
  }
}

std::string shape_text(at::IntArrayRef shape) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : shape) sizes.push_back(fmt::format("{}", size));
  return fmt::format("[{}]", join(sizes));
}

/// W <- retained W - lr U, rounded once to the dtype of W.
void apply_update(const at::Tensor& weight, const at::Tensor& update, double retained, double lr) {
  if (fused_apply(weight, update, retained, lr)) return;
  const at::Tensor result = weight.scalar_type() == update.scalar_type() ? weight : weight.to(update.scalar_type());
  if (retained != 1.0) result.mul_(retained);
  result.sub_(update, lr);
  if (!result.is_same(weight)) weight.copy_(result);
}

/// The blocks of `stored` if they are the same memory, else an undefined tensor.
at::Tensor aliasing_blocks(const MatrixView& view, const at::Tensor& stored) {
  at::Tensor blocks = to_blocks(view, stored);
  return blocks.is_alias_of(stored) ? blocks : at::Tensor();
}

}  // namespace

Optimizer::Optimizer(std::span<Param> params, const nlohmann::json& stack) {
  const at::NoGradGuard no_grad;
  refuse_doubles(params);
  std::vector<Role> roles;
  for (const Param& param : params) roles.push_back(param.role);
  std::map<Role, std::string> entry_of;
  for (auto& [role, entry] : assign_roles(stack, roles)) entry_of.emplace(role, entry);

  std::map<std::string, std::shared_ptr<const UpdateRule>> rule_of;
  std::map<std::tuple<std::string, std::vector<std::int64_t>, LayoutKind, std::int64_t, bool, at::ScalarType, std::string>,
           Bank*>
      bank_of;
  for (Param& param : params) {
    const std::string& entry = entry_of.at(param.role);
    const nlohmann::json& options = stack.at(entry);
    Bank*& bank = bank_of[{entry, param.tensor.sizes().vec(), param.layout.kind, param.layout.heads,
                           unit_is_column(param.role), param.tensor.scalar_type(), param.tensor.device().str()}];
    if (!bank) {
      auto& rule = rule_of[entry];
      if (!rule) rule = make_rule(options);
      banks_.push_back(std::make_unique<Bank>());
      bank = banks_.back().get();
      bank->entry = entry;
      bank->rule = rule;
      bank->lr = options.at("lr");
      bank->weight_decay = options.at("weight_decay");
      bank->view = view_of_entry(param, entry, options);
    }
    bank->params.push_back(&param);
  }

  for (const auto& bank : banks_) {
    std::vector<at::Tensor> weights;
    for (const Param* param : bank->params) weights.push_back(param->tensor.detach());
    bank->weight = at::stack(weights).contiguous();
    bank->gradient = at::zeros_like(bank->weight);
    for (std::size_t i = 0; i < bank->params.size(); ++i) {
      at::Tensor& tensor = bank->params[i]->tensor;
      const auto index = static_cast<std::int64_t>(i);
      tensor.set_data(bank->weight.select(0, index));
      tensor.mutable_grad() = bank->gradient.select(0, index);
    }
    bank->weight_blocks = aliasing_blocks(bank->view, bank->weight);
    bank->gradient_blocks = aliasing_blocks(bank->view, bank->gradient);
    for (std::size_t slot = 0; slot < bank->rule->slots().size(); ++slot)
      bank->state.slots.push_back(to_blocks(bank->view, at::zeros(bank->weight.sizes(), bank->state_options())));
  }
}

Optimizer::~Optimizer() = default;
Optimizer::Optimizer(Optimizer&&) noexcept = default;

void Optimizer::zero_grad() {
  for (const auto& bank : banks_) bank->gradient.zero_();
}

at::Tensor Optimizer::gradient_norm() const {
  const at::NoGradGuard no_grad;
  double squares = 0;
  const auto add_squares = [&](const auto& bank) {
    const std::optional<double> sum = fused_squares(bank->gradient);
    squares += sum.value_or(0);
    return sum.has_value();
  };
  if (std::all_of(banks_.begin(), banks_.end(), add_squares)) return at::scalar_tensor(std::sqrt(squares), at::kDouble);
  std::vector<at::Tensor> norms;
  for (const auto& bank : banks_)
    norms.push_back(at::linalg_vector_norm(bank->gradient, 2, at::OptionalIntArrayRef{}, false, bank->working_dtype()));
  return norms.size() == 1 ? norms.front() : at::linalg_vector_norm(at::stack(norms));
}

void Optimizer::clip(const at::Tensor& norm, double max_norm) {
  const at::NoGradGuard no_grad;
  clip_ = at::reciprocal(norm + 1e-6).mul_(max_norm).clamp_max_(1.0);
}

void Optimizer::step(double factor, Gradients after) {
  const at::NoGradGuard no_grad;
  ++steps_;
  double gradient_factor = 1;  // known here on the CPU, where reading a scalar costs nothing
  const at::Tensor clip = clip_.defined() && !clip_.is_cpu() ? clip_ : at::Tensor();
  if (clip_.defined() && clip_.is_cpu()) gradient_factor = clip_.item<double>();
  clip_ = at::Tensor();
  std::vector<StepObserver*> watching;
  for (StepObserver* observer : observers_)
    if (observer->wants(steps_)) watching.push_back(observer);

  for (const auto& bank : banks_) {
    const double lr = bank->lr * factor;
    const double retained = bank->rule->retained(lr, bank->weight_decay);
    if (watching.empty() && bank->weight_blocks.defined() &&
        bank->rule->update({.weight = bank->weight_blocks,
                            .gradient = bank->gradient_blocks,
                            .gradient_factor = gradient_factor,
                            .clip = clip,
                            .zero_gradient = after == Gradients::zero,
                            .retained = retained,
                            .lr = lr},
                           bank->state, bank->info()))
      continue;
    if (gradient_factor != 1) bank->gradient.mul_(gradient_factor);
    if (clip.defined()) bank->gradient.mul_(clip);
    const at::ScalarType working = bank->working_dtype();
    const at::Tensor gradient = bank->blocks_of(bank->gradient_blocks, bank->gradient);
    const at::Tensor direction = bank->rule->direction(gradient.to(working), bank->state, bank->info());
    if (!watching.empty()) {
      const at::Tensor weight = bank->blocks_of(bank->weight_blocks, bank->weight);
      for (StepObserver* observer : watching)
        observer->observe(
            {steps_, bank->params, bank->view, weight, gradient, direction, bank->state, *bank->rule, lr, retained});
    }

    const bool in_place = bank->weight_blocks.defined();
    const at::Tensor& weight = in_place ? bank->weight_blocks : bank->weight;
    const at::Tensor update = in_place ? direction : to_stored(bank->view, direction);
    apply_update(weight, update, retained, lr);
    if (after == Gradients::zero) bank->gradient.zero_();
  }
}

void Optimizer::add_observer(StepObserver* observer) { observers_.push_back(observer); }

std::vector<std::pair<std::string, double>> Optimizer::learning_rates(double factor) const {
  std::map<std::string, double> by_entry;
  for (const auto& bank : banks_) by_entry.emplace(bank->entry, bank->lr * factor);
  return {by_entry.begin(), by_entry.end()};
}

std::int64_t Optimizer::steps() const { return steps_; }

std::int64_t Optimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& bank : banks_)
    for (const at::Tensor& slot : bank->state.slots) bytes += static_cast<std::int64_t>(slot.nbytes());
  return bytes;
}

void Optimizer::save_state(const std::function<void(const std::string&, const at::Tensor&)>& visit) const {
  const at::NoGradGuard no_grad;
  for (const auto& bank : banks_) {
    const std::vector<std::string> slots = bank->rule->slots();
    for (std::size_t slot = 0; slot < slots.size(); ++slot) {
      const at::Tensor stored = to_stored(bank->view, bank->state.slots[slot]);
      for (std::size_t i = 0; i < bank->params.size(); ++i)
        visit(bank->params[i]->name + "/" + slots[slot], stored.select(0, static_cast<std::int64_t>(i)));
    }
  }
}

void Optimizer::load_state(std::int64_t steps, const std::function<at::Tensor(const std::string&)>& fetch) {
  const at::NoGradGuard no_grad;
  std::vector<std::pair<at::Tensor, at::Tensor>> writes;  // everything is checked before anything is written
  for (const auto& bank : banks_) {
    const std::vector<std::string> slots = bank->rule->slots();
    for (std::size_t slot = 0; slot < slots.size(); ++slot)
      for (std::size_t i = 0; i < bank->params.size(); ++i) {
        const std::string key = bank->params[i]->name + "/" + slots[slot];
        const at::Tensor saved = fetch(key);
        const at::Tensor target = bank->state.slots[slot].select(0, static_cast<std::int64_t>(i));
        if (saved.sizes() != at::IntArrayRef(bank->view.stored) || saved.scalar_type() != target.scalar_type())
          throw Error(fmt::format("optimizer state '{}' has shape {} and dtype {}; the weight needs {} and {}", key,
                                  shape_text(saved.sizes()), at::toString(saved.scalar_type()),
                                  shape_text(bank->view.stored), at::toString(target.scalar_type())));
        writes.emplace_back(target, to_blocks(bank->view, saved));
      }
  }
  if (steps < 0) throw Error(fmt::format("optimizer state with {} steps", steps));
  for (auto& [target, saved] : writes) target.copy_(saved);
  for (const auto& bank : banks_) bank->state.step = steps;
  steps_ = steps;
}

}  // namespace equisweep
