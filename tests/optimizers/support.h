#pragma once
// Inputs and oracles that the tests of this folder share.

#include <ATen/core/Tensor.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/param.h"
#include "core/rng.h"
#include "optimizers/rules.h"
#include "tests/support/oracle.h"

namespace equisweep::testing {

inline at::Tensor gaussian(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType dtype = at::kDouble) {
  auto generator = make_generator(seed, "test");
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble)).to(dtype);
}

/// Eigen's view of the matrix x [m, n]: P diag(f(s)) Q^T for its thin SVD P diag(s) Q^T, where f also sees the largest
/// singular value and the Frobenius norm.
inline at::Tensor map_singular_values(const at::Tensor& x, const oracle::SpectralMap& f) {
  const at::Tensor given = x.to(at::kDouble).contiguous();
  at::Tensor result = at::empty_like(given);
  oracle::map_singular_values(given.const_data_ptr<double>(), given.size(0), given.size(1), f, result.data_ptr<double>());
  return result;
}

/// An m x n matrix with these singular values and random singular vectors.
inline at::Tensor with_spectrum(std::int64_t m, std::int64_t n, const std::vector<double>& values, std::uint64_t seed) {
  const auto k = static_cast<std::int64_t>(values.size());
  const auto orthonormal = [&](std::int64_t rows, std::uint64_t s) {
    const at::Tensor x = gaussian({rows, k}, s);
    at::Tensor q = at::empty_like(x);
    oracle::orthonormal_columns(x.const_data_ptr<double>(), rows, k, q.data_ptr<double>());
    return q;
  };
  return at::matmul(orthonormal(m, seed) * at::tensor(values, at::kDouble), orthonormal(n, seed + 1).t());
}

/// Log-spaced values from 1 down to `last`.
inline std::vector<double> log_spectrum(std::int64_t count, double last) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(std::pow(last, static_cast<double>(i) / static_cast<double>(std::max<std::int64_t>(1, count - 1))));
  return values;
}

inline double norm_of(const at::Tensor& x) { return at::linalg_vector_norm(x.to(at::kDouble)).item<double>(); }

/// An error as tests compare it: infinite where it is no finite number, because std::max would drop a NaN.
inline double error_of(double x) { return std::isfinite(x) ? x : HUGE_VAL; }

inline double relative_error(const at::Tensor& x, const at::Tensor& reference) {
  const double size = norm_of(reference), difference = norm_of(x.to(at::kDouble) - reference.to(at::kDouble));
  return difference == 0 ? 0 : error_of(difference / size);
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(a, b);
}

inline nlohmann::json entry(const std::string& rule, nlohmann::json options = nlohmann::json::object()) {
  if (!options.contains("lr")) options["lr"] = 0.1;
  options["rule"] = rule;
  return complete_entry(options);
}

inline Param make_param(std::string name, Role role, Layout layout, at::Tensor value) {
  Param param;
  param.name = std::move(name);
  param.role = role;
  param.layout = layout;
  param.tensor = value.detach().clone().requires_grad_();
  return param;
}

/// What a call that must throw UsageError says.
template <typename F>
std::string usage_error(F&& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "(no UsageError)";
}

}  // namespace equisweep::testing
