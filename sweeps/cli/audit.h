#pragma once
// The parts of `equisweep audit`: what is audited, and what is printed of it.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/audit/record.h"

namespace equisweep {

/// Every rule of the table, or those called `names`: with its defaults, each flag and choice changed alone, and each choice
/// beside a flag that changes the symmetry. Throws UsageError for an unknown name.
std::vector<AuditSubject> rule_subjects(const std::vector<std::string>& names);

/// A rule with its default options.
std::shared_ptr<const UpdateRule> default_rule(std::string_view name);

/// Rules on whole models: `names`, or every rule; and in any case the controls sgd, adamw and row_norm. row_norm and hybrid
/// also with a centred LM head and router, muon also with its heads apart; and two wrong ones: row_norm on the rows of the
/// output and down projections, and on gate/up experts as they are stored.
std::vector<ModelSubject> model_subjects(const std::vector<std::string>& names);

/// Small models of the architectures called `names`, or of all. Throws UsageError for an unknown name.
std::vector<AuditedModel> audited_models(const std::vector<std::string>& names);

/// One table a precision: a line a rule, a column a group and side; below it the worst claim.
void print_matrix(const AuditReport& report, const std::string& precision);
/// One line a view, one column an action: the worst over all precisions and all rules that claim it.
void print_views(const AuditReport& report);
void print_controls(const AuditReport& report);
/// One table an architecture: a line a rule, a column an action; then the conditions under which an action is no symmetry.
void print_models(const ModelReport& report);

/// One line with all that is known of a cell.
std::string text_of(const Finding& finding);
std::string text_of(const ModelFinding& finding);

}  // namespace equisweep
