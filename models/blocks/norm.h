#pragma once
// RMSNorm (Zhang & Sennrich, arXiv:1910.07467).

#include "models/blocks/weights.h"

namespace equisweep {

/// y = x / sqrt(mean(x^2) + eps) * (offset + gain) over the last axis. The statistics are taken in at least fp32; y has the
/// dtype of x.
class RmsNorm {
 public:
  RmsNorm() = default;
  /// Name: `name`.weight [width]. `offset` 0: gain starts at one; offset 1 (Gemma): gain starts at zero.
  RmsNorm(const Scope& scope, std::string_view name, std::int64_t width, double eps, double offset = 0);
  explicit operator bool() const { return bool(gain_); }
  at::Tensor operator()(const at::Tensor& x) const;

  const at::Tensor& gain() const { return *gain_; }
  double eps() const { return eps_; }
  double offset() const { return offset_; }

 private:
  Weight gain_;
  double eps_ = 0, offset_ = 0;
};

/// What stands around a part of a block: its input is norm(x) where there is a norm, and the residual, if defined, is added
/// to its output.
struct Around {
  const RmsNorm* norm = nullptr;
  at::Tensor residual = {};

  at::Tensor input(const at::Tensor& x) const { return norm ? (*norm)(x) : x; }
};

}  // namespace equisweep
