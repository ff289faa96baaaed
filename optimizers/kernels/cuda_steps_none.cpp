// For builds without CUDA.
#include "optimizers/kernels/cuda_steps.h"

namespace equisweep {

// No specializations: in a unity build the callers come first.
template <class T>
const CudaStepKernels<T>* cuda_step_kernels() {
  return nullptr;
}

template const CudaStepKernels<float>* cuda_step_kernels<float>();
template const CudaStepKernels<double>* cuda_step_kernels<double>();

}  // namespace equisweep
