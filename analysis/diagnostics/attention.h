#pragma once
// Attention diagnostic: the largest logit of each head, which fused attention never shows.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"

namespace equisweep {

/// One AttentionStatsRow per layer, query head and measured step, from the first `sequences` sequences of the batch, with
/// the weights before the update:
///   max_logit   largest scaled score q . k that enters the softmax, over all visible pairs of positions; sinks left out
/// Cost: a forward pass of these sequences with their scores written out (Forward::attention_peaks). No waiting for the
/// device.
std::unique_ptr<Diagnostic> make_attention_diagnostic(const nlohmann::json& options, DiagnosticContext context);

}  // namespace equisweep
