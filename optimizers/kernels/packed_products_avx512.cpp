// Compiled for machines with AVX-512 alone; see core/avx512.inc.
#include "optimizers/kernels/packed_products.h"

#if defined(__AVX512F__)

#include "core/avx512.inc"

namespace equisweep {
namespace {

void gram(const float* panels, Int K, Int k, bool add, float* g) {
  for (Int i = 0; i < k; i += 32)
    for (Int j = 0; j <= i; j += 32) {
      const float* const b = panels + j * K;
      for (Int row = i; row < i + 32; row += kRows) {
        float* const c = g + row * k + j;
        Sums sums = add ? load_sums(c, k) : zero_sums();
        add_terms(sums, panels + i * K + row - i, 1, 32, b, b + 16, 32, K);
        store_sums(sums, c, k);
      }
    }
}

void multiply(const float* a, Int stride, const float* panels, Int M, Int N, Int K, float* c, Int c_stride) {
  constexpr Int kBlock = 64;  // rows that stay in the first cache while the panels go by
  for (Int first = 0; first < M; first += kBlock)
    for (Int n = 0; n < N; n += 32)
      for (Int m = first; m < M && m < first + kBlock; m += kRows) {
        Sums sums = zero_sums();
        add_terms(sums, a + m * stride, stride, 1, panels + n * K, panels + n * K + 16, 32, K);
        store_sums(sums, c + m * c_stride + n, c_stride);
      }
}

void mirror(float* x, Int k) {
  for (Int i = 32; i < k; i += 16)
    for (Int j = 0; j < i / 32 * 32; j += 16) transpose_16(x + i * k + j, k, 16, x + j * k + i, k);
}

constexpr PackedProducts<float> kProducts = {pack_panels, gram, multiply, mirror};
constexpr const PackedProducts<float>* kServed = &kProducts;

}  // namespace
}  // namespace equisweep

#else

namespace equisweep {
namespace {

constexpr const PackedProducts<float>* kServed = nullptr;

}  // namespace
}  // namespace equisweep

#endif

namespace equisweep {

template <>
const PackedProducts<float>* packed_products_avx512<float>() {
  return kServed;
}
template <>
const PackedProducts<double>* packed_products_avx512<double>() {
  return nullptr;
}

}  // namespace equisweep
