#include "core/repeated_work.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string>

#ifdef EQUISWEEP_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace equisweep {

#ifdef EQUISWEEP_CUDA

namespace {
constexpr int kCallsBefore = 3;  ///< libraries set themselves up in the first, and choose among their kernels
}

struct RepeatedWork::Impl {
  Impl(at::Device d, Work w) : device(d), work(std::move(w)) {}

  at::Device device;
  Work work;
  std::vector<at::Tensor> results;
  int calls = 0;
  std::optional<c10::cuda::CUDAStream> stream;  ///< the default one cannot be recorded
  std::unique_ptr<at::cuda::CUDAGraph> graph;
  std::string refusal;

  void run() {
    if (graph) return graph->replay();
    if (!refusal.empty()) {
      results = work();
      return;
    }
    const c10::cuda::CUDAGuard on_device(device);
    if (!stream) stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index());
    c10::cuda::device_synchronize();
    if (calls++ < kCallsBefore) {
      {
        const c10::cuda::CUDAStreamGuard on_stream(*stream);
        results = work();
      }
      c10::cuda::device_synchronize();
      return;
    }
    results.clear();
    c10::cuda::CUDACachingAllocator::emptyCache();  // the recording has memory of its own
    if (record())
      graph->replay();
    else
      results = work();
  }

  /// False, and `refusal` says why, where something in the work cannot be recorded. Nothing of it has run then.
  bool record() {
    const at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
    auto recording = std::make_unique<at::cuda::CUDAGraph>();
    const c10::cuda::CUDAStreamGuard on_stream(*stream);
    recording->capture_begin(pool);
    try {
      results = work();
      recording->capture_end();
    } catch (const std::exception& error) {  // if it was not the recording's fault, running it as it is says so
      abandon(pool);
      const auto* from_torch = dynamic_cast<const c10::Error*>(&error);
      refusal = from_torch ? from_torch->what_without_backtrace() : error.what();
      refusal.resize(std::min(refusal.size(), refusal.find('\n')));
      return false;
    }
    graph = std::move(recording);
    return true;
  }

  /// The allocator and the stream still record after an error, and LibTorch ends neither: the next free would call into a
  /// graph that is gone.
  void abandon(const at::cuda::MempoolId_t& pool) {
    cudaGraph_t unfinished = nullptr;
    (void)cudaStreamEndCapture(stream->stream(), &unfinished);
    if (unfinished) (void)cudaGraphDestroy(unfinished);
    (void)cudaGetLastError();
    for (const auto end : {c10::cuda::CUDACachingAllocator::endAllocateToPool, c10::cuda::CUDACachingAllocator::releasePool})
      try {
        end(stream->device_index(), pool);
      } catch (const c10::Error&) {  // LibTorch had ended it
      }
  }
};

#else

struct RepeatedWork::Impl {
  Impl(at::Device d, Work w) : device(d), work(std::move(w)) {}

  at::Device device;
  Work work;
  std::vector<at::Tensor> results;
  std::string refusal;
  void run() { results = work(); }
};

#endif

RepeatedWork::RepeatedWork(at::Device device, Work work) : impl_(std::make_unique<Impl>(device, std::move(work))) {}
RepeatedWork::~RepeatedWork() = default;
RepeatedWork::RepeatedWork(RepeatedWork&&) noexcept = default;
RepeatedWork& RepeatedWork::operator=(RepeatedWork&&) noexcept = default;

const std::string& RepeatedWork::refusal() const { return impl_->refusal; }

const std::vector<at::Tensor>& RepeatedWork::run() {
  if (impl_->device.is_cuda())
    impl_->run();
  else
    impl_->results = impl_->work();
  return impl_->results;
}

}  // namespace equisweep
