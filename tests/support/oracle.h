#pragma once
// The second opinion: Eigen in double, behind plain arrays, so that no other test file has to compile it.

#include <cstdint>
#include <functional>

namespace equisweep::testing::oracle {

/// (singular value, largest singular value, Frobenius norm) -> new singular value
using SpectralMap = std::function<double(double, double, double)>;

/// result = P diag(f(s)) Q^T for the thin SVD x = P diag(s) Q^T; x and result are m x n, row-major.
void map_singular_values(const double* x, std::int64_t m, std::int64_t n, const SpectralMap& f, double* result);

double largest_singular_value(const double* x, std::int64_t m, std::int64_t n);

/// x = the least-squares solution of a x = b; a is m x n, row-major, of rank n.
void least_squares(const double* a, std::int64_t m, std::int64_t n, const double* b, double* x);

/// q = an orthonormal basis of the columns of x; both m x k, row-major, k <= m.
void orthonormal_columns(const double* x, std::int64_t m, std::int64_t k, double* q);

}  // namespace equisweep::testing::oracle
