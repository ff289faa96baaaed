#pragma once
// Seeds. Every consumer of randomness has its own generator, a pure function of (seed, purpose, index): nothing is shared,
// so adding a consumer changes no other, and a resumed run needs no saved generator.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string_view>

namespace equisweep {

/// 64 bits that depend on all three arguments (XXH3 over their bytes); pinned by a test, since stored results depend on it.
std::uint64_t derive_seed(std::uint64_t seed, std::string_view purpose, std::uint64_t index = 0);

/// A CPU generator seeded by derive_seed. Weights are drawn on the CPU in fp32 and moved, so every device starts alike.
at::Generator make_generator(std::uint64_t seed, std::string_view purpose, std::uint64_t index = 0);

/// splitmix64: a small, portable generator where tensors are not needed. Same numbers on every platform.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// Uniform in [0, n), unbiased; n > 0.
  std::uint64_t below(std::uint64_t n);
  /// Uniform in [0, 1) with 53 bits.
  double uniform();

 private:
  std::uint64_t state_;
};

}  // namespace equisweep
