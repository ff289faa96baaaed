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

/// What the floor of a trajectory is drawn with.
struct FloorDraws {
  double u = 0;                 ///< unit roundoff of the first cast
  std::int64_t to_nearest = 0;  ///< perturbed runs in the usual arithmetic
  bool upward = false;          ///< one more with every operation rounded up,
  bool downward = false;        ///< and one rounded down
  std::uint64_t seed = 0;
};

/// max over draws of ||Phi' - Phi|| / ||Phi||, at least u / 2, over the last `axes` axes: one number for each of the leading
/// ones. Phi' is the last direction after every gradient G_t and the state before the last have been multiplied, entry by
/// entry, by 1 + u r, with r uniform in [-1, 1]. Runs in directed rounding show what the rule's own arithmetic rounds where
/// a perturbed input does not: a polar factor does not see the scale of a row, and the backend that approximates it does.
/// Another device than the CPU rounds to nearest only: there these runs are the CPU's, held against the CPU's own direction,
/// so that what the device adds to its rounding counts in no floor.
at::Tensor rounding_floor(const UpdateRule& rule, const std::vector<at::Tensor>& gradients, const at::Tensor& direction,
                          const BlockInfo& block, const FloorDraws& draws, std::int64_t axes);

}  // namespace equisweep
