#include "analysis/report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

std::vector<double> values(const std::map<std::int64_t, double>& by_seed) {
  std::vector<double> out;
  for (const auto& [seed, loss] : by_seed) out.push_back(loss);
  return out;
}

/// Why no claim rests on an arm although it has losses; empty where one may. Says so where the arm is the baseline's.
std::string objection(const ReportData& data, const Arm& arm) {
  const bool is_base = data.baseline == arm.stack;
  const char* of = is_base ? " of the baseline" : "";
  const LrPoint& point = arm.chosen();
  const std::size_t n = point.cells.size();
  if (data.tuned && point.lost > 0)
    return fmt::format("a fresh seed{} diverged or failed at the chosen point ({} of {})", of, point.lost, n);
  if (std::isinf(point.mean) && arm.points.size() > 1)
    return fmt::format("at every learning rate{} a seed diverged or failed", of);
  if (std::isinf(point.mean)) return fmt::format("a seed{} diverged or failed ({} of {})", of, point.lost, n);
  if (point.gone > 0) return fmt::format("at its chosen point {} of {} runs{} ended without a result", point.gone, n, of);
  const Arm* tuning = data.tuning_arm(arm.model, arm.stack);
  if (const LrPoint* rival = tuning == nullptr ? nullptr : tuning->rival())
    return fmt::format("{} learning rate is undecided: at {}, {} of {} ended without a result",
                       is_base ? "the baseline's" : "its", visible(point_name(*rival)), rival->gone,
                       plural(rival->cells.size(), "run"));
  const std::string copies = why_copies(point);
  return copies.empty() || !is_base ? copies : "the baseline is no measure: " + copies;
}

StackResult result_of(const ReportData& data, const Arm& arm, const Arm* baseline, const MeanCurve& base_curve) {
  const IntervalMethod& intervals = data.intervals;
  StackResult result{.arm = &arm, .baseline = baseline};
  const auto losses = finite_losses(arm.chosen());
  result.loss = interval_of(values(losses), intervals);
  result.comparison.t = result.comparison.df = result.comparison.p = kNan;
  result.comparison.difference = {.mean = kNan, .half_width = kNan, .n = 0, .sd = kNan};
  result.detectable = result.adjusted_p = kNan;
  if (baseline == nullptr) {
    result.why = "the baseline was not run on this model";
    return result;
  }
  const auto base = finite_losses(baseline->chosen());
  if (losses.empty()) {
    result.why = arm.chosen().lost > 0 ? "no run ended with a finite loss" : "no run has ended yet";
  } else if (base.empty()) {
    result.why = "no run of the baseline has ended with a finite loss";
  } else {
    result.comparison = compare_points(losses, base, intervals);
    result.detectable = smallest_detectable_difference(result.comparison);
    if (!base_curve.points.empty()) {
      const double target = base_curve.points.back().loss;
      result.reached = first_reach(mean_curve(data, arm.chosen()), target);
      result.baseline_reached = first_reach(base_curve, target);
    }
    result.why = objection(data, arm);
    if (result.why.empty()) result.why = objection(data, *baseline);
    if (!result.why.empty()) return result;
    if (result.comparison.difference.n < 2) {
      result.why = "one seed says nothing about chance";
    } else if (std::isnan(result.comparison.p)) {
      result.why = "its difference is the same for every seed to the last digit, which says nothing about chance";
    }
  }
  return result;
}

}  // namespace

Comparison compare_points(const std::map<std::int64_t, double>& stack, const std::map<std::int64_t, double>& baseline,
                          const IntervalMethod& intervals) {
  std::vector<double> first, second;
  for (const auto& [seed, loss] : stack) {
    if (const auto other = baseline.find(seed); other != baseline.end()) {
      first.push_back(loss);
      second.push_back(other->second);
    }
  }
  const bool few = std::min(stack.size(), baseline.size()) < 2;
  const bool paired = first.size() >= 2 || (few && first.size() == 1);
  if (!paired) first = values(stack), second = values(baseline);
  Comparison result = paired ? paired_difference(first, second) : welch_difference(first, second);
  if (!intervals.bootstrap()) return result;
  if (paired) {
    std::transform(first.begin(), first.end(), second.begin(), first.begin(), std::minus<>());
    result.difference = interval_of(first, intervals);
  } else {
    result.difference = with_bounds(result.difference, bootstrap_difference(first, second, intervals));
  }
  return result;
}

Outcome outcome_of(const Comparison& comparison, double adjusted_p) {
  if (std::isnan(adjusted_p)) return Outcome::no_claim;
  if (!(adjusted_p < kAlpha)) return Outcome::indistinguishable;
  return comparison.difference.mean < 0 ? Outcome::better : Outcome::worse;
}

void MeanCurveSum::add(const std::vector<EvalRow>& evals) {
  ++n_;
  for (const EvalRow& row : evals) {
    if (!std::isfinite(row.loss)) continue;
    Sums& sums = by_step_[row.step];
    sums.point.low = sums.n == 0 ? row.loss : std::min(sums.point.low, row.loss);
    sums.point.high = sums.n == 0 ? row.loss : std::max(sums.point.high, row.loss);
    sums.point.tokens += static_cast<double>(row.tokens);
    sums.point.seconds += row.seconds;
    sums.point.loss += row.loss;
    ++sums.n;
  }
}

MeanCurve MeanCurveSum::mean() const {
  MeanCurve curve{.n = n_};
  const auto n = static_cast<double>(n_);
  for (const auto& [step, sums] : by_step_) {
    if (sums.n != n_) continue;
    MeanCurve::Point p = sums.point;
    p.step = static_cast<double>(step);
    p.tokens /= n, p.seconds /= n, p.loss /= n;
    curve.points.push_back(p);
  }
  return curve;
}

MeanCurve mean_curve(const ReportData& data, const LrPoint& point) {
  MeanCurveSum sum;
  for (const CellRecord* cell : point.cells)
    if (std::isfinite(cell->run->final_loss())) sum.add(data.evals(*cell->run));
  return sum.mean();
}

std::optional<Reached> first_reach(const MeanCurve& curve, double target) {
  for (std::size_t i = 0; i < curve.points.size(); ++i) {
    const MeanCurve::Point& b = curve.points[i];
    if (!(b.loss <= target)) continue;
    if (i == 0) return Reached{b.step, b.tokens, b.seconds};
    const MeanCurve::Point& a = curve.points[i - 1];
    const double w = (a.loss - target) / (a.loss - b.loss);  // a.loss > target >= b.loss
    return Reached{std::lerp(a.step, b.step, w), std::lerp(a.tokens, b.tokens, w), std::lerp(a.seconds, b.seconds, w)};
  }
  return std::nullopt;
}

std::vector<StackResult> compare(const ReportData& data) {
  std::vector<StackResult> results;
  std::map<const Arm*, MeanCurve> base_curves;
  for (const Arm& arm : data.arms) {
    if (data.baseline == arm.stack) continue;
    const Arm* baseline = data.baseline_arm(arm.model);
    const auto [curve, fresh] = base_curves.try_emplace(baseline);
    if (fresh && baseline != nullptr) curve->second = mean_curve(data, baseline->chosen());
    results.push_back(result_of(data, arm, baseline, curve->second));
  }
  std::vector<double> p;
  for (const StackResult& result : results) p.push_back(result.why.empty() ? result.comparison.p : kNan);
  const std::vector<double> adjusted = holm(p);
  for (std::size_t i = 0; i < results.size(); ++i) {
    StackResult& result = results[i];
    result.adjusted_p = adjusted[i];
    if (!result.why.empty()) continue;
    result.outcome = outcome_of(result.comparison, result.adjusted_p);
  }
  return results;
}

}  // namespace equisweep
