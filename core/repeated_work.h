#pragma once
// Work on a GPU that is queued anew in every step, recorded once and replayed: a CUDA graph.

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace equisweep {

/// The first calls run the work as it is, the next one records what it queues, and from then on one launch queues all of it:
/// small models wait for launches otherwise. The same kernels, and so the same bits where they repeat.
///
/// The work reads and writes the same tensors at every call and decides nothing by their contents; what it allocates belongs
/// to the recording. Where it waits for the device or copies from the host it cannot be recorded: refusal() says so, and
/// every call runs it, as on other devices and where this program was built without CUDA.
class RepeatedWork {
 public:
  using Work = std::function<std::vector<at::Tensor>()>;

  RepeatedWork(at::Device device, Work work);
  ~RepeatedWork();
  RepeatedWork(RepeatedWork&&) noexcept;
  RepeatedWork& operator=(RepeatedWork&&) noexcept;

  /// The tensors that the work returns; a later call overwrites them.
  const std::vector<at::Tensor>& run();

  /// LibTorch's words on why recording failed, once it has; else empty.
  const std::string& refusal() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace equisweep
