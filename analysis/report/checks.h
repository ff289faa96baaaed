#pragma once
// The lines of the fairness checklist that ask how a point was chosen and what a claim rests on; and what all lines share.

#include <string>
#include <vector>

#include "analysis/report/fairness.h"

namespace equisweep {

/// "a; b; c; and 3 more"
std::string some_of(const std::vector<std::string>& all);

/// Fails or warns with what was found, or passes with `good`.
Check judged(const std::string& question, std::vector<std::string> failures, std::vector<std::string> warnings,
             const std::string& good);

std::string on(const ReportData& data, const Arm& arm);  ///< "muon on qwen3-nano"

Check has_baseline(const ReportData& data);
Check is_complete(const ReportData& data);
Check equal_trials(const ReportData& data);
Check optimum_inside(const ReportData& data);
Check enough_seeds(const ReportData& data);
Check fresh_seeds(const ReportData& data);
Check no_faults(const ReportData& data);

}  // namespace equisweep
