#pragma once
// A rule followed along a sequence of gradients, and the floor of its last direction.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/update_rule.h"

namespace equisweep {

/// The end of a sequence of gradients that began with the zero state.
struct Trajectory {
  RuleState before;      ///< the state before the last gradient; the last step does not write to it
  at::Tensor gradient;   ///< the last gradient [..., m, n]
  at::Tensor direction;  ///< U of the last gradient
};

Trajectory follow(const UpdateRule& rule, const std::vector<at::Tensor>& gradients, const BlockInfo& block);

/// Phi(S, G): the direction of one more gradient; `state` is left alone.
at::Tensor step_once(const UpdateRule& rule, const RuleState& state, const at::Tensor& gradient, const BlockInfo& block);

/// max over `draws` of ||Phi(S o (1 + u r), G o (1 + u r)) - Phi(S, G)|| / ||Phi(S, G)||, at least u / 2, over the last
/// `axes` axes: one number for each of the leading ones. Twice as many draws where the gradient is narrower than the state.
at::Tensor rounding_floor(const UpdateRule& rule, const Trajectory& trajectory, const BlockInfo& block, double u,
                          std::int64_t draws, std::int64_t axes, std::uint64_t seed);

}  // namespace equisweep
