#pragma once
// Whole steps of banks, each tensor read and written as seldom as the rule allows: the loops of loops.h over
// blocks of any layout. U either goes into the weights at once or, for those who want to see it, into a tensor, with the
// same bits.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "core/update_rule.h"

namespace equisweep {

/// The tensors of a step, all of one dtype (fp32 or fp64), shape and strides, without gaps.
struct FusedStep {
  at::Tensor gradient;  ///< G
  at::Tensor weight;    ///< W <- retained W - lr U; undefined: U goes to `direction`
  at::Tensor direction;
  double gradient_factor = 1;  ///< the rule acts on gradient_factor G,
  at::Tensor clip = {};        ///< on a GPU on clip G, a scalar there; undefined: 1
  bool zero_gradient = false;
  double retained = 1, lr = 0;
};

/// The step that makes U in a fresh tensor laid out like the state `like`; nothing where the loops do not serve: kernels()
/// is reference, neither on the CPU nor, with kernels for CUDA, on a GPU, another dtype, gaps in memory.
std::optional<FusedStep> fused_direction(const at::Tensor& gradient, const at::Tensor& like);

/// The step of `bank` if, in addition, its tensors are laid out like the state.
std::optional<FusedStep> fused_update(const BankUpdate& bank, const at::Tensor& like);

/// What a rule folds gradients into: M <- keep M + take G, S = M or, with Nesterov, take G + keep M.
struct FusedMomentum {
  at::Tensor m;  ///< undefined: S = G
  double keep = 0, take = 1;
  bool nesterov = false;
};

struct AdamCoefficients {
  double beta1, beta2, eps;
  double correction1, correction2;  ///< 1 - b1^t, 1 - b2^t
};

/// m <- b1 m + (1 - b1) G,  v <- b2 v + (1 - b2) G^2,  U = (m / correction1) / (sqrt(v / correction2) + eps).
void adam_step(const FusedStep& step, const at::Tensor& m, const at::Tensor& v, const AdamCoefficients& c);

/// U = S.
void momentum_step(const FusedStep& step, const FusedMomentum& momentum);

/// U = size sign(S), sign(0) = 0.
void sign_step(const FusedStep& step, const FusedMomentum& momentum, double size);

/// What is done to rows, in this order: X = Pi S with noise removed as center_rows() does, X / (factor ||row|| + eps) gain,
/// and Pi of that.
struct RowForm {
  bool center = false, normalize = true, project = false;
  double factor = 1, eps = 0, gain = 1;
};

/// U = the rows of S, treated by `form`; columns in place of rows if `columns`. False, and nothing touched, for a layout
/// without a form: centred rows whose elements are not adjacent, rows of which neither side is; on a GPU also centred ones,
/// and rows that do not lie one behind the other.
bool rows_step(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form, bool columns = false);

/// Whether the blocks have a layout for the three functions below: rows or columns of adjacent elements; rows, if the result
/// is to be projected. On a GPU, which has no factor_nu() and no projection, one behind the other.
bool factor_fits(const FusedStep& step, bool project);

/// S / (safety ||S||_F) for each matrix, as a batch [B, m, n] of dtype `dtype`: bf16 or that of the step; the norm in fp64.
/// M is updated.
at::Tensor factor_input(const FusedStep& step, const FusedMomentum& momentum, double safety, at::ScalarType dtype);

/// nu = max(0, <X, Y>) of each matrix, for Y [B, m, n] and X = S (with M updated already) or, if it is defined, `x` [..., m,
/// n].
std::vector<double> factor_nu(const FusedStep& step, const FusedMomentum& momentum, const at::Tensor& x,
                              const at::Tensor& y);

/// U = gain Y, with Pi of that if `project`: Y [B, m, n] in bf16 or the dtype of the step, one gain for each matrix.
void factor_step(const FusedStep& step, const at::Tensor& y, const std::vector<double>& gain, bool project);

/// W <- retained W - lr U in one pass; false, and nothing done, where the loops do not serve.
bool fused_apply(const at::Tensor& weight, const at::Tensor& update, double retained, double lr);

/// The 2-norm of a tensor without gaps, summed in fp64 in an order that does not depend on the number of threads, squared;
/// nothing where the loops do not serve.
std::optional<double> fused_squares(const at::Tensor& x);

}  // namespace equisweep
