#pragma once
// Products with weights, and the embedding table.

#include "models/blocks/weights.h"

namespace equisweep {

/// y = x W^T + b, x [..., in] -> y [..., out]. The weight, kept in its own dtype, is cast to that of x; its gradient flows
/// back through the cast.
class Linear {
 public:
  Linear() = default;
  /// Names: `name`.weight [out, in] and, if asked for, `name`.bias [out] (a vector, zero at the start).
  Linear(const Scope& scope, std::string_view name, Role role, std::int64_t in, std::int64_t out, Layout layout = {},
         bool bias = false);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Weight weight_, bias_;
};

/// Rows of a table: tokens [B, T] -> [B, T, d] in `dtype`.
class Embedding {
 public:
  Embedding() = default;
  Embedding(const Scope& scope, std::string_view name, std::int64_t vocab, std::int64_t d);
  at::Tensor operator()(const at::Tensor& tokens_BT, at::ScalarType dtype) const;
  Weight weight() const { return weight_; }

 private:
  Weight weight_;
};

/// The residual connection x + y.
at::Tensor residual(const at::Tensor& x, const at::Tensor& y);

}  // namespace equisweep
