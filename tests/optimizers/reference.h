#pragma once
// The rules a second time, as plainly as optimizers.md states them: one matrix at a time, in double, polar factors in closed
// form by Eigen's SVD. On request with what published code does differently (optimizers.md section 4), in the words of
// the `published_differences` of a recording.

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/update_rule.h"

namespace equisweep::testing {

class Reference {
 public:
  /// `entry` is complete. Throws std::runtime_error on a difference that it does not know.
  explicit Reference(nlohmann::json entry, nlohmann::json differences = nlohmann::json::object());

  /// Whether it has the rule called `name`.
  static bool knows(const std::string& name);

  /// U of the next gradient [..., m, n]. `fan_of_storage` is used in place of `block` by code that takes its scale from the
  /// storage order.
  at::Tensor direction(const at::Tensor& gradient, const BlockInfo& block, const BlockInfo& fan_of_storage = {});

  /// f(X) for one matrix. `right`: the inverse root is of X^T X.
  at::Tensor polar(const at::Tensor& x, bool right) const;

 private:
  at::Tensor momentum_of(const at::Tensor& gradient);
  at::Tensor polar_rule(const at::Tensor& s, const at::Tensor& gradient, const BlockInfo& block);
  bool has(const char* difference) const { return differences_.contains(difference); }

  nlohmann::json entry_, differences_, polar_differences_;
  std::string rule_;
  at::Tensor m_, v_;
  int step_ = 0;
};

}  // namespace equisweep::testing
