#pragma once
// Spectral diagnostic: how large weights, updates and gradients are, in the norms that matrix rules control.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"

namespace equisweep {

/// One BlockStatsRow per weight and measured step, from the blocks W, U, G of the weight's view:
///   spectral_norm         ||W||_2, before the update
///   stable_rank           ||W||_F^2 / ||W||_2^2
///   update_spectral_norm  ||lr U||_2
///   update_to_weight      ||lr U||_F / ||W||_F
///   gradient_norm         ||G||_F, after clipping
/// each the largest over the matrices of the weight; 0/0 is stored as NaN. Weights without a number in `context.blocks` are
/// left out. A bank is measured in one batch; see power_iteration.h.
std::unique_ptr<Diagnostic> make_spectral_diagnostic(const nlohmann::json& options, DiagnosticContext context);

}  // namespace equisweep
