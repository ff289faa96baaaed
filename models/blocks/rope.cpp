#include "models/blocks/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numbers>

namespace equisweep {
namespace {

struct Tables {
  Rope rope;
  std::int64_t T;
  at::ScalarType dtype;
  at::Device device;
  at::Tensor cos, sin;  ///< [T, 1, head_dim]; sin carries the sign of the rotation: (-s, s)
};

Tables make_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device) {
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor frequency = at::tensor(rope.inverse_frequencies(), f64);
  const at::Tensor angle = at::arange(T, f64).unsqueeze(1) * frequency;
  const at::Tensor c = angle.cos() * rope.attention_factor(), s = angle.sin() * rope.attention_factor();
  const auto finish = [&](const at::Tensor& t) { return t.unsqueeze(1).to(device, dtype).contiguous(); };
  return {rope, T, dtype, device, finish(at::cat({c, c}, 1)), finish(at::cat({-s, s}, 1))};
}

/// Sequence lengths are few; the bound only keeps a caller with many from growing the list for ever.
constexpr std::size_t kMaxTables = 32;

Tables cached_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device) {
  static std::mutex mutex;
  static std::vector<Tables> tables;
  const std::lock_guard lock(mutex);
  for (const auto& t : tables) {
    if (t.T == T && t.dtype == dtype && t.device == device && t.rope == rope) return t;
  }
  if (tables.size() == kMaxTables) tables.erase(tables.begin());
  return tables.emplace_back(make_tables(rope, T, dtype, device));
}

}  // namespace

std::vector<double> Rope::inverse_frequencies() const {
  const auto dim = static_cast<double>(head_dim);
  std::vector<double> f(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < f.size(); ++i) f[i] = std::pow(base, -2.0 * static_cast<double>(i) / dim);
  if (!scaling) return f;
  if (scaling->kind == RopeScaling::Kind::linear) {
    for (double& x : f) x /= scaling->factor;
    return f;
  }
  // The dimension that makes r turns within the original context.
  const auto dimension_of = [&](double r) {
    return dim * std::log(scaling->original_context / (2 * std::numbers::pi * r)) / (2 * std::log(base));
  };
  double low = dimension_of(scaling->beta_fast), high = dimension_of(scaling->beta_slow);
  if (scaling->truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] *= (1 - ramp) + ramp / scaling->factor;
  }
  return f;
}

double Rope::attention_factor() const {
  if (!scaling || scaling->kind != RopeScaling::Kind::yarn) return 1;
  return scaling->attention_factor.value_or(scaling->factor <= 1 ? 1.0 : 0.1 * std::log(scaling->factor) + 1);
}

at::Tensor rotate(const Rope& rope, const at::Tensor& x_BTHC) {
  const Tables t = cached_tables(rope, x_BTHC.size(1), x_BTHC.scalar_type(), x_BTHC.device());
  const auto halves = x_BTHC.chunk(2, -1);
  return at::addcmul(x_BTHC * t.cos, at::cat({halves[1], halves[0]}, -1), t.sin);
}

}  // namespace equisweep
