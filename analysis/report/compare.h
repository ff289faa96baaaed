#pragma once
// Each stack at its best learning rate against the baseline at its best: the numbers of the verdict and of the main table.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analysis/report/data.h"
#include "analysis/statistics/bootstrap.h"
#include "analysis/statistics/statistics.h"

namespace equisweep {

/// The mean validation curve of a learning-rate point over the seeds that have a finite loss at every evaluation.
struct MeanCurve {
  struct Point {
    double step = 0, tokens = 0, seconds = 0, loss = 0, low = 0, high = 0;
  };
  std::vector<Point> points = {};  ///< by step; evaluations that every seed made
  std::size_t n = 0;               ///< seeds
};

MeanCurve mean_curve(const ReportData& data, const LrPoint& point);

/// The same of curves that are read one by one.
class MeanCurveSum {
 public:
  void add(const std::vector<EvalRow>& evals);
  MeanCurve mean() const;

 private:
  struct Sums {
    MeanCurve::Point point = {};
    std::size_t n = 0;
  };
  std::map<std::int64_t, Sums> by_step_;
  std::size_t n_ = 0;
};

/// Where a curve first comes down to `target`, linear between evaluations; nothing if it never does.
struct Reached {
  double step = 0, tokens = 0, seconds = 0;
};
std::optional<Reached> first_reach(const MeanCurve& curve, double target);

/// Final losses by seed, the first minus the second: paired where at least two seeds (or the only one) are common, Welch
/// otherwise. The test is Student's or Welch's whatever makes the interval.
Comparison compare_points(const std::map<std::int64_t, double>& first, const std::map<std::int64_t, double>& second,
                          const IntervalMethod& intervals = {});

enum class Outcome { better, worse, indistinguishable, no_claim };

/// What a comparison comes to whose p-value, adjusted for all of its family, is `adjusted_p`; no claim where there is no
/// test.
Outcome outcome_of(const Comparison& comparison, double adjusted_p);

struct StackResult {
  const Arm* arm = nullptr;
  const Arm* baseline = nullptr;  ///< on the same model
  Interval loss = {};             ///< final validation loss over the finite seeds of the chosen point
  Comparison comparison = {};     ///< stack minus baseline
  double adjusted_p = 1;          ///< Holm over every stack and model of the report; NaN where there is no test
  double detectable = 0;          ///< smallest detectable difference of this test alone, before Holm's correction
  Outcome outcome = Outcome::no_claim;
  std::string why = {};                                        ///< of no_claim
  std::optional<Reached> reached = {}, baseline_reached = {};  ///< the baseline's final loss
};

/// One result for each arm but the baseline's, in order, by compare_points(). A difference counts as better or worse where
/// its Holm-adjusted p is below kAlpha.
std::vector<StackResult> compare(const ReportData& data);

}  // namespace equisweep
