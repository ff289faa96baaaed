// For builds without CUDA.
#include "models/kernels/cuda_rows.h"

namespace equisweep {

template <>
const CudaRowKernels<float>* cuda_row_kernels<float>() {
  return nullptr;
}
template <>
const CudaRowKernels<double>* cuda_row_kernels<double>() {
  return nullptr;
}
template <>
const CudaRowKernels<Bf16>* cuda_row_kernels<Bf16>() {
  return nullptr;
}

}  // namespace equisweep
