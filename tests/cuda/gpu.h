#pragma once
// What the tests on a GPU begin with.

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "sweeps/device.h"

namespace equisweep::testing {

inline const at::Device kGpu(at::kCUDA, 0);

/// Skips where there is no GPU.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  }
};

template <class T>
class OnGpuWithParam : public OnGpu, public ::testing::WithParamInterface<T> {};

/// cuBLAS reads this when it starts, and train.deterministic needs it: here other tests start it first.
inline const bool kRepeatableCublas = ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0) == 0;

/// tests/golden of the sources, or of the current folder where the program has been carried to another machine.
inline std::filesystem::path golden() {
  const std::filesystem::path source = std::filesystem::path(EQUISWEEP_SOURCE_DIR) / "tests/golden";
  return std::filesystem::exists(source) ? source : std::filesystem::current_path() / "tests/golden";
}

}  // namespace equisweep::testing
