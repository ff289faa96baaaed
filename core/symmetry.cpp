#include "core/symmetry.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "core/rng.h"

namespace equisweep {
namespace {

std::string_view symbol_of(Group group) {
  switch (group) {
    case Group::identity:
      return "I";
    case Group::permutation:
      return "P";
    case Group::signed_permutation:
      return "signed P";
    case Group::orthogonal:
      return "O";
  }
  TORCH_CHECK(false, "not a group");
}

// A matrix with a single entry of +-1 in each row and column: (A x)_i = sign_i x_source_i.
struct SignedPermutation {
  at::Tensor source;  // int64 [n]
  at::Tensor sign;    // double [n]
  bool negates = false;
};

std::optional<SignedPermutation> as_signed_permutation(const at::Tensor& matrix) {
  const auto nonzero = matrix.ne(0);
  const bool monomial = nonzero.sum(0).eq(1).all().item<bool>() && nonzero.sum(1).eq(1).all().item<bool>() &&
                        matrix.abs().eq(1).eq(nonzero).all().item<bool>();
  if (!monomial) return std::nullopt;
  const auto source = nonzero.to(at::kByte).argmax(1);
  const auto sign = matrix.gather(1, source.unsqueeze(1)).squeeze(1);
  return SignedPermutation{source, sign, sign.lt(0).any().item<bool>()};
}

at::Tensor act_exactly(const SignedPermutation& g, const at::Tensor& x, std::int64_t axis) {
  auto moved = x.index_select(axis, g.source.to(x.device()));
  if (!g.negates) return moved;
  const auto sign = g.sign.to(x.device(), x.scalar_type());
  return moved.mul_(axis == -2 ? sign.unsqueeze(1) : sign);
}

at::Tensor permutation_matrix(std::int64_t n, std::uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<std::int64_t> target(static_cast<std::size_t>(n));
  std::iota(target.begin(), target.end(), 0);
  for (std::size_t i = target.size(); i > 1; --i) std::swap(target[i - 1], target[random.below(i)]);
  auto matrix = at::zeros({n, n}, at::kDouble);
  auto* const entries = matrix.data_ptr<double>();
  for (std::size_t i = 0; i < target.size(); ++i) entries[static_cast<std::int64_t>(i) * n + target[i]] = 1;
  return matrix;
}

at::Tensor random_signs(std::int64_t n, std::uint64_t seed) {
  SplitMix64 random(seed);
  auto signs = at::empty({n}, at::kDouble);
  auto* const entries = signs.data_ptr<double>();
  for (std::int64_t i = 0; i < n; ++i) entries[i] = random.below(2) == 0 ? 1 : -1;
  return signs;
}

// Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 54 (2007), section 5: Q
// of a Gaussian matrix is Haar distributed once R is made unique by a positive diagonal.
at::Tensor haar_matrix(std::int64_t n, std::uint64_t seed) {
  auto generator = make_generator(seed, "haar");
  const auto [q, r] = at::linalg_qr(at::randn({n, n}, generator, at::kDouble));
  const auto diagonal = r.diagonal();
  return q * at::where(diagonal.lt(0), at::full_like(diagonal, -1), at::ones_like(diagonal));
}

}  // namespace

std::string_view name_of(Group group) {
  switch (group) {
    case Group::identity:
      return "identity";
    case Group::permutation:
      return "permutation";
    case Group::signed_permutation:
      return "signed_permutation";
    case Group::orthogonal:
      return "orthogonal";
  }
  TORCH_CHECK(false, "not a group");
}

std::string to_string(const Symmetry& symmetry) {
  return fmt::format("{}(m) x {}(n){}", symbol_of(symmetry.rows), symbol_of(symmetry.columns),
                     symmetry.shift ? " + shift" : "");
}

at::Tensor act(const GroupElement& g, const at::Tensor& x) {
  TORCH_CHECK(x.dim() >= 2 && x.size(-2) == g.left.size(0) && x.size(-1) == g.right.size(0), "a group element of ",
              g.left.size(0), " x ", g.right.size(0), " cannot act on a tensor of shape ", x.sizes());
  const auto left = as_signed_permutation(g.left);
  const auto right = as_signed_permutation(g.right);
  if (left && right) return act_exactly(*right, act_exactly(*left, x, -2), -1);
  // In double, so that the product is rounded to the dtype of x only once.
  auto y = x.to(at::kDouble);
  y = left ? act_exactly(*left, y, -2) : at::matmul(g.left.to(x.device()), y);
  y = right ? act_exactly(*right, y, -1) : at::matmul(y, g.right.to(x.device()).transpose(0, 1));
  return y.to(x.scalar_type());
}

GroupElement inverse(const GroupElement& g) {
  return {g.left.transpose(0, 1).contiguous(), g.right.transpose(0, 1).contiguous()};
}

GroupElement compose(const GroupElement& a, const GroupElement& b) {
  return {at::matmul(a.left, b.left), at::matmul(a.right, b.right)};
}

at::Tensor random_matrix(Group group, std::int64_t n, std::uint64_t seed) {
  TORCH_CHECK(n > 0, "a group acts on at least one axis, not on ", n);
  switch (group) {
    case Group::identity:
      return at::eye(n, at::kDouble);
    case Group::permutation:
      return permutation_matrix(n, derive_seed(seed, "permutation"));
    case Group::signed_permutation:
      return permutation_matrix(n, derive_seed(seed, "permutation")) * random_signs(n, derive_seed(seed, "signs"));
    case Group::orthogonal:
      return haar_matrix(n, seed);
  }
  TORCH_CHECK(false, "not a group");
}

GroupElement random_element(const Symmetry& symmetry, std::int64_t m, std::int64_t n, std::uint64_t seed) {
  return {random_matrix(symmetry.rows, m, derive_seed(seed, "left")),
          random_matrix(symmetry.columns, n, derive_seed(seed, "right"))};
}

}  // namespace equisweep
