#include "core/cuda.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#ifdef EQUISWEEP_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace equisweep {

#ifdef EQUISWEEP_CUDA

CudaQueue::CudaQueue(const at::Tensor& x)
    : stream_(c10::cuda::getCurrentCUDAStream(x.device().index()).stream()),
      device_before_(c10::cuda::ExchangeDevice(x.device().index())) {}
CudaQueue::~CudaQueue() { c10::cuda::MaybeExchangeDevice(static_cast<c10::DeviceIndex>(device_before_)); }

std::vector<std::string> cuda_device_names() {
  std::vector<std::string> names;
  for (int i = 0; i < c10::cuda::device_count(); ++i) {
    cudaDeviceProp device = {};
    C10_CUDA_CHECK(cudaGetDeviceProperties(&device, i));
    names.push_back(fmt::format("{}, {:.1f} GiB, compute capability {}.{}", device.name,
                                static_cast<double>(device.totalGlobalMem) / (1 << 30), device.major, device.minor));
  }
  return names;
}

int cuda_capability(at::Device device) {
  const int index = device.has_index() ? device.index() : c10::cuda::current_device();
  int major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
  return 10 * major + minor;
}

#else

CudaQueue::CudaQueue(const at::Tensor&) : stream_(nullptr), device_before_(0) {
  TORCH_CHECK(false, "this program was built without CUDA");
}
CudaQueue::~CudaQueue() = default;
std::vector<std::string> cuda_device_names() { return {}; }
int cuda_capability(at::Device) { return 0; }

#endif

}  // namespace equisweep
