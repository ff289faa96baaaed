#include "models/blocks/linear.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "models/blocks/device_linear.h"
#include "models/blocks/fused_embedding.h"
#include "models/blocks/tile_linear.h"

namespace equisweep {

Linear::Linear(const Scope& scope, std::string_view name, Role role, std::int64_t in, std::int64_t out, Layout layout,
               bool bias)
    : weight_(scope.matrix(fmt::format("{}.weight", name), role, {out, in}, layout)) {
  if (bias) bias_ = scope.vector(fmt::format("{}.bias", name), {out}, Init::zeros);
}

at::Tensor Linear::operator()(const at::Tensor& x, const at::Tensor& add) const {
  if (tile_linear_serves(x, *weight_))
    return tile_linear(x, *weight_, bias_ ? at::TensorList(*bias_) : at::TensorList(), {nullptr, add})[0];
  if (device_linear_serves(x, *weight_)) {
    if (!bias_) return device_linear(x, *weight_, {}, add);
    const at::Tensor y = device_linear(x, *weight_, *bias_);
    return add.defined() ? residual(add, y) : y;
  }
  const auto dtype = x.scalar_type();
  const at::Tensor y = bias_ ? at::linear(x, (*weight_).to(dtype), (*bias_).to(dtype)) : at::linear(x, (*weight_).to(dtype));
  return add.defined() ? residual(add, y) : y;
}

std::vector<at::Tensor> joint(const at::Tensor& x, std::initializer_list<const Linear*> maps, const RmsNorm* norm) {
  std::vector<at::Tensor> weights, biases, ys;
  for (const Linear* map : maps) {
    weights.push_back(map->weight());
    if (const at::Tensor bias = map->bias(); bias.defined()) biases.push_back(bias);
  }
  if (tile_linear_serves(x, weights) && (biases.empty() || biases.size() == weights.size()))
    return tile_linear(x, weights, biases, {norm, {}});
  const at::Tensor input = norm ? (*norm)(x) : x;
  if (device_linear_serves(input, weights) && (biases.empty() || biases.size() == weights.size()))
    return parts_of(device_linear(input, weights, biases), weights);
  for (const Linear* map : maps) ys.push_back((*map)(input));
  return ys;
}

Embedding::Embedding(const Scope& scope, std::string_view name, std::int64_t vocab, std::int64_t d)
    : weight_(scope.matrix(fmt::format("{}.weight", name), Role::embedding, {vocab, d})) {}

// The rows are cast after the lookup: the table has many more.
at::Tensor Embedding::operator()(const at::Tensor& tokens_BT, at::ScalarType dtype, double scale) const {
  if (fused_embedding_serves(*weight_, tokens_BT, dtype)) return fused_embedding(*weight_, tokens_BT, dtype, scale);
  const at::Tensor x = at::embedding(*weight_, tokens_BT).to(dtype);
  return scale == 1 ? x : x * at::scalar_tensor(scale, x.options());
}

at::Tensor residual(const at::Tensor& x, const at::Tensor& y) { return x + y; }

}  // namespace equisweep
