#pragma once
// Shadow states of one block: what a rule would have made of g G_t in place of G_t.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "analysis/diagnostics/block_element.h"
#include "core/update_rule.h"

namespace equisweep {

/// Follows a rule along the gradients G_1, G_2, ... of a run, and beside it, from states that start at zero as well, along
///   g G_t               for each element g
///   G_t o (1 + u r)     twice, and g G_t o (1 + u r) once for each g: r without a pattern in [-1, 1], the floor
///   G_t + 1 c_t^T       if asked for, c_t as large as the rows of G_t
/// Every state receives every gradient, so a rule whose state is not linear in G is judged fairly. Gradients are not kept:
/// the cost is one update of the block a state and step, the memory one state each, whatever the number of steps.
class Shadow {
 public:
  struct Options {
    BlockInfo block;
    std::vector<BlockElement> elements;
    bool with_shift = false;
    double u = 0;  ///< unit roundoff of the first cast
    std::uint64_t seed = 0;
  };

  explicit Shadow(Options options);

  /// The next gradient [..., m, n] of the block; all of one shape, dtype and rule.
  void receive(const UpdateRule& rule, const at::Tensor& gradient);
  std::int64_t gradients() const { return gradients_; }

  /// Of the last directions, in double on the device:
  struct Result {
    std::vector<at::Tensor> error;  ///< ||Phi(gS, gG) - g Phi(S, G)|| / ||Phi(S, G)|| of each element
    std::vector<at::Tensor>
        floor;         ///< max ||Phi' - Phi|| / ||Phi|| over the draws at (S, G) and at (gS, gG), at least u / 2
    at::Tensor shift;  ///< ||Phi(M + 1 c^T) - Phi(M)|| / ||Phi(M)||; undefined without
  };
  Result judge() const;

 private:
  struct Follower {
    RuleState state;
    at::Tensor direction;
    void receive(const UpdateRule& rule, const at::Tensor& gradient, const BlockInfo& block);
  };

  at::Tensor noise(at::IntArrayRef shape, const at::TensorOptions& options);
  at::Tensor perturbed(const at::Tensor& gradient);
  at::Tensor shifted(const at::Tensor& gradient);

  Options options_;
  Follower plain_, shifted_;
  std::vector<Follower> draws_, moved_, moved_draws_;
  std::int64_t gradients_ = 0, drawn_ = 0;
  at::Tensor noise_;
};

}  // namespace equisweep
