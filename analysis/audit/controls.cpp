#include "analysis/audit/controls.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/audit/follow.h"
#include "analysis/audit/layouts.h"
#include "analysis/audit/on_device.h"
#include "analysis/audit/probes.h"

namespace equisweep {
namespace {

bool kept(const Cell& cell) { return cell.verdict == Verdict::exact || cell.verdict == Verdict::holds; }

class Controls {
 public:
  Controls(const ControlRules& rules, const std::vector<AuditSubject>& subjects, const AuditOptions& options,
           at::ScalarType dtype)
      : rules_(rules), subjects_(subjects), options_(options), dtype_(dtype), stage_(gaussian_stage()) {}

  std::vector<Control> run() {
    ladder_of_sgd();
    views_of_sgd();
    const std::vector<Finding> adamw = columns_of("adamw", rules_.adamw), row_norm = columns_of("row_norm", rules_.row_norm);
    for (const char* column : {"rows.orthogonal", "features.orthogonal", "shift.horizontal"}) must_fail(adamw, column);
    for (const char* column : {"rows.orthogonal", "shift.horizontal"}) must_fail(row_norm, column);
    views();
    up_down_scaling();
    return std::move(controls_);
  }

 private:
  Stage gaussian_stage() const {
    Stage stage = make_stage("control", 16, 8, dtype_, options_);
    stage.inputs = {stage.inputs[0]};
    const auto first = [](at::Tensor& x) { x = x.narrow(-3, 0, 1); };
    std::for_each(stage.gradients.begin(), stage.gradients.end(), first);
    std::for_each(stage.shifted.begin(), stage.shifted.end(), first);
    for (Orbit& orbit : stage.orbits) std::for_each(orbit.gradients.begin(), orbit.gradients.end(), first);
    return stage;
  }

  AuditSubject subject(std::string name, const std::shared_ptr<const UpdateRule>& rule) const {
    AuditSubject result;
    result.name = std::move(name);
    result.rule = rule;
    return result;
  }

  std::vector<Finding> columns_of(std::string name, const std::shared_ptr<const UpdateRule>& rule) const {
    return audit_subject(subject(std::move(name), rule), {stage_});
  }

  void add(std::string name, bool must_hold, Cell cell) {
    const bool as_it_must = must_hold ? kept(cell) : cell.decided > 0 && cell.least_error > kControlError;
    controls_.push_back({std::move(name), std::string(name_of_precision(dtype_)), must_hold, std::move(cell), as_it_must});
  }

  void must_fail(const std::vector<Finding>& findings, std::string_view column) {
    for (const Finding& finding : findings)
      if (finding.column == column) add(fmt::format("{}: {}", finding.subject, column), false, finding.cell);
  }

  // The worst of several cells that must hold.
  static const Cell& worse(const Cell& a, const Cell& b) {
    if (kept(a) != kept(b)) return kept(a) ? b : a;
    return b.ratio > a.ratio ? b : a;
  }

  void ladder_of_sgd() {
    Cell worst;
    worst.verdict = Verdict::exact;
    for (const Finding& finding : columns_of("sgd", rules_.sgd))
      if (finding.column.starts_with("rows.") || finding.column.starts_with("features.")) worst = worse(worst, finding.cell);
    add("sgd: every group on rows and features", true, worst);
  }

  void views_of_sgd() {
    Cell worst;
    worst.verdict = Verdict::exact;
    for (const Finding& finding : audit_views(subject("sgd", rules_.sgd), dtype_, options_))
      worst = worse(worst, finding.cell);
    add("sgd: every action on stored weights", true, worst);
  }

  Cell on_layout(const AuditSubject& rule, std::string_view name, const MatrixView& view, LayoutAction action) const {
    const auto cases = layout_cases();
    const auto found = std::find_if(cases.begin(), cases.end(), [&](const LayoutCase& c) { return c.name == name; });
    return audit_action(rule, view, *found, action, dtype_, options_);
  }

  void views() {
    const auto layout_of = [](std::string_view name) -> const LayoutCase& {
      const auto cases = layout_cases();
      return *std::find_if(cases.begin(), cases.end(), [&](const LayoutCase& c) { return c.name == name; });
    };
    const LayoutCase& heads = layout_of("heads_rows");
    add("muon on heads: rotation across heads", false,
        on_layout(subject("muon", rules_.muon), heads.name, make_view(heads.layout, heads.stored, ViewKind::heads),
                  LayoutAction::head_mixing));
    const LayoutCase& experts = layout_of("gate_up_interleaved");
    const MatrixView as_stored = make_view({LayoutKind::matrix}, experts.stored, ViewKind::row);
    const AuditSubject row_norm = subject("row_norm", rules_.row_norm);
    add("row_norm on stored rows of interleaved gate/up: neurons permuted (blind to it)", true,
        on_layout(row_norm, experts.name, as_stored, LayoutAction::neurons));
    add("row_norm on stored rows of interleaved gate/up: residual rotated", false,
        on_layout(row_norm, experts.name, as_stored, LayoutAction::residual));
  }

  // A gradient of c W is that of W divided by c, and a rule that kept the function would have to return c times its
  // direction.
  void up_down_scaling() {
    constexpr double c = 2;
    Tally tally;
    std::vector<at::Tensor> divided;
    for (const at::Tensor& gradient : stage_.gradients) divided.push_back(gradient / c);
    for (const AuditSubject& rule : subjects_) {
      const at::Tensor plain = follow(*rule.rule, stage_.gradients, stage_.block()).direction;
      const at::Tensor scaled = follow(*rule.rule, divided, stage_.block()).direction;
      const at::Tensor error = relative_errors(scaled, plain.to(at::kDouble) * c, 2);
      // NaN is a rule that returns zeros: it keeps the function, and must not drop out of the control unnoticed.
      tally.add(at::where(at::isnan(error), at::zeros_like(error), error), at::full_like(error, unit_roundoff(dtype_)),
                [&](std::int64_t) { return rule.name; });
    }
    add(fmt::format("all {} subjects: up x c, down / c", subjects_.size()), false, tally.judge(1));
  }

  const ControlRules& rules_;
  const std::vector<AuditSubject>& subjects_;
  const AuditOptions& options_;
  at::ScalarType dtype_;
  Stage stage_;
  std::vector<Control> controls_;
};

}  // namespace

std::vector<Control> run_controls(const ControlRules& given_rules, const std::vector<AuditSubject>& given_subjects,
                                  const AuditOptions& options) {
  ControlRules rules = given_rules;
  for (auto* rule : {&rules.adamw, &rules.sgd, &rules.muon, &rules.row_norm}) *rule = on_device(*rule, options.device);
  std::vector<AuditSubject> subjects = given_subjects;
  for (AuditSubject& subject : subjects) subject.rule = on_device(subject.rule, options.device);
  const int threads_before = at::get_num_threads();
  at::set_num_threads(1);
  std::vector<Control> controls;
  for (const at::ScalarType dtype : options.precisions)
    for (Control& control : Controls(rules, subjects, options, dtype).run()) controls.push_back(std::move(control));
  at::set_num_threads(threads_before);
  return controls;
}

}  // namespace equisweep
