#pragma once
// Logit diagnostic: how large the logits of the LM head are, what of them the softmax does not see, and how far an update
// moves them.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"

namespace equisweep {

/// One LogitStatsRow per measured step, from the logits z_n = W h_n (before any softcap) of `tokens` tokens of the batch,
/// spread evenly over it, with the head W (the embedding where it is tied) before the update. V tokens in the vocabulary.
///   logit_mean, logit_std   over tokens and vocabulary
///   logit_max               max_nv z_nv
///   logsumexp               mean_n logsumexp_v z_nv, in nats
///   shift_share             mean_n sqrt(V) |mean_v z_nv| / ||z_n||_2: what all logits share, which no loss sees; in [0, 1]
///   growth                  max_nv |lr (U h_n)_v|: how far this update moves a logit of these tokens, at the same h
/// Cost: two products of `tokens` x D x V, where a training step has six of all tokens. No waiting for the device.
std::unique_ptr<Diagnostic> make_logit_diagnostic(const nlohmann::json& options, DiagnosticContext context);

}  // namespace equisweep
