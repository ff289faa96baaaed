#pragma once
// Spectral diagnostic: how large weights, updates, momenta and gradients are, in the norms that matrix rules control.

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
/// each that of the worst of the matrices of the weight: the largest, of the stable rank the least; 0/0 is stored as NaN.
///
/// And one MatrixStatsRow per matrix X of each weight (a matrix, a head, an expert, as the entry's view defines it), for
/// each X of the option `of`: weight W, update lr U, momentum (the first slot of the rule's state, after this step) and
/// gradient G:
///   spectral_norm, frobenius_norm, stable_rank   of X
///   row_min, row_median, row_max                 2-norms of the rows (units) of X; the lower median
///   dead_rows                                    rows with a norm of at most 1e-8 of the largest
/// At measured steps that are multiples of `exact_every`, for one weight in turn, or with `exact_all` for every weight, from
/// the eigenvalues of the Gram matrix in double on the CPU (singular values s_1 >= s_2 >= ..., p_i = s_i / sum s):
///   exact_norm      s_1: what spectral_norm should be (it is within 1e-4)
///   nuclear_norm    sum s_i
///   effective_rank  exp(-sum p_i ln p_i) (Roy & Vetterli, EUSIPCO 2007)
/// These are left out (NULL) for matrices with min(m, n)^2 max(m, n) > kExactWork.
///
/// Weights without a number in `context.blocks` are left out. Cost: a bank is measured in one batch, 2 m n min(m, n)
/// operations a matrix for the Gram matrix and 92 products of it with four vectors (power_iteration.h); no waiting for the
/// device.
std::unique_ptr<Diagnostic> make_spectral_diagnostic(const nlohmann::json& options, DiagnosticContext context);

inline constexpr double kExactWork = 8.6e9;
inline constexpr double kDeadRow = 1e-8;

}  // namespace equisweep
