#pragma once
// Which form of an operation the models run.

#include <string_view>

namespace equisweep {

enum class Kernels {
  fused,      ///< one pass where ATen takes several; hand-written loops on the CPU
  reference,  ///< ATen's operations, one by one
};

constexpr std::string_view name_of(Kernels kernels) { return kernels == Kernels::fused ? "fused" : "reference"; }

/// Of the whole process; fused at the start. A graph keeps the form in which it was built.
void set_kernels(Kernels kernels);
Kernels kernels();

}  // namespace equisweep
