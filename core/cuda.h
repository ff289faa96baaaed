#pragma once
// What little of CUDA the rest of the program needs, so that it includes none of its headers. Without CUDA in LibTorch all
// of it is there and says so.

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace equisweep {

/// A cudaStream_t.
using CudaStream = void*;

/// The stream on which ATen queues work for the device of `x`, a CUDA tensor. That is the current device for as long as this
/// lives: as an argument, until the call has returned.
class CudaQueue {
 public:
  explicit CudaQueue(const at::Tensor& x);
  ~CudaQueue();
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;
  operator CudaStream() const { return stream_; }

 private:
  CudaStream stream_;
  int device_before_;
};

/// "NVIDIA H100 80GB HBM3, 79.1 GiB, compute capability 9.0" for every device that this process sees.
std::vector<std::string> cuda_device_names();

/// What our own kernels are compiled for at least (cmake/library.cmake).
inline constexpr int kOldestCapability = 80;

/// 10 major + minor of the compute capability of a CUDA device, say 90; 0 without CUDA.
int cuda_capability(at::Device device);

}  // namespace equisweep
