#include "optimizers/kernels/step_cuda.h"

#include <ATen/ATen.h>

#include <limits>

#include "core/cuda.h"
#include "core/kernels.h"
#include "optimizers/kernels/cuda_steps.h"
#include "optimizers/kernels/streams.inc"

namespace equisweep {
namespace {

template <class T>
CudaStep<T> device_step(const FusedStep& step, const FusedMomentum& momentum) {
  return {.gradient = elements<T>(step.gradient),
          .weight = elements<T>(step.weight),
          .direction = elements<T>(step.direction),
          .clip = elements<T>(step.clip),
          .zero_gradient = step.zero_gradient,
          .retained = static_cast<T>(step.retained),
          .lr = static_cast<T>(step.lr),
          .momentum = elements<T>(momentum.m),
          .keep = static_cast<T>(momentum.keep),
          .take = static_cast<T>(momentum.take),
          .nesterov = momentum.nesterov};
}

/// A batch of `matrices` matrices of `count` elements, one behind the other.
struct Batch {
  std::int64_t matrices, count;
  explicit Batch(const at::Tensor& x) : matrices(1), count(x.size(-2) * x.size(-1)) {
    if (count > 0) matrices = x.numel() / count;
  }
};

/// f.template operator()<T>(kernels, step, stream) for the type of the step.
template <class F>
void on_device(const FusedStep& step, const FusedMomentum& momentum, const F& f) {
  TORCH_CHECK(step.gradient_factor == 1, "on a GPU the gradient is clipped by a tensor");
  with_dtype(step.gradient, [&]<class T>() {
    FusedStep given = step;
    if (step.clip.defined()) given.clip = step.clip.to(step.gradient.scalar_type());
    f.template operator()<T>(*cuda_step_kernels<T>(), device_step<T>(given, momentum), CudaQueue(step.gradient));
  });
}

}  // namespace

bool cuda_steps_serve(const at::Tensor& x) {
  return kernels() == Kernels::fused && x.is_cuda() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) &&
         x.numel() > 0 && x.is_non_overlapping_and_dense() && cuda_step_kernels<float>() != nullptr &&
         cuda_capability(x.device()) >= kOldestCapability;
}

bool cuda_matrices(const at::Tensor& x) { return x.dim() >= 2 && (x.is_contiguous() || x.mT().is_contiguous()); }

void cuda_adam_step(const FusedStep& step, const at::Tensor& m, const at::Tensor& v, const AdamCoefficients& c) {
  on_device(step, {}, [&]<class T>(const CudaStepKernels<T>& kernels, const CudaStep<T>& on, CudaStream stream) {
    const auto form = adam_loop<T>(c, 1);
    kernels.adam(on, form, elements<T>(m), elements<T>(v), step.gradient.numel(), stream);
  });
}

void cuda_momentum_step(const FusedStep& step, const FusedMomentum& momentum, double size) {
  on_device(step, momentum, [&]<class T>(const CudaStepKernels<T>& kernels, const CudaStep<T>& on, CudaStream stream) {
    kernels.momentum(on, static_cast<T>(size), step.gradient.numel(), stream);
  });
}

bool cuda_rows_step(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form, bool columns) {
  const at::Tensor rows = columns ? step.gradient.mT() : step.gradient;
  if (form.center || !form.normalize || !rows.is_contiguous()) return false;
  on_device(step, momentum, [&]<class T>(const CudaStepKernels<T>& kernels, const CudaStep<T>& on, CudaStream stream) {
    kernels.rows(on, rows.numel() / rows.size(-1), rows.size(-1), static_cast<T>(form.factor), static_cast<T>(form.eps),
                 static_cast<T>(form.gain), stream);
  });
  return true;
}

at::Tensor cuda_factor_input(const FusedStep& step, const FusedMomentum& momentum, double safety, at::ScalarType dtype) {
  const at::Tensor& g = step.gradient;
  const bool rows = g.is_contiguous();
  const Batch batch(g);
  const at::Tensor y = at::empty({batch.matrices, g.size(rows ? -2 : -1), g.size(rows ? -1 : -2)}, g.options().dtype(dtype));
  on_device(step, momentum, [&]<class T>(const CudaStepKernels<T>& kernels, const CudaStep<T>& on, CudaStream stream) {
    const at::Tensor squares = at::empty({batch.matrices, kernels.pieces(batch.count)}, g.options().dtype(at::kDouble));
    kernels.fold_matrices(on, batch.matrices, batch.count, elements<double>(squares), stream);
    const double smallest =
        sizeof(T) == 8 ? std::numeric_limits<double>::min() : static_cast<double>(std::numeric_limits<float>::min());
    const bool narrow = dtype == at::kBFloat16;
    kernels.divide_matrices(on, batch.matrices, batch.count, elements<double>(squares), safety, smallest,
                            narrow ? elements<Bf16>(y) : nullptr, narrow ? nullptr : elements<T>(y), stream);
  });
  return rows ? y : y.mT();
}

void cuda_factor_step(const FusedStep& step, const at::Tensor& given_y, double gain) {
  const at::Tensor y = step.gradient.is_contiguous() ? given_y.contiguous() : given_y.mT().contiguous();
  on_device(step, {}, [&]<class T>(const CudaStepKernels<T>& kernels, const CudaStep<T>& on, CudaStream stream) {
    const bool narrow = y.scalar_type() == at::kBFloat16;
    TORCH_CHECK(narrow || y.scalar_type() == step.gradient.scalar_type(), "no step for a factor in ", y.scalar_type());
    kernels.apply(on, narrow ? elements<Bf16>(y) : nullptr, narrow ? nullptr : elements<T>(y), static_cast<T>(gain),
                  step.gradient.numel(), stream);
  });
}

void cuda_apply(const at::Tensor& weight, const at::Tensor& update, double retained, double lr) {
  FusedStep step;
  step.gradient = update;
  step.weight = weight;
  step.retained = retained;
  step.lr = lr;
  cuda_momentum_step(step, {});
}

}  // namespace equisweep
