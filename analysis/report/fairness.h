#pragma once
// The fairness checklist: what a reviewer would ask about the comparison, answered from the database.

#include <string>
#include <vector>

#include "analysis/report/data.h"

namespace equisweep {

enum class Grade { pass, warn, fail };

struct Check {
  std::string question;  ///< "Equal trials"
  Grade grade = Grade::pass;
  std::string found;  ///< what the database says, in one or two sentences
};

/// Every line of the checklist, always in the same order. `fail`: the comparison cannot be relied on as it stands. `warn`:
/// it can, but not everything around it, or it is unfair to a stack that is not the baseline.
std::vector<Check> fairness(const ReportData& data);

}  // namespace equisweep
