#pragma once
// What an operation allocates, so that tests can say that it does not.

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace equisweep {

/// Sees all that its thread allocates on the CPU while it is set.
class Allocations : public c10::MemoryReportingInfoBase {
 public:
  /// The bytes of each allocation in f(), in order.
  template <class F>
  static std::vector<std::int64_t> of(const F& f) {
    const auto observer = std::make_shared<Allocations>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, observer);
    f();
    return observer->bytes_;
  }

  void reportMemoryUsage(void*, std::int64_t size, std::size_t, std::size_t, c10::Device) override {
    if (size > 0) bytes_.push_back(size);  // less than 0: given back
  }
  bool memoryProfilingEnabled() const override { return true; }

 private:
  std::vector<std::int64_t> bytes_;
};

}  // namespace equisweep
