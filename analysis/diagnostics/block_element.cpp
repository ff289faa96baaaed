// m x n a block, n also the length of one axis.
#include "analysis/diagnostics/block_element.h"

#include <ATen/ATen.h>

#include <numbers>
#include <numeric>
#include <utility>

#include "core/rng.h"

namespace equisweep {
namespace {

at::Tensor random_order(std::int64_t n, std::uint64_t seed, const at::Device& device) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  SplitMix64 random(seed);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return at::tensor(order, at::kLong).to(device);
}

at::Tensor random_angles(std::int64_t count, std::uint64_t seed, const at::Device& device) {
  std::vector<double> angles;
  SplitMix64 random(seed);
  for (std::int64_t i = 0; i < count; ++i) angles.push_back(2 * std::numbers::pi * random.uniform());
  return at::tensor(angles, at::kDouble).to(device);
}

at::Tensor haar(std::int64_t n, std::uint64_t seed, const at::Device& device) {
  const at::Tensor q = random_matrix(Group::orthogonal, n, seed).to(device);
  return at::matmul(q, 1.5 * at::eye(n, q.options()) - 0.5 * at::matmul(q.mT(), q));
}

std::int64_t haar_limit(const at::Tensor& like) { return like.scalar_type() == at::kDouble ? kHaarUpToInDouble : kHaarUpTo; }

/// Neighbours along the last axis rotated in pairs; the last of an odd number stays.
at::Tensor rotate_pairs(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const std::int64_t pairs = cosine.size(0);
  const at::Tensor a = x.narrow(-1, 0, pairs), b = x.narrow(-1, pairs, pairs);
  std::vector<at::Tensor> parts = {a * cosine - b * sine, a * sine + b * cosine};
  if (x.size(-1) % 2 == 1) parts.push_back(x.narrow(-1, 2 * pairs, 1));
  return at::cat(parts, -1);
}

}  // namespace

AxisElement::AxisElement(Group group, std::int64_t n, std::uint64_t seed, const at::Device& device, std::int64_t haar_up_to)
    : group_(group) {
  if (group == Group::identity) return;
  if (group == Group::orthogonal && n <= haar_up_to) {
    matrix_ = haar(n, derive_seed(seed, "haar"), device);
  } else if (group == Group::orthogonal) {
    for (const std::uint64_t round : {0, 1}) {
      const at::Tensor angle = random_angles(n / 2, derive_seed(seed, "angles", round), device);
      rounds_.push_back({random_order(n, derive_seed(seed, "order", round), device), angle.cos(), angle.sin()});
    }
  } else {
    order_ = random_order(n, derive_seed(seed, "permutation"), device);
    if (group == Group::signed_permutation) {
      std::vector<double> signs;
      SplitMix64 random(derive_seed(seed, "signs"));
      for (std::int64_t i = 0; i < n; ++i) signs.push_back(random.below(2) == 0 ? 1 : -1);
      signs_ = at::tensor(signs, at::kDouble).to(device);
    }
  }
}

at::Tensor AxisElement::act(const at::Tensor& y, std::int64_t axis) const {
  if (matrix_.defined()) return axis == -2 ? at::matmul(matrix_, y) : at::matmul(y, matrix_.mT());
  if (order_.defined()) {
    at::Tensor moved = y.index_select(axis, order_);
    if (!signs_.defined()) return moved;
    const at::Tensor signs = signs_.to(y.scalar_type());
    return moved.mul_(axis == -2 ? signs.unsqueeze(-1) : signs);
  }
  at::Tensor x = y.transpose(axis, -1);
  for (const Round& round : rounds_) x = rotate_pairs(x.index_select(-1, round.order), round.cosine, round.sine);
  return x.transpose(axis, -1);
}

BlockElement::BlockElement(Group rows, Group features, const at::Tensor& like, std::uint64_t seed)
    : rows_(rows, like.size(-2), derive_seed(seed, "rows"), like.device(), haar_limit(like)),
      features_(features, like.size(-1), derive_seed(seed, "features"), like.device(), haar_limit(like)) {}

at::Tensor BlockElement::act(const at::Tensor& x) const {
  const bool exact = rows_.group() != Group::orthogonal && features_.group() != Group::orthogonal;
  const at::Tensor y = exact ? x : x.to(at::kDouble);
  return features_.act(rows_.act(y, -2), -1).to(x.scalar_type()).contiguous();
}

}  // namespace equisweep
