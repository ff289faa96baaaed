#pragma once
// What the Optimizer shows of a step, so that diagnostics need not know optimizers and optimizers need not know diagnostics.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "core/matrix_view.h"
#include "core/param.h"
#include "core/update_rule.h"

namespace equisweep {

/// One bank in one step, before the weights are overwritten. Tensors are blocks [K, ..., unit, feature] for the K weights
/// of the bank; they must not be kept beyond the call nor written to.
struct BankStep {
  std::int64_t step = 0;                    ///< from 1
  std::span<Param* const> params;           ///< the K weights, in the order of the leading axis
  const MatrixView& view;
  const at::Tensor& weight;
  const at::Tensor& gradient;               ///< after clipping
  const at::Tensor& direction;              ///< U
  const RuleState& state;                   ///< after this step's gradient was folded in
  const UpdateRule& rule;
  double lr = 0;
  double retained = 1;                      ///< W <- retained * W - lr * U
};

class StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// Asked once before a step; observe() follows for every bank if it returns true.
  virtual bool wants(std::int64_t step) const = 0;
  virtual void observe(const BankStep& bank) = 0;
};

}  // namespace equisweep
