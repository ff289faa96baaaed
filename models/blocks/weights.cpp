#include "models/blocks/weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace equisweep {

std::size_t Weights::add(std::string name, Role role, const std::vector<std::int64_t>& shape, Layout layout, Init init,
                         std::int64_t layer) {
  std::int64_t bytes = sizeof(float);
  for (const std::int64_t n : shape) {
    if (n <= 0 || __builtin_mul_overflow(bytes, n, &bytes)) {
      throw UsageError(
          fmt::format("weight {} cannot have the shape [{}]: every dimension is at least 1, and its bytes must "
                      "fit in 64 bits",
                      name, fmt::join(shape, ", ")));
    }
  }
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(device_));
  tensor.requires_grad_(true);
  params_.push_back({std::move(name), role, layout, std::move(tensor), init, layer});
  return params_.size() - 1;
}

Scope Scope::operator/(std::string_view name) const { return Scope(*weights_, fmt::format("{}{}.", prefix_, name), layer_); }

Weight Scope::matrix(std::string_view name, Role role, const std::vector<std::int64_t>& shape, Layout layout) const {
  return {weights_, weights_->add(fmt::format("{}{}", prefix_, name), role, shape, layout, Init::normal, layer_)};
}

Weight Scope::vector(std::string_view name, const std::vector<std::int64_t>& shape, Init init) const {
  return {weights_,
          weights_->add(fmt::format("{}{}", prefix_, name), Role::vector, shape, {LayoutKind::vector, 1}, init, layer_)};
}

}  // namespace equisweep
