#pragma once
// The controls of an audit: what must hold, and what must fail, in the same run. A negative control that passes means that
// the instrument is broken, and no verdict of the run is worth anything.

#include <memory>
#include <string>
#include <vector>

#include "analysis/audit/audit.h"

namespace equisweep {

/// The rules that the controls are made of, with their default options.
struct ControlRules {
  std::shared_ptr<const UpdateRule> adamw, sgd, muon, row_norm;
};

struct Control {
  std::string name, precision;
  bool must_hold = false;
  /// Where it must hold: the worst sample. Where it must fail: the smallest error of all elements, which has to exceed
  /// kControlError.
  Cell cell;
  bool as_it_must = false;
};

/// Every element of a negative control must be off by more than this.
inline constexpr double kControlError = 0.1;

/// Positive: sgd under every group and every action on stored weights. Negative: adamw under rotations of either side;
/// row_norm under rotated units; adamw and row_norm for shifts; a rotation across heads for head-wise muon; row_norm on the
/// stored rows of interleaved gate/up, which the neuron permutation does not find and the residual rotation does; and up x
/// c, down / c for every subject.
std::vector<Control> run_controls(const ControlRules& rules, const std::vector<AuditSubject>& subjects,
                                  const AuditOptions& options);

}  // namespace equisweep
