#pragma once
// Products with weights, and the embedding table.

#include <initializer_list>
#include <vector>

#include "models/blocks/norm.h"
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
  /// The residual [..., out], if defined, is added.
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& residual = {}) const;

  const at::Tensor& weight() const { return *weight_; }
  /// Undefined where there is none.
  at::Tensor bias() const { return bias_ ? *bias_ : at::Tensor(); }

 private:
  Weight weight_, bias_;
};

/// Several maps of one input, x or norm(x), which is read once where they can be computed together (tile_linear.h).
std::vector<at::Tensor> joint(const at::Tensor& x, std::initializer_list<const Linear*> maps, const RmsNorm* norm = nullptr);

/// Rows of a table times `scale`, each rounded to `dtype`: tokens [B, T] -> [B, T, d] in `dtype`.
class Embedding {
 public:
  Embedding() = default;
  Embedding(const Scope& scope, std::string_view name, std::int64_t vocab, std::int64_t d);
  at::Tensor operator()(const at::Tensor& tokens_BT, at::ScalarType dtype, double scale = 1) const;
  Weight weight() const { return weight_; }

 private:
  Weight weight_;
};

/// The residual connection x + y.
at::Tensor residual(const at::Tensor& x, const at::Tensor& y);

}  // namespace equisweep
