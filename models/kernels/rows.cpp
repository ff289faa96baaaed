#include "models/kernels/rows.h"

#include <ATen/Version.h>

#include <atomic>
#include <string>

#include "models/kernels/mode.h"

namespace equisweep {
namespace {

template <class T>
const RowKernels<T>& best_rows() {
  const std::string capability = at::get_cpu_capability();
  const RowKernels<T>* found = nullptr;
  if (capability == "AVX512") found = row_kernels_avx512<T>();
  if (!found && (capability == "AVX512" || capability == "AVX2")) found = row_kernels_avx2<T>();
  return found ? *found : *row_kernels_default<T>();
}

std::atomic<Kernels> chosen_kernels = Kernels::fused;

}  // namespace

void set_kernels(Kernels kernels) { chosen_kernels = kernels; }
Kernels kernels() { return chosen_kernels; }

template <class T>
const RowKernels<T>& row_kernels() {
  static const RowKernels<T>& best = best_rows<T>();
  return best;
}

template const RowKernels<float>& row_kernels<float>();
template const RowKernels<double>& row_kernels<double>();
template const RowKernels<Bf16>& row_kernels<Bf16>();

}  // namespace equisweep
