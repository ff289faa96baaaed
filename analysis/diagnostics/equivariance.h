#pragma once
// Equivariance diagnostic: does the rule of a block keep, on the gradients of this run, the symmetry that it claims?

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"
#include "core/symmetry.h"

namespace equisweep {

/// One block in turn is audited every `every` steps, over the last kAuditWindow gradients of that interval, with the
/// statistic of analysis/audit/statistic.h. Two shadow states start at zero; one receives G_t at every step of the window,
/// the other g G_t, so that a rule whose state is not linear in G is judged fairly. One EquivarianceRow per element of
/// `groups`:
///   error          e = ||Phi(gS, gG) - g Phi(S, G)|| / ||Phi(S, G)||, the norm over all matrices of the block
///   floor          f = max over two draws at (S, G) and one at (gS, gG) of ||Phi' - Phi|| / ||Phi||, all gradients
///   multiplied by
///                  1 + u r; at least u / 2
///   ratio          e / f; verdict as in an audit; claimed: whether the rule's symmetry contains the group
///   horizontality  ||1^T U|| / (sqrt(m) ||U||) of the run's own direction in the last step
///   shift          ||Phi(M + 1 c^T) - Phi(M)|| / ||Phi(M)||, for LM heads, routers and rules that claim it; else NULL
///   removed        ||1^T G|| / (sqrt(m) ||G||): the part of the gradient that a centred rule projects out
///   gradients      of the window; fewer than kAuditWindow only at the beginning of a run, or of a resumed one
///   seconds        of the host, for the whole audit of this block, divided among its groups; on a CPU all that it costs
/// `precision`: that of the gradients and states (`run`: those of the optimizer), u its unit roundoff, or that of a cast
/// inside the rule (DiagnosticContext::inner_roundoff) where it is larger.
///
/// Elements are a pure function of (step, block, group). Cost: about 25 updates of one block in `every` steps.
std::unique_ptr<Diagnostic> make_equivariance_diagnostic(const nlohmann::json& options, DiagnosticContext context);

inline constexpr std::int64_t kAuditWindow = 5;

/// A random element of `group` that acts along `axis` (-1 or -2) of x on the device of x, at a cost of O(numel), where a
/// Haar element would need a matrix as large as the vocabulary: a permutation, signs, or two rounds of a permutation
/// followed by a rotation of each pair of neighbours by an angle of its own. Computed in double, rounded to the dtype of x
/// once.
at::Tensor act_along(Group group, const at::Tensor& x, std::int64_t axis, std::uint64_t seed);

}  // namespace equisweep
