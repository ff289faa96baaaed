#pragma once
// One function a method: its row of the table in polar.cpp; and what the methods share.

#include <ATen/core/ScalarType.h>

#include "optimizers/polar/polar.h"

namespace equisweep {

PolarMethod polar_express_method();
PolarMethod newton_schulz_method();
PolarMethod svd_method();

/// Polar Express, five steps for a lower bound of 1e-3; to be used with safety 1.02 (arXiv:2505.16932).
std::span<const Quintic> five_step_list();

/// Polar Express, eight steps; step k's (a, b, c) divided by (s, s^3, s^5), except the last. Steps beyond the eighth repeat
/// it.
std::vector<Quintic> eight_step_list(double safety, int steps);

/// The option `coefficients` (a flat list of triples), else the method's own.
std::vector<Quintic> coefficients_of(const nlohmann::json& options);

/// The option `safety`, else the method's own.
double safety_of(const nlohmann::json& options);

/// The dtype of `precision` for an input of dtype `working`.
at::ScalarType precision_dtype(const nlohmann::json& options, at::ScalarType working);

/// X / (safety ||X||_F), each matrix by its own norm; zero stays zero. The norm is summed in fp64, so that squares neither
/// underflow nor overflow in fp32.
at::Tensor normalize_frobenius(const at::Tensor& x, double safety);

}  // namespace equisweep
