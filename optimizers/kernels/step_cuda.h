#pragma once
// The steps of step.h on a GPU. For the .cpp files of this folder.

#include <cstdint>
#include <initializer_list>

#include "optimizers/kernels/loops.h"
#include "optimizers/kernels/step.h"

namespace equisweep {

/// Whether x is a tensor that these steps take: kernels() is fused, on a GPU, fp32 or fp64, without gaps.
bool cuda_steps_serve(const at::Tensor& x);
/// Whether its matrices [.., m, n] or their transposes lie one behind the other.
bool cuda_matrices(const at::Tensor& x);

void cuda_adam_step(const FusedStep& step, const at::Tensor& m, const at::Tensor& v, const AdamCoefficients& c);
/// U = S, or, with size > 0, size sign(S).
void cuda_momentum_step(const FusedStep& step, const FusedMomentum& momentum, double size = 0);
/// False, and nothing touched, unless rows are adjacent elements, one row behind the other, and stay uncentred.
bool cuda_rows_step(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form, bool columns);
at::Tensor cuda_factor_input(const FusedStep& step, const FusedMomentum& momentum, double safety, at::ScalarType dtype);
/// U = gain Y, Y [B, m, n].
void cuda_factor_step(const FusedStep& step, const at::Tensor& y, double gain);
void cuda_apply(const at::Tensor& weight, const at::Tensor& update, double retained, double lr);

}  // namespace equisweep
