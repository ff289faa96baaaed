#pragma once
// Random group elements that act on blocks of a training run, where a matrix for a whole vocabulary would be larger than the
// model.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/symmetry.h"

namespace equisweep {

/// Up to this length of an axis elements of the orthogonal group are Haar distributed, where the block is not in fp64: all
/// that a width of the sizes nano to mid is. In fp64 a product with a matrix in double rounds more than a rule may (some
/// sqrt(n) roundings: 7 floors at 512), so the limit is lower.
inline constexpr std::int64_t kHaarUpTo = 512, kHaarUpToInDouble = 32;

/// One element of `group` on an axis of length n, a pure function of (group, n, seed) on any device:
///   permutation, signed permutation   uniform; exact, O(numel)
///   orthogonal, n <= haar_up_to       Haar: random_matrix() of core/symmetry.h (QR with sign fix) after one more step
///                                     Q <- Q (3 I - Q^T Q) / 2 in double, which leaves it orthogonal to some 2^-53
///   orthogonal, longer                two rounds of a uniform permutation and a rotation of each pair of neighbours by an
///                                     angle of its own: orthogonal and generic, not Haar; O(numel)
class AxisElement {
 public:
  AxisElement(Group group, std::int64_t n, std::uint64_t seed, const at::Device& device,
              std::int64_t haar_up_to = kHaarUpTo);

  /// The element acts along the last axis of y (-1) or along the one before (-2); y in double if it is orthogonal, else in
  /// any dtype.
  at::Tensor act(const at::Tensor& y, std::int64_t axis) const;
  Group group() const { return group_; }

 private:
  struct Round {
    at::Tensor order, cosine, sine;
  };

  Group group_;
  at::Tensor order_, signs_;   // of (signed) permutations
  at::Tensor matrix_;          // [n, n], Haar
  std::vector<Round> rounds_;  // else
};

/// x -> L x R^T for blocks x [..., m, n], L and R of one group each.
class BlockElement {
 public:
  /// For blocks of the shape, dtype and device of `like`.
  BlockElement(Group rows, Group features, const at::Tensor& like, std::uint64_t seed);

  /// In the dtype of x, rounded to it once; exact where both sides only permute and negate.
  at::Tensor act(const at::Tensor& x) const;

 private:
  AxisElement rows_, features_;
};

}  // namespace equisweep
