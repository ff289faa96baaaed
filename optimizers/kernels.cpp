// Compiled with -O3 -fno-math-errno (CMakeLists.txt): without them GCC leaves loops of unknown length, and square roots,
// scalar.
#include "optimizers/kernels.h"

#include <ATen/ATen.h>
#include <ATen/TensorIterator.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace equisweep {
namespace {

/// Element i of an operand of type T whose elements lie `stride` bytes apart.
template <typename T>
T& element(char* data, std::int64_t stride, std::int64_t i) {
  return *reinterpret_cast<T*>(data + stride * i);
}

/// Runs loop(data, strides, n) over all elements, in parallel, with strides that are known at compile time where all
/// operands are dense, so that it becomes vector code.
template <std::size_t N, typename Loop>
void run(at::TensorIterator& iterator, const std::array<std::int64_t, N>& widths, const Loop& loop) {
  iterator.for_each([&](char** data, const std::int64_t* strides, std::int64_t inner, std::int64_t outer) {
    std::array<char*, N> row;
    std::copy_n(data, N, row.begin());
    const bool dense = std::equal(widths.begin(), widths.end(), strides);
    for (std::int64_t j = 0; j < outer; ++j) {
      if (dense)
        loop(row, widths, inner);
      else
        loop(row, strides, inner);
      for (std::size_t k = 0; k < N; ++k) row[k] += strides[N + k];
    }
  });
}

template <typename W, typename U>
void update_on_cpu(at::TensorIterator& iterator, U retained, U lr) {
  constexpr std::array<std::int64_t, 2> widths = {sizeof(W), sizeof(U)};
  run(iterator, widths, [=](const auto& data, const auto& strides, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      W& w = element<W>(data[0], strides[0], i);
      w = static_cast<W>(retained * static_cast<U>(w) - lr * element<U>(data[1], strides[1], i));
    }
  });
}

template <typename T>
void adam_on_cpu(at::TensorIterator& iterator, const AdamCoefficients& c) {
  const T keep1 = static_cast<T>(c.beta1), keep2 = static_cast<T>(c.beta2), eps = static_cast<T>(c.eps);
  const T new1 = static_cast<T>(1.0 - c.beta1), new2 = static_cast<T>(1.0 - c.beta2);
  const T gain1 = static_cast<T>(1.0 / c.correction1), gain2 = static_cast<T>(1.0 / c.correction2);
  constexpr std::array<std::int64_t, 4> widths = {sizeof(T), sizeof(T), sizeof(T), sizeof(T)};
  run(iterator, widths, [=](const auto& data, const auto& strides, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
      const T g = element<T>(data[3], strides[3], i);
      const T m = keep1 * element<T>(data[1], strides[1], i) + new1 * g;
      const T v = keep2 * element<T>(data[2], strides[2], i) + new2 * g * g;
      element<T>(data[1], strides[1], i) = m;
      element<T>(data[2], strides[2], i) = v;
      element<T>(data[0], strides[0], i) = m * gain1 / (std::sqrt(v * gain2) + eps);
    }
  });
}

}  // namespace

void apply_update(const at::Tensor& weight, const at::Tensor& update, double retained, double lr) {
  const at::ScalarType narrow = weight.scalar_type(), wide = update.scalar_type();
  if (weight.is_cpu() && wide == at::promote_types(narrow, at::kFloat)) {
    at::TensorIterator iterator = at::TensorIteratorConfig()
                                      .check_all_same_dtype(false)
                                      .resize_outputs(false)
                                      .add_output(weight)
                                      .add_const_input(update)
                                      .build();
    if (narrow == at::kFloat)
      return update_on_cpu<float, float>(iterator, static_cast<float>(retained), static_cast<float>(lr));
    if (narrow == at::kDouble) return update_on_cpu<double, double>(iterator, retained, lr);
    if (narrow == at::kBFloat16)
      return update_on_cpu<at::BFloat16, float>(iterator, static_cast<float>(retained), static_cast<float>(lr));
  }
  at::Tensor result = narrow == wide ? weight : weight.to(wide);
  if (retained != 1.0) result.mul_(retained);
  result.sub_(update, lr);
  if (narrow != wide) weight.copy_(result);
}

at::Tensor adam_direction(const at::Tensor& m, const at::Tensor& v, const at::Tensor& gradient, const AdamCoefficients& c) {
  const at::ScalarType dtype = m.scalar_type();
  if (m.is_cpu() && (dtype == at::kFloat || dtype == at::kDouble)) {
    const at::Tensor u = at::empty_like(m);
    at::TensorIterator iterator = at::TensorIteratorConfig()
                                      .resize_outputs(false)
                                      .add_output(u)
                                      .add_output(m)
                                      .add_output(v)
                                      .add_const_input(gradient)
                                      .build();
    if (dtype == at::kFloat)
      adam_on_cpu<float>(iterator, c);
    else
      adam_on_cpu<double>(iterator, c);
    return u;
  }
  m.lerp_(gradient, 1.0 - c.beta1);
  v.mul_(c.beta2).addcmul_(gradient, gradient, 1.0 - c.beta2);
  at::Tensor root = at::sqrt(v).div_(std::sqrt(c.correction2)).add_(c.eps);
  return at::div_out(root, m, root).div_(c.correction1);
}

}  // namespace equisweep
