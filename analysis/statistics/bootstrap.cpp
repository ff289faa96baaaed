#include "analysis/statistics/bootstrap.h"

#include <algorithm>
#include <array>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace equisweep {
namespace {

/// One of the samples, as deviations from its mean: resampled means are then differences from the mean, without rounding of
/// the size of the mean itself.
struct ResampledGroup {
  std::vector<double> deviations;
  double mean = 0;
  double sign = 1;  // in the difference
};

ResampledGroup resampled_group(std::span<const double> values, double sign) {
  ResampledGroup group{.deviations = {values.begin(), values.end()}, .mean = interval_of(values).mean, .sign = sign};
  for (double& x : group.deviations) x -= group.mean;
  return group;
}

double quantile_of(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto below = std::min(static_cast<std::size_t>(at), sorted.size() - 1);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], at - static_cast<double>(below));
}

Bounds bca(std::span<const ResampledGroup> groups, const IntervalMethod& method, double alpha) {
  double estimate = 0, largest = 0, cubes = 0, squares = 0;
  for (const ResampledGroup& group : groups) {
    if (group.deviations.size() < 2) return {kNan, kNan};
    const double n = static_cast<double>(group.deviations.size());
    estimate += group.sign * group.mean;
    for (const double d : group.deviations) {
      largest = std::max(largest, std::abs(d));
      cubes += group.sign * d * d * d / (n * n * n);
      squares += d * d / (n * n);
    }
  }
  if (!(squares > 0)) return {estimate, estimate};

  std::mt19937_64 bits(method.seed);  // the same numbers on every platform, unlike the distributions of <random>
  std::vector<double> means(static_cast<std::size_t>(method.resamples), 0.0);
  for (double& mean : means) {
    for (const ResampledGroup& group : groups) {
      const std::uint64_t n = group.deviations.size();
      double sum = 0;
      for (std::uint64_t i = 0; i < n; ++i) sum += group.deviations[static_cast<std::size_t>((bits() >> 32) * n >> 32)];
      mean += group.sign * sum / static_cast<double>(n);
    }
  }
  std::sort(means.begin(), means.end());

  // Every rearrangement of the values has the same mean, but for rounding: it must count as a tie.
  const double tie = 1e-12 * largest;
  const auto below = std::lower_bound(means.begin(), means.end(), -tie) - means.begin();
  const auto not_above = std::upper_bound(means.begin(), means.end(), tie) - means.begin();
  const double count = static_cast<double>(means.size());
  const double share = std::clamp(static_cast<double>(below + not_above) / (2 * count), 0.5 / count, 1 - 0.5 / count);

  const boost::math::normal normal;
  const double z0 = boost::math::quantile(normal, share), a = cubes / (6 * std::pow(squares, 1.5));
  const auto bound = [&](double p) {
    const double z = z0 + boost::math::quantile(normal, p);
    return estimate + quantile_of(means, boost::math::cdf(normal, z0 + z / (1 - a * z)));
  };
  return {bound(alpha / 2), bound(1 - alpha / 2)};
}

}  // namespace

Bounds bootstrap_mean(std::span<const double> values, const IntervalMethod& method, double alpha) {
  const std::array groups = {resampled_group(values, 1)};
  return bca(groups, method, alpha);
}

Bounds bootstrap_difference(std::span<const double> first, std::span<const double> second, const IntervalMethod& method,
                            double alpha) {
  const std::array groups = {resampled_group(first, 1), resampled_group(second, -1)};
  return bca(groups, method, alpha);
}

Interval with_bounds(Interval interval, const Bounds& bounds) {
  interval.bounds = bounds;
  interval.half_width = (bounds.high - bounds.low) / 2;
  return interval;
}

Interval interval_of(std::span<const double> values, const IntervalMethod& method) {
  const Interval interval = interval_of(values);
  return method.bootstrap() ? with_bounds(interval, bootstrap_mean(values, method)) : interval;
}

}  // namespace equisweep
