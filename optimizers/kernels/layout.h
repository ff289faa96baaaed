#pragma once
// How the loops walk through blocks that are strided like the stored weight.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace equisweep {

/// Points with offsets sum_d index_d stride_d.
class Lattice {
 public:
  /// Of the axes [first, last) of x, in the order of its indices.
  Lattice(const at::Tensor& x, std::int64_t first, std::int64_t last) {
    for (std::int64_t d = first; d < last; ++d) push(x.size(d), x.stride(d));
  }

  std::int64_t count() const { return count_; }
  std::int64_t offset(std::int64_t i) const {
    std::int64_t sum = 0;
    for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
      sum += i % axis->size * axis->stride;
      i /= axis->size;
    }
    return sum;
  }

  /// The same points in the order of memory, with as few axes as possible.
  void order_by_memory() {
    std::stable_sort(axes_.begin(), axes_.end(), [](const Axis& a, const Axis& b) { return a.stride > b.stride; });
    std::vector<Axis> merged;
    for (const Axis& axis : axes_) {
      if (axis.size == 1) continue;
      if (!merged.empty() && merged.back().stride == axis.stride * axis.size)
        merged.back() = {merged.back().size * axis.size, axis.stride};
      else
        merged.push_back(axis);
    }
    axes_ = std::move(merged);
  }

  /// Takes the axis of adjacent points away, after order_by_memory(), and returns its size; 1 where there is none.
  std::int64_t take_run() {
    if (axes_.empty() || axes_.back().stride != 1) return 1;
    const std::int64_t size = axes_.back().size;
    axes_.pop_back();
    count_ /= size;
    return size;
  }

 private:
  struct Axis {
    std::int64_t size, stride;
  };
  void push(std::int64_t size, std::int64_t stride) {
    axes_.push_back({size, stride});
    count_ *= size;
  }
  std::vector<Axis> axes_;
  std::int64_t count_ = 1;
};

/// A batch of matrices as lines of adjacent elements: `lines` lines of `length`, `stride` apart, which are rows or columns.
struct Lines {
  Lattice batch;
  bool rows;
  std::int64_t lines, length, stride;

  static bool fits(const at::Tensor& x) {
    return x.stride(-1) == 1 || x.size(-1) == 1 || x.stride(-2) == 1 || x.size(-2) == 1;
  }
  explicit Lines(const at::Tensor& x) : batch(x, 0, x.dim() - 2), rows(x.stride(-1) == 1 || x.size(-1) == 1) {
    lines = x.size(rows ? -2 : -1);
    length = x.size(rows ? -1 : -2);
    stride = x.stride(rows ? -2 : -1);
  }
};

/// Of one shape and, where an axis has more than one point, of the same strides.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (std::int64_t d = 0; d < a.dim(); ++d)
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

}  // namespace equisweep
