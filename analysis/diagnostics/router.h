#pragma once
// Router diagnostic: how evenly a mixture of experts is used, and how large its logits grow.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "analysis/diagnostic.h"

namespace equisweep {

/// One RouterStatsRow per MoE layer and measured step, from the router logits z [N, E] of the training batch before the
/// update, and one ExpertLoadRow per expert. The K experts of a token are those of its K largest logits; n_e tokens go to
/// expert e, sum_e n_e = N K.
///   load_cv        standard deviation of n_e / mean of n_e; 0: perfectly even, sqrt(E / K - 1): always the same K
///   load_entropy   -sum_e p_e ln p_e / ln E, p_e = n_e / (N K); 1: perfectly even (1 where E = 1)
///   dead_fraction  share of the experts with n_e = 0
///   z_loss         mean_n (logsumexp_e z_ne)^2 (Zoph et al., arXiv:2202.08906, equation 5)
///   balance_loss   E sum_e (n_e / N) mean_n softmax(z_n)_e, of this layer alone; K where either is even. The loss of
///                  `train.router` pools the layers first
///   logit_norm     mean_n ||z_n||_2
///   max_violation  max_e n_e / (N K / E) - 1 (Wang et al., arXiv:2408.15664, equation 7); 0: perfectly even
///   logit_mean, logit_std, logit_max   over tokens and experts
///   margin, margin_min                 mean and least over tokens of the K-th largest logit minus the next: how far a token
///   is
///                                      from another choice; NaN where K = E
///   dropped        share of the N K pairs whose weight softmax(z_n)_e is 0 or not finite: nothing of the token passes
///   through
///                  an expert that it is sent to. 0: no token is dropped
/// Cost: some ten passes over z, of which one sorts; no waiting for the device. Layers are counted among the MoE layers,
/// from 0. A forward pass without routers leaves no row.
std::unique_ptr<Diagnostic> make_router_diagnostic(const nlohmann::json& options, DiagnosticContext context);

}  // namespace equisweep
