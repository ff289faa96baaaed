#include "analysis/audit/groups.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "core/rng.h"

namespace equisweep {
namespace {

using Shape = std::vector<std::int64_t>;

// out = left x right^T for one matrix, in long double; null pointers are identities.
void act_on_matrix(const double* left, const double* right, const double* x, double* out, std::int64_t m, std::int64_t n,
                   std::vector<long double>& rows) {
  rows.assign(static_cast<std::size_t>(m * n), 0.0L);
  for (std::int64_t i = 0; i < m; ++i) {
    long double* const row = rows.data() + i * n;
    if (left == nullptr) {
      for (std::int64_t j = 0; j < n; ++j) row[j] = x[i * n + j];
      continue;
    }
    for (std::int64_t k = 0; k < m; ++k) {
      const long double weight = left[i * m + k];
      if (weight == 0) continue;
      for (std::int64_t j = 0; j < n; ++j) row[j] += weight * static_cast<long double>(x[k * n + j]);
    }
  }
  for (std::int64_t i = 0; i < m; ++i) {
    const long double* const row = rows.data() + i * n;
    for (std::int64_t j = 0; j < n; ++j) {
      long double sum = row[j];
      if (right != nullptr) {
        sum = 0;
        for (std::int64_t k = 0; k < n; ++k) sum += static_cast<long double>(right[j * n + k]) * row[k];
      }
      out[i * n + j] = static_cast<double>(sum);
    }
  }
}

Shape leading(const at::Tensor& x) { return {x.sizes().begin(), x.sizes().end() - 2}; }

Shape with_matrix(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

at::Tensor spread(const at::Tensor& x, const Shape& batch) {
  return x.expand(with_matrix(batch, x.size(-2), x.size(-1))).contiguous();
}

at::Tensor on_both_sides(const Move& g, at::Tensor x) {
  Shape batch = leading(x);
  if (g.left.defined()) batch = at::infer_size(batch, leading(g.left));
  if (g.right.defined()) batch = at::infer_size(batch, leading(g.right));
  x = spread(x, batch);
  const at::Tensor left = g.left.defined() ? spread(g.left, batch) : at::Tensor();
  const at::Tensor right = g.right.defined() ? spread(g.right, batch) : at::Tensor();
  const std::int64_t m = x.size(-2), n = x.size(-1);
  TORCH_CHECK((!left.defined() || left.size(-1) == m) && (!right.defined() || right.size(-1) == n),
              "this element cannot act on a tensor of shape ", x.sizes());
  at::Tensor out = at::empty_like(x);
  const std::int64_t matrices = m * n == 0 ? 0 : x.numel() / (m * n);
  std::vector<long double> rows;
  for (std::int64_t i = 0; i < matrices; ++i) {
    act_on_matrix(left.defined() ? left.const_data_ptr<double>() + i * m * m : nullptr,
                  right.defined() ? right.const_data_ptr<double>() + i * n * n : nullptr,
                  x.const_data_ptr<double>() + i * m * n, out.data_ptr<double>() + i * m * n, m, n, rows);
  }
  return out;
}

at::Tensor transposed(const at::Tensor& matrix) { return matrix.defined() ? matrix.mT().contiguous() : matrix; }

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return b;
  return b.defined() ? on_both_sides({a, {}, {}}, b) : a;
}

// One Newton step towards the nearest orthogonal matrix, Q (3 I - Q^T Q) / 2, in long double.
at::Tensor orthogonalized(const at::Tensor& q) {
  const std::int64_t n = q.size(0);
  const double* const entries = q.const_data_ptr<double>();
  std::vector<long double> gram(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      long double sum = i == j ? -3.0L : 0.0L;
      for (std::int64_t k = 0; k < n; ++k)
        sum += static_cast<long double>(entries[k * n + i]) * static_cast<long double>(entries[k * n + j]);
      gram[static_cast<std::size_t>(i * n + j)] = -0.5L * sum;
    }
  at::Tensor result = at::empty_like(q);
  double* const out = result.data_ptr<double>();
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      long double sum = 0;
      for (std::int64_t k = 0; k < n; ++k)
        sum += static_cast<long double>(entries[i * n + k]) * gram[static_cast<std::size_t>(k * n + j)];
      out[i * n + j] = static_cast<double>(sum);
    }
  return result;
}

}  // namespace

at::Tensor act_wide(const Move& g, const at::Tensor& x) {
  at::Tensor y = x.to(at::kDouble);
  if (g.batch.defined()) {
    TORCH_CHECK(x.dim() >= 3 && x.size(-3) == g.batch.size(-1), "this element permutes ", g.batch.size(-1),
                " matrices, not those of a tensor of shape ", x.sizes());
    // A product with a permutation matrix adds nothing but zeros: it is exact.
    y = at::matmul(g.batch, y.flatten(-2)).unflatten(-1, {x.size(-2), x.size(-1)});
  }
  return g.left.defined() || g.right.defined() ? on_both_sides(g, y) : y;
}

at::Tensor act(const Move& g, const at::Tensor& x) { return act_wide(g, x).to(x.scalar_type()); }

Move inverse(const Move& g) { return {transposed(g.left), transposed(g.right), transposed(g.batch)}; }

Move compose(const Move& a, const Move& b) {
  return {product(a.left, b.left), product(a.right, b.right), product(a.batch, b.batch)};
}

at::Tensor random_element_matrix(Group group, std::int64_t n, std::uint64_t seed) {
  const at::Tensor matrix = random_matrix(group, n, seed).contiguous();
  return group == Group::orthogonal ? orthogonalized(matrix) : matrix;
}

at::Tensor orthogonal_fixing_ones(std::int64_t n, std::uint64_t seed) {
  TORCH_CHECK(n > 0, "a group acts on at least one axis, not on ", n);
  if (n == 1) return at::ones({1, 1}, at::kDouble);
  // H = I - 2 v v^T / (v^T v) with v = e_1 - 1 / sqrt(n) exchanges the two unit vectors.
  at::Tensor v = at::full({n, 1}, -1.0 / std::sqrt(static_cast<double>(n)), at::kDouble);
  v[0][0] += 1.0;
  const at::Tensor reflection = at::eye(n, at::kDouble) - at::matmul(v, v.t()) * (2.0 / v.square().sum().item<double>());
  at::Tensor inner = at::eye(n, at::kDouble);
  inner.narrow(0, 1, n - 1).narrow(1, 1, n - 1).copy_(random_matrix(Group::orthogonal, n - 1, seed));
  return orthogonalized(at::matmul(at::matmul(reflection, inner), reflection));
}

at::Tensor block_orthogonal(std::int64_t blocks, std::int64_t width, std::uint64_t seed) {
  std::vector<at::Tensor> parts;
  for (std::int64_t i = 0; i < blocks; ++i)
    parts.push_back(
        random_element_matrix(Group::orthogonal, width, derive_seed(seed, "block", static_cast<std::uint64_t>(i))));
  return at::block_diag(parts);
}

at::Tensor rope_torus(std::int64_t heads, std::int64_t width, std::uint64_t seed) {
  TORCH_CHECK(heads > 0 && width > 0 && width % 2 == 0, "rotary pairs need heads of even width, not ", heads, " of ", width);
  SplitMix64 random(derive_seed(seed, "torus"));
  at::Tensor matrix = at::zeros({heads * width, heads * width}, at::kDouble);
  auto entries = matrix.accessor<double, 2>();
  for (std::int64_t head = 0; head < heads; ++head)
    for (std::int64_t pair = 0; pair < width / 2; ++pair) {
      const std::int64_t i = head * width + pair, j = i + width / 2;
      const double angle = 2.0 * std::numbers::pi * random.uniform();
      entries[i][i] = entries[j][j] = std::cos(angle);
      entries[j][i] = std::sin(angle);
      entries[i][j] = -entries[j][i];
    }
  return matrix;
}

at::Tensor widened(const at::Tensor& matrix, std::int64_t width) { return at::kron(matrix, at::eye(width, at::kDouble)); }

at::Tensor repeated(const at::Tensor& matrix, std::int64_t copies) {
  return at::block_diag(std::vector<at::Tensor>(static_cast<std::size_t>(copies), matrix));
}

at::Tensor block_permutation(std::int64_t blocks, std::int64_t width, std::uint64_t seed) {
  return widened(random_matrix(Group::permutation, blocks, seed), width);
}

at::Tensor gqa_permutation(std::int64_t groups, std::int64_t heads_per_group, std::int64_t width, std::uint64_t seed) {
  std::vector<at::Tensor> inside;
  for (std::int64_t i = 0; i < groups; ++i)
    inside.push_back(
        random_matrix(Group::permutation, heads_per_group, derive_seed(seed, "inside", static_cast<std::uint64_t>(i))));
  const at::Tensor between = block_permutation(groups, heads_per_group, derive_seed(seed, "groups"));
  return widened(at::matmul(between, at::block_diag(inside)), width);
}

at::Tensor random_shift(std::int64_t n, std::uint64_t seed) {
  auto generator = make_generator(seed, "shift");
  return at::randn({1, n}, generator, at::kDouble);
}

}  // namespace equisweep
