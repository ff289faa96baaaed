#pragma once
// What a rule claims about itself, and random elements of the groups to hold it to.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace equisweep {

/// The ladder of groups that can act on one side of a block; each contains those before it.
enum class Group { identity, permutation, signed_permutation, orthogonal };

std::string_view name_of(Group group);

/// U(L M R^T) = L U(M) R^T for all L in `rows` (acting on units) and R in `columns` (acting on features).
/// `shift`: the direction is horizontal, 1^T U = 0, and unchanged by M -> M + 1c^T.
struct Symmetry {
  Group rows = Group::identity;
  Group columns = Group::identity;
  bool shift = false;
  bool operator==(const Symmetry&) const = default;
};

/// "signed P(m) x O(n) + shift"
std::string to_string(const Symmetry& symmetry);

/// An element of a product group: orthogonal matrices for both sides, double precision on the CPU.
struct GroupElement {
  at::Tensor left;   ///< [m, m]
  at::Tensor right;  ///< [n, n]
};

/// left X right^T for X [..., m, n], in the dtype of X. Permutations and signs act exactly (no rounding): a matrix with a
/// single nonzero entry of +-1 a row only moves and negates.
at::Tensor act(const GroupElement& g, const at::Tensor& x);
GroupElement inverse(const GroupElement& g);
/// act(compose(a, b), x) = act(a, act(b, x))
GroupElement compose(const GroupElement& a, const GroupElement& b);

/// A random element of `group` as an n x n matrix, double; uniform (Haar for the orthogonal group: QR with the signs of
/// R's diagonal moved into Q). A pure function of `seed`.
at::Tensor random_matrix(Group group, std::int64_t n, std::uint64_t seed);

/// A random element of rows x columns acting on m x n blocks.
GroupElement random_element(const Symmetry& symmetry, std::int64_t m, std::int64_t n, std::uint64_t seed);

}  // namespace equisweep
