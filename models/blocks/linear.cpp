#include "models/blocks/linear.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace equisweep {

Linear::Linear(const Scope& scope, std::string_view name, Role role, std::int64_t in, std::int64_t out, Layout layout,
               bool bias)
    : weight_(scope.matrix(fmt::format("{}.weight", name), role, {out, in}, layout)) {
  if (bias) bias_ = scope.vector(fmt::format("{}.bias", name), {out}, Init::zeros);
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  const auto dtype = x.scalar_type();
  return bias_ ? at::linear(x, (*weight_).to(dtype), (*bias_).to(dtype)) : at::linear(x, (*weight_).to(dtype));
}

Embedding::Embedding(const Scope& scope, std::string_view name, std::int64_t vocab, std::int64_t d)
    : weight_(scope.matrix(fmt::format("{}.weight", name), Role::embedding, {vocab, d})) {}

// The rows are cast after the lookup: the table has many more.
at::Tensor Embedding::operator()(const at::Tensor& tokens_BT, at::ScalarType dtype) const {
  return at::embedding(*weight_, tokens_BT).to(dtype);
}

at::Tensor residual(const at::Tensor& x, const at::Tensor& y) { return x + y; }

}  // namespace equisweep
