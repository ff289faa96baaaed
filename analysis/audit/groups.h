#pragma once
// Random elements of the groups of an audit, and their action on blocks [..., batch, unit, feature].
//
//   (g x)_e = left x_pi(e) right^T     left [m, m], right [n, n] orthogonal, pi a permutation of the batch
//
// Every generator is a pure function of its seed, in double on the CPU, and returns a matrix that acts on one axis. K, the
// number of elements drawn at once, may lead: left [K, 1, m, m] acts on x [K, I, m, n] or on all of x [I, m, n].
// Beside core/symmetry.h, whose ladder identity < permutation < signed permutation < orthogonal is reused here.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/symmetry.h"

namespace equisweep {

/// An element of a product group; an undefined part is the identity.
struct Move {
  at::Tensor left;   ///< [..., m, m]
  at::Tensor right;  ///< [..., n, n]
  at::Tensor batch;  ///< [..., E, E], a permutation matrix on the third axis from the end
};

/// g x, computed wider than the dtype of x (long double for fp64) and rounded to it once; exact where g only moves and
/// negates.
at::Tensor act(const Move& g, const at::Tensor& x);

/// g x, rounded to double only.
at::Tensor act_wide(const Move& g, const at::Tensor& x);

Move inverse(const Move& g);
/// act(compose(a, b), x) = act(a, act(b, x))
Move compose(const Move& a, const Move& b);

/// random_matrix() of core/symmetry.h, with the orthogonal group made orthogonal to the last bit by one step
/// Q <- Q (3 I - Q^T Q) / 2 in long double: QR alone leaves some roundings more, which an audit in fp64 would see.
at::Tensor random_element_matrix(Group group, std::int64_t n, std::uint64_t seed);

/// Haar on the subgroup of O(n) that fixes the vector 1: H diag(1, Q) H with Q Haar on O(n - 1) and H the reflection that
/// exchanges e_1 and 1 / sqrt(n).
at::Tensor orthogonal_fixing_ones(std::int64_t n, std::uint64_t seed);

/// diag(Q_1, ..., Q_blocks), Q_i Haar on O(width): one basis change for each head.
at::Tensor block_orthogonal(std::int64_t blocks, std::int64_t width, std::uint64_t seed);

/// A rotation of each rotary pair (i, i + width / 2) of each head by a uniform angle of its own: what commutes with rotary
/// position embedding (models/blocks/rope.h rotates by halves). `width` is even.
at::Tensor rope_torus(std::int64_t heads, std::int64_t width, std::uint64_t seed);

/// A random permutation of blocks of `width`: P x I(width).
at::Tensor block_permutation(std::int64_t blocks, std::int64_t width, std::uint64_t seed);

/// A random move of query heads that grouped-query attention allows: the heads inside each group are permuted, and then the
/// groups (the key and value heads go with them, by the same permutation of groups).
at::Tensor gqa_permutation(std::int64_t groups, std::int64_t heads_per_group, std::int64_t width, std::uint64_t seed);

/// I(copies) x P, for weights that hold the neurons several times, one copy after the other.
at::Tensor repeated(const at::Tensor& matrix, std::int64_t copies);

/// P x I(width): `matrix` moves groups of `width` neighbours.
at::Tensor widened(const at::Tensor& matrix, std::int64_t width);

/// A shift 1 c^T of all rows by the same c [1, n], standard normal. Acts by addition: x + shift.
at::Tensor random_shift(std::int64_t n, std::uint64_t seed);

}  // namespace equisweep
