#pragma once
// One function a method: its row of the table in polar.cpp; and what the methods share.

#include <ATen/core/ScalarType.h>

#include <functional>

#include "optimizers/polar/polar.h"

namespace equisweep {

PolarMethod polar_express_method();
PolarMethod newton_schulz_method();
PolarMethod gram_method();
PolarMethod inv_sqrt_method();
PolarMethod qdwh_method();
PolarMethod zolo_method();
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

/// IEEE fp32 products for as long as it lives: no TF32, whatever the program has allowed elsewhere.
class IeeeFloat32 {
 public:
  IeeeFloat32();
  ~IeeeFloat32();
  IeeeFloat32(const IeeeFloat32&) = delete;
  IeeeFloat32& operator=(const IeeeFloat32&) = delete;

 private:
  bool changed_;
  int before_;
};

/// f(X) of each matrix of x [..., m, n], of x's shape. On the CPU one by one, on all threads, but BLAS and LAPACK in it on
/// one: so that a matrix has the same bits whatever the number of threads and whatever else is in the batch. On a GPU all at
/// once.
at::Tensor matrix_by_matrix(const at::Tensor& x, const std::function<at::Tensor(const at::Tensor&)>& f);

/// What qdwh and zolo share: X / ||X||_F on its tall side with columns turned into falling order, `iteration` (tall batch,
/// lower bound of the kept singular values) to convergence, then the truncation to the singular values above
/// s_max max(m, n) 2u.
at::Tensor factor_by_qr(const at::Tensor& x, const nlohmann::json& options, at::Tensor (*iteration)(at::Tensor, double));

/// Puts rows and columns that are zero in X back to zero in its factor `u`, and makes matrices that are not `finite` NaN.
at::Tensor finish_factor(const at::Tensor& u, const at::Tensor& x, const at::Tensor& finite);

/// normalize_frobenius() in the wider of the input's dtype and that of the option `precision`, then in the latter, with all
/// leading axes as one: [B, m, n].
at::Tensor normalized_batch(const at::Tensor& x, double safety, const nlohmann::json& options);

/// The quintics on Y [B, m, n] in fp32 or fp64 on the CPU, whose memory is used: on Y itself, or `by_gram` on the small Gram
/// matrix, with one restart after two steps (symmetric.cpp).
at::Tensor iterate_by_blas(const at::Tensor& y, std::span<const Quintic> steps, bool by_gram);

/// The quintics on Y [B, m, n] in bf16 on tile registers or vectors, whose memory is used; nothing where the machine has
/// neither, on other devices and dtypes, and where the shorter side is beyond 512 (tiles.cpp).
std::optional<at::Tensor> iterate_on_tiles(const at::Tensor& y, std::span<const Quintic> steps);

/// X / (safety ||X||_F), each matrix by its own norm; zero stays zero. The norm is summed in fp64, so that squares neither
/// underflow nor overflow in fp32.
at::Tensor normalize_frobenius(const at::Tensor& x, double safety);

}  // namespace equisweep
