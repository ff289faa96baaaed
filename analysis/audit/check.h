#pragma once
// The audit of one rule as a yes or no with a reason, for tests. analysis/audit/gtest.h makes GoogleTest assertions of it.

#include <string>

#include "analysis/audit/audit.h"

namespace equisweep {

struct AuditCheck {
  bool holds = false;
  std::string message;  ///< what does not hold, with error, floor, ratio and the worst case; or what was tried
};

/// fp64 and fp32, 20 elements, one thread.
AuditOptions default_check_options();

/// Whether `rule` is equivariant under `group`, whatever it claims itself: every rung of the ladder up to group.rows and
/// group.columns, shifts if group.shift, and always batches, state and repetition. Holds if no ratio reaches 5 and in each
/// column at least one sample decides, in the first precision.
AuditCheck check_equivariance(const UpdateRule& rule, const Symmetry& group,
                              const AuditOptions& options = default_check_options());

/// Whether everything holds that the rule and the subject claim.
AuditCheck check_claims(const AuditSubject& subject, const AuditOptions& options = default_check_options());

}  // namespace equisweep
