#pragma once
// What makes an action no symmetry of a model, demonstrated. Internal to analysis/audit.

#include <vector>

#include "analysis/audit/model_audit.h"

namespace equisweep {

/// Every condition of the table of docs/audit.md that the architecture can have. Where the runs have to part in training,
/// the subject "sgd" trains, which keeps every isometry: what parts them is the condition.
std::vector<ModelBreak> demonstrate_breaks(const AuditedModel& model, const std::vector<ModelSubject>& subjects,
                                           const ModelAuditOptions& options);

}  // namespace equisweep
