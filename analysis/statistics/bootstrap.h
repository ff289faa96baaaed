#pragma once
// Intervals by resampling, for those who do not want to assume that losses over seeds are normal.
//
// The bias-corrected and accelerated interval (BCa) of a mean or of a difference of two means: B resamples of the values,
// drawn with replacement, have means m*_1 .. m*_B around the mean m. With
//   z0 = Phi^-1(share of m* below m, ties counting half)                     median bias
//   a  = sum over groups of sum d_i^3 / n^3 / (6 (sum over groups of sum d_i^2 / n^2)^1.5)   skewness; d_i = x_i - mean
// the bounds are the quantiles of m* at Phi(z0 + (z0 + z) / (1 - a (z0 + z))) for z = Phi^-1(alpha / 2) and Phi^-1(1 - alpha
// / 2). Quantiles are linear between order statistics. Source: Efron, JASA 82 (1987); DiCiccio & Efron, Statist. Sci. 11
// (1996).
//
// Over few values these intervals are too narrow, as those of every bootstrap: there are no more distinct resamples than the
// values allow. tests/analysis/test_bootstrap.cpp measures by how much.

#include <cstdint>
#include <span>
#include <string>

#include "analysis/statistics/statistics.h"

namespace equisweep {

/// How intervals over seeds are made.
struct IntervalMethod {
  std::int64_t resamples = 0;  ///< 0: Student's t; else a bootstrap of so many resamples
  std::uint64_t seed = 0;      ///< of the bootstrap
  bool bootstrap() const { return resamples > 0; }
};

inline constexpr std::int64_t kMinResamples = 100;  ///< below it a bound rests on two or three resamples
inline constexpr std::int64_t kMaxResamples = 1'000'000;

/// BCa bounds of the mean of `values`. The same values and method give the same bounds: every interval has a generator of
/// its own. NaN for fewer than two values; both bounds are the mean where all values are equal.
Bounds bootstrap_mean(std::span<const double> values, const IntervalMethod& method, double alpha = kAlpha);

/// BCa bounds of mean(first) - mean(second), each resampled by itself. NaN where either has fewer than two values.
Bounds bootstrap_difference(std::span<const double> first, std::span<const double> second, const IntervalMethod& method,
                            double alpha = kAlpha);

/// interval_of(values) with the bounds of `method`.
Interval interval_of(std::span<const double> values, const IntervalMethod& method);

/// `interval` with the bounds of a bootstrap in place of its own.
Interval with_bounds(Interval interval, const Bounds& bounds);

}  // namespace equisweep
