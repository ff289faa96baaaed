#include "analysis/audit/check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "analysis/audit/probes.h"

namespace equisweep {
namespace {

// Not owned: the subject lives no longer than the call.
std::shared_ptr<const UpdateRule> borrowed(const UpdateRule& rule) { return {std::shared_ptr<const UpdateRule>(), &rule}; }

AuditCheck judge(const std::vector<Finding>& findings, const std::string& what) {
  AuditCheck check{true, ""};
  std::int64_t columns = 0;
  const std::string first = findings.empty() ? "" : findings[0].precision;
  for (const Finding& finding : findings) {
    if (!finding.claimed) continue;
    ++columns;
    const Cell& cell = finding.cell;
    // In narrow precisions rounding may decide everything.
    const bool blind = cell.verdict == Verdict::undecided && finding.precision == first;
    if (!finding.failed() && !blind) continue;
    check.holds = false;
    check.message += fmt::format("  {} {}: {}, error {:.2g}, floor {:.2g}, ratio {:.3g}{} ({})\n", finding.precision,
                                 finding.column, name_of(cell.verdict), cell.error, cell.floor, cell.ratio,
                                 finding.note.empty() ? "" : ", " + finding.note, cell.worst);
  }
  check.message =
      check.holds ? fmt::format("{} holds in {} columns", what, columns) : what + " does not hold:\n" + check.message;
  return check;
}

}  // namespace

AuditOptions default_check_options() {
  AuditOptions options;
  options.precisions = {at::kDouble, at::kFloat};
  return options;
}

AuditCheck check_equivariance(const UpdateRule& rule, const Symmetry& group, const AuditOptions& options) {
  AuditSubject subject;
  subject.rule = borrowed(rule);
  subject.claim = group;
  std::vector<Finding> findings = audit({subject}, options);
  for (Finding& finding : findings) finding.claimed = finding.claimed && finding.column != "transpose";
  return judge(findings, "equivariance under " + to_string(group));
}

AuditCheck check_claims(const AuditSubject& subject, const AuditOptions& options) {
  return judge(audit({subject}, options), "what " + (subject.name.empty() ? "the rule" : subject.name) + " claims");
}

}  // namespace equisweep
