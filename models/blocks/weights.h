#pragma once
// The weights of a model while its blocks are put together.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/param.h"

namespace equisweep {

/// Owns the Params of one model, in the order in which the blocks ask for them.
class Weights {
 public:
  explicit Weights(at::Device device) : device_(device) {}
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  /// An unset fp32 leaf that requires a gradient. Throws UsageError if the shape overflows 64 bits.
  std::size_t add(std::string name, Role role, const std::vector<std::int64_t>& shape, Layout layout, Init init,
                  std::int64_t layer);

  std::span<Param> params() { return params_; }
  const at::Tensor& tensor(std::size_t index) const { return params_[index].tensor; }

 private:
  at::Device device_;
  std::vector<Param> params_;
};

/// A block's handle of one weight. It looks the tensor up at every use, because the Optimizer and the loaders may put
/// another tensor (a slice of a bank, another dtype or device) in its place. A default handle stands for "no such weight".
class Weight {
 public:
  Weight() = default;
  Weight(const Weights* owner, std::size_t index) : owner_(owner), index_(index) {}
  explicit operator bool() const { return owner_ != nullptr; }
  const at::Tensor& operator*() const { return owner_->tensor(index_); }

 private:
  const Weights* owner_ = nullptr;
  std::size_t index_ = 0;
};

/// Where in the model a block stands: the prefix of its names and its layer. `scope / "self_attn"` is one step down.
class Scope {
 public:
  explicit Scope(Weights& weights, std::string prefix = "", std::int64_t layer = -1)
      : weights_(&weights), prefix_(std::move(prefix)), layer_(layer) {}

  Scope operator/(std::string_view name) const;

  /// A matrix or stack of matrices, drawn from normal(0, 0.02).
  Weight matrix(std::string_view name, Role role, const std::vector<std::int64_t>& shape, Layout layout = {}) const;
  /// A gain, bias or sink.
  Weight vector(std::string_view name, const std::vector<std::int64_t>& shape, Init init) const;

 private:
  Weights* weights_;
  std::string prefix_;
  std::int64_t layer_;
};

}  // namespace equisweep
