#pragma once
// Equivariance diagnostic: does the rule of a block keep, on the gradients of this run, the symmetry that it claims?

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"

namespace equisweep {

/// One block in turn is audited every `every` steps with the statistic of analysis/audit/statistic.h. Shadow states
/// (shadow.h) start at zero before the last `gradients` steps of the interval, or at its beginning (`gradients: 0`); one
/// receives G_t at every step from there on, the other g G_t, so that a rule whose state is not linear in G is judged
/// fairly. One EquivarianceRow per element of `groups`:
///   error          e = ||Phi(gS, gG) - g Phi(S, G)|| / ||Phi(S, G)||, the norm over all matrices of the block
///   floor          f = max over two draws at (S, G) and one at (gS, gG) of ||Phi' - Phi|| / ||Phi||, every gradient
///                  multiplied by 1 + u r; at least u / 2
///   ratio          e / f; verdict as in an audit; claimed: whether the rule's symmetry contains the group
///   horizontality  ||1^T U|| / (sqrt(m) ||U||) of the run's own direction in the last step
///   shift          ||Phi(M + 1 c^T) - Phi(M)|| / ||Phi(M)||, for LM heads, routers and rules that claim it; else NULL
///   removed        ||1^T G|| / (sqrt(m) ||G||): the part of the gradient that a centred rule projects out
///   gradients      that the shadow states have received; fewer than asked for only where a run, or a resumed one, began
///                  inside the window
///   seconds        of the host, for the whole audit of this block, divided among its groups; on a CPU all that it costs
/// `precision`: that of the gradients and states (`run`: those of the optimizer), u its unit roundoff, or that of a cast
/// inside the rule (DiagnosticContext::inner_roundoff) where it is larger.
///
/// Elements (block_element.h) are a pure function of (step, block, group): Haar on axes of up to kHaarUpTo where the group
/// is orthogonal, a cheaper generic element on longer ones. Cost: in each step of the window five updates of one block for
/// one group, two more for each further group and one for the shift, and three passes in double for each element; memory: as
/// many states of one block.
std::unique_ptr<Diagnostic> make_equivariance_diagnostic(const nlohmann::json& options, DiagnosticContext context);

}  // namespace equisweep
