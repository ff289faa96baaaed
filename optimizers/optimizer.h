#pragma once
// The Optimizer: claims every weight of a model exactly once by role, keeps same-shape weights of one entry in banks, and is
// the only writer of weights.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/param.h"
#include "core/step_observer.h"
#include "core/update_rule.h"

namespace equisweep {

/// Which entry of a stack claims each role, most specific first (core/role.h).
/// `stack` maps entry names (default, matrix, attention, attention_q, ...) to complete entries (optimizers/rules.h).
/// Throws UsageError if a role of `roles` is claimed by nobody, if an entry claims none of them, or if
/// a matrix rule would serve role `vector`; the message lists the roles found and the entries named.
std::vector<std::pair<Role, std::string>> assign_roles(const nlohmann::json& stack, std::span<const Role> roles);

class Optimizer {
 public:
  /// Claims `params` and moves each weight and its gradient into a bank: weight i of a bank is bank[i], its .grad is
  /// gradient_bank[i], so backward accumulates in place. `stack` as in assign_roles.
  Optimizer(std::span<Param> params, const nlohmann::json& stack);
  ~Optimizer();
  Optimizer(Optimizer&&) noexcept;

  /// Sets every gradient to zero, one call a bank.
  void zero_grad();

  /// 2-norm of all gradients together, a scalar tensor on the device (no synchronisation).
  at::Tensor gradient_norm() const;

  /// Lets the next step() act on the gradients times min(1, max_norm / (norm + 1e-6)), without synchronisation. They are
  /// multiplied there, in the pass that reads them.
  void clip(const at::Tensor& norm, double max_norm);

  /// One update of every weight, bank by bank: U = rule(G, state); W <- retained * W - lr * U (the decay first), with lr =
  /// lr of the entry * `factor`. Afterwards the gradients are what they were (or that, clipped), or zero.
  enum class Gradients { keep, zero };
  void step(double factor, Gradients after = Gradients::keep);

  /// Observers are shown every bank of the steps that they want, before its weights are overwritten.
  void add_observer(StepObserver* observer);

  /// Learning rate of each entry at `factor`: {"default": 3e-3, "matrix": 0.02}.
  std::vector<std::pair<std::string, double>> learning_rates(double factor) const;

  std::int64_t steps() const;        ///< updates made so far
  std::int64_t state_bytes() const;  ///< memory of all states

  /// Calls visit(key, tensor) for the state of every weight, "<weight name>/<slot>", each in the shape of the weight. The
  /// tensors alias the state where they can, or are copies; written back by load_state().
  void save_state(const std::function<void(const std::string&, const at::Tensor&)>& visit) const;

  /// Restores what save_state() gave, independent of how weights were banked then. `fetch` returns the tensor of a key and
  /// throws if there is none. All keys are fetched and checked before anything is written.
  void load_state(std::int64_t steps, const std::function<at::Tensor(const std::string&)>& fetch);

 private:
  struct Bank;
  std::vector<std::unique_ptr<Bank>> banks_;
  std::vector<StepObserver*> observers_;
  at::Tensor clip_;  ///< factor of the gradients in the next step; undefined: 1
  std::int64_t steps_ = 0;
};

}  // namespace equisweep
