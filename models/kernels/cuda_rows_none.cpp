// For builds without CUDA.
#include "models/kernels/cuda_rows.h"

namespace equisweep {

// No specializations: in a unity build the callers come first.
template <class T>
const CudaRowKernels<T>* cuda_row_kernels() {
  return nullptr;
}

template const CudaRowKernels<float>* cuda_row_kernels<float>();
template const CudaRowKernels<double>* cuda_row_kernels<double>();
template const CudaRowKernels<Bf16>* cuda_row_kernels<Bf16>();

}  // namespace equisweep
