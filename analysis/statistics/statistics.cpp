#include "analysis/statistics/statistics.h"

#include <algorithm>
#include <boost/math/distributions/non_central_t.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <boost/math/tools/roots.hpp>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

namespace equisweep {
namespace {

/// Samples without any spread say nothing about chance, so a difference between them has no t.
double t_statistic(double difference, double standard_error) {
  if (standard_error > 0) return difference / standard_error;
  return standard_error == 0 && difference == 0 ? 0 : kNan;
}

}  // namespace

double student_quantile(double p, double df) { return boost::math::quantile(boost::math::students_t(df), p); }

double two_sided_p(double t, double df) {
  if (std::isnan(t)) return kNan;
  if (std::isinf(t)) return 0;
  return 2 * boost::math::cdf(boost::math::complement(boost::math::students_t(df), std::abs(t)));
}

Interval interval_of(std::span<const double> values, double alpha) {
  Interval result{.mean = kNan, .half_width = kNan, .n = values.size(), .sd = kNan};
  if (values.empty()) return result;
  const double n = static_cast<double>(values.size());
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) return result;
  double squares = 0;
  for (const double x : values) squares += (x - result.mean) * (x - result.mean);
  result.sd = std::sqrt(squares / (n - 1));
  result.half_width = student_quantile(1 - alpha / 2, n - 1) * result.sd / std::sqrt(n);
  return result;
}

std::optional<double> Comparison::printable_p() const {
  if (difference.n < 3 || std::isnan(p)) return std::nullopt;
  return p;
}

double Comparison::standard_error() const {
  return paired ? difference.sd / std::sqrt(static_cast<double>(difference.n)) : difference.sd;
}

Comparison paired_difference(std::span<const double> first, std::span<const double> second, double alpha) {
  assert(first.size() == second.size());
  std::vector<double> differences(first.size());
  std::transform(first.begin(), first.end(), second.begin(), differences.begin(), std::minus<>());
  Comparison result{.difference = interval_of(differences, alpha), .paired = true};
  const double n = static_cast<double>(differences.size());
  result.df = n - 1;
  result.t = t_statistic(result.difference.mean, result.standard_error());
  result.p = two_sided_p(result.t, result.df);
  return result;
}

Comparison welch_difference(std::span<const double> first, std::span<const double> second, double alpha) {
  const Interval a = interval_of(first), b = interval_of(second);
  Comparison result{.difference = {.mean = a.mean - b.mean, .half_width = kNan, .n = std::min(a.n, b.n), .sd = kNan}};
  result.t = result.df = result.p = kNan;
  if (result.difference.n < 2) return result;
  const double va = a.sd * a.sd / static_cast<double>(a.n), vb = b.sd * b.sd / static_cast<double>(b.n);
  const double standard_error = std::sqrt(va + vb);
  const double na = static_cast<double>(a.n - 1), nb = static_cast<double>(b.n - 1);
  result.df = standard_error > 0 ? (va + vb) * (va + vb) / (va * va / na + vb * vb / nb) : na + nb;
  result.difference.sd = standard_error;
  result.difference.half_width = student_quantile(1 - alpha / 2, result.df) * standard_error;
  result.t = t_statistic(result.difference.mean, standard_error);
  result.p = two_sided_p(result.t, result.df);
  return result;
}

double smallest_detectable_difference(const Comparison& comparison, double alpha, double power) {
  const double df = comparison.df, standard_error = comparison.standard_error();
  if (!(df > 0) || !std::isfinite(df) || !std::isfinite(standard_error)) return kNan;
  const double critical = student_quantile(1 - alpha / 2, df);
  const auto lacking = [&](double noncentrality) {
    return power - boost::math::cdf(boost::math::complement(boost::math::non_central_t(df, noncentrality), critical));
  };
  double most = critical;  // where the power is about one half
  while (lacking(most) > 0) most *= 2;
  std::uintmax_t iterations = 100;
  const auto [low, high] =
      boost::math::tools::toms748_solve(lacking, 0.0, most, boost::math::tools::eps_tolerance<double>(40), iterations);
  return std::midpoint(low, high) * standard_error;
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.begin(), p.end());
  double running = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    running = std::max(running, std::min(1.0, static_cast<double>(order.size() - rank) * p[order[rank]]));
    adjusted[order[rank]] = running;
  }
  return adjusted;
}

double ranking_mean(std::span<const double> values) {
  if (values.empty()) return kInfinity;
  double sum = 0;
  for (const double x : values) sum += std::isnan(x) ? kInfinity : x;
  return std::isnan(sum) ? kInfinity : sum / static_cast<double>(values.size());
}

}  // namespace equisweep
