#pragma once
// The audit of update rules: does a rule, in a precision, respect the symmetry that it claims? (docs/audit.md)
//
// Open loop: kAuditSteps gradients with the state transformed too, on a set of inputs and shapes, for every rung of the
// ladder of groups on each side, and for what groups cannot see: shifts, batches, states, scales, transposes and fans. Rules
// come in through the contract of core. Everything is a pure function of the seed.

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/audit/statistic.h"
#include "core/update_rule.h"

namespace equisweep {

/// A rule to be audited, and what it claims beyond UpdateRule::symmetry().
struct AuditSubject {
  std::string name;  ///< "hybrid order=polar_then_row centered=true"
  std::shared_ptr<const UpdateRule> rule;
  /// What is claimed in place of rule->symmetry().
  std::optional<Symmetry> claim = {};
  /// Unit roundoff of a cast inside the rule that is wider than that of the gradient (bf16 products); 0: there is none.
  double inner_roundoff = 0;
  /// Claims Phi(cG) = c^degree Phi(G), c > 0, for gradients that are large against every absolute constant.
  std::optional<double> degree = {};
  /// Claims that there is no absolute constant: the same down to gradients of norm 1e-6.
  bool scale_free = false;
  /// Claims ||U|| ~ fan_out^a fan_in^b for fan_out > fan_in.
  std::optional<std::array<double, 2>> fan_exponents = {};
  /// Also audited through every view of every layout.
  bool through_views = false;
};

/// A column of the matrix.
struct AuditColumn {
  std::string_view name;     ///< "rows.orthogonal"
  std::string_view heading;  ///< short, for tables
  std::string_view meaning;  ///< one line
};

/// The columns of the matrix rules x groups, in order; the views have columns of their own (layouts.h).
std::span<const AuditColumn> audit_columns();

struct Finding {
  std::string subject, precision;
  std::string column;  ///< AuditColumn::name, or "view.<action>"
  std::string view;    ///< "heads_rows/heads" where a view is audited, else empty
  bool claimed = false;
  Cell cell;
  std::string note;          ///< what was measured beside the statistic, e.g. "degree 1"
  bool must_decide = false;  ///< the first cast is not narrower than fp32: no right rule leaves everything to rounding
  std::optional<bool> judged = {};  ///< of a stored audit: what failed() said when it was made
  /// A claim that does not hold, or that nothing has tried: a rule that returns zeros has no sample.
  bool failed() const {
    if (judged) return *judged;
    return claimed && (cell.verdict == Verdict::broken || cell.verdict == Verdict::inspect || cell.samples == 0 ||
                       (cell.verdict == Verdict::undecided && must_decide));
  }
};

struct AuditOptions {
  std::uint64_t seed = 0;
  std::vector<at::ScalarType> precisions;
  std::int64_t elements = 20;    ///< group elements for each cell and input
  std::int64_t threads = 1;      ///< of this program; the result does not depend on it
  at::Device device = at::kCPU;  ///< where rules compute; draws and comparisons are the CPU's (on_device.h)
};

/// Name of a precision: "fp64", "fp32", "bf16"; and back. precision_from_name throws UsageError.
std::string_view name_of_precision(at::ScalarType dtype);
at::ScalarType precision_from_name(std::string_view name);

/// The matrix: every subject, every precision, every column.
std::vector<Finding> audit(const std::vector<AuditSubject>& subjects, const AuditOptions& options);

}  // namespace equisweep
