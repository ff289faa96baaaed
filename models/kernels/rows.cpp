#include "models/kernels/rows.h"

#include <type_traits>

#include "core/kernels.h"

namespace equisweep {

template <class T>
const RowKernels<T>& row_kernels() {
  static const RowKernels<T>& best = []() -> const RowKernels<T>& {
    if constexpr (std::is_same_v<T, Bf16>) {
      if (has_bf16_vectors() && row_kernels_avx512_bf16()) return *row_kernels_avx512_bf16();
    }
    return best_loops(row_kernels_default<T>(), row_kernels_avx2<T>(), row_kernels_avx512<T>());
  }();
  return best;
}

template const RowKernels<float>& row_kernels<float>();
template const RowKernels<double>& row_kernels<double>();
template const RowKernels<Bf16>& row_kernels<Bf16>();

}  // namespace equisweep
