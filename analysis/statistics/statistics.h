#pragma once
// The statistics of a report. Everything that depends on n carries n.
//
// Samples are final losses or differences of them, one a seed. All functions take finite values; ranking, where a diverged
// run counts as +infinity, is ranking_mean(). Student's t from Boost.Math.

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace equisweep {

/// A number that there is not, and what a diverged run has for a loss.
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

inline constexpr double kAlpha = 0.05;  ///< two-sided level of every interval and test
inline constexpr double kPower = 0.8;   ///< of the smallest detectable difference

struct Bounds {
  double low = kNan, high = kNan;
};

/// mean +- half_width holds the expectation with probability 1 - alpha:
/// half_width = t(1 - alpha/2; n - 1) sd / sqrt(n), sd with n - 1. n = 1: sd and half_width are NaN; n = 0: mean too.
struct Interval {
  double mean = 0;
  double half_width = 0;
  std::size_t n = 0;
  double sd = 0;
  /// Of a bootstrap (bootstrap.h), around which the mean need not be the middle; half_width is then half their distance.
  std::optional<Bounds> bounds = {};
  double low() const { return bounds ? bounds->low : mean - half_width; }
  double high() const { return bounds ? bounds->high : mean + half_width; }
};

/// The quantile of Student's t with `df` > 0 degrees of freedom (not necessarily an integer) at 0 < p < 1.
double student_quantile(double p, double df);

/// P(|T| >= |t|) for Student's t with `df` degrees of freedom.
double two_sided_p(double t, double df);

Interval interval_of(std::span<const double> values, double alpha = kAlpha);

/// A difference of two means.
struct Comparison {
  Interval difference;  ///< first minus second; sd of the pairs, or of the difference itself (Welch)
  bool paired = false;
  double t = 0;  ///< difference / standard error; NaN where there is no sd, or it is zero and the difference is not
  double df = 0;
  double p = 1;  ///< two-sided, NaN where t is. Print printable_p() instead
  /// p, or nothing where it rests on fewer than 3 seeds a side.
  std::optional<double> printable_p() const;
  double standard_error() const;  ///< of the difference; NaN where there is no sd
};

/// Paired: the i-th of `first` belongs to the i-th of `second` (same seed). n pairs, df = n - 1.
Comparison paired_difference(std::span<const double> first, std::span<const double> second, double alpha = kAlpha);

/// Welch's t for independent samples: se^2 = s1^2/n1 + s2^2/n2, df of Welch and Satterthwaite. `difference.n` is the smaller
/// n.
Comparison welch_difference(std::span<const double> first, std::span<const double> second, double alpha = kAlpha);

/// The true difference d that the test of `comparison`, alone at level alpha, finds in its direction with probability
/// `power`: P(T > t(1 - alpha/2; df)) = power for a noncentral t variable T with the comparison's df and noncentrality
/// d / standard error. A correction for several tests makes it larger. NaN where there is no test. Source: Johnson & Welch,
/// Biometrika 31 (1940).
double smallest_detectable_difference(const Comparison& comparison, double alpha = kAlpha, double power = kPower);

/// Holm's step-down adjustment: sorted ascending, p_(i) becomes max_{j <= i} min(1, (m - j + 1) p_(j)), in the order given.
/// A NaN stays NaN and does not count in m. Source: Holm, Scand. J. Statist. 6 (1979).
std::vector<double> holm(std::span<const double> p);

/// Mean for ranking: NaN counts as +infinity, so one diverged seed makes the mean infinite and NaN never wins. +infinity for
/// an empty sample.
double ranking_mean(std::span<const double> values);

}  // namespace equisweep
