#pragma once
// The switch between the fused operations and their plain ATen form, and what fused operations share. For .cpp files.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "models/blocks/precision.h"
#include "models/kernels/mode.h"
#include "models/kernels/rows.h"

namespace equisweep {

/// Whether the loops of rows.h serve this tensor: fused operations are on, it lies on the CPU in fp32, fp64 or bf16, and has
/// elements.
inline bool fusable(const at::Tensor& x) {
  const auto dtype = x.scalar_type();
  return kernels() == Kernels::fused && x.is_cpu() && x.numel() > 0 &&
         (dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16);
}

/// f.template operator()<T>() with the element type of the loops.
template <class F>
void with_element(at::ScalarType dtype, const F& f) {
  if (dtype == at::kDouble) return f.template operator()<double>();
  if (dtype == at::kFloat) return f.template operator()<float>();
  TORCH_CHECK(dtype == at::kBFloat16, "no loops for ", dtype);
  f.template operator()<Bf16>();
}

/// The elements of `x`, which must have the type T; null where x is not defined.
template <class T>
T* elements(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

/// An argument of an autograd function that may be absent.
inline std::optional<at::Tensor> optional(const at::Tensor& x) { return x.defined() ? std::make_optional(x) : std::nullopt; }

/// Memory for a task, aligned as a tensor's is: products may round differently at another alignment.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count)
      : memory_(c10::GetCPUAllocator()->allocate(static_cast<std::size_t>(count) * sizeof(T))) {}
  T* get() const { return static_cast<T*>(memory_.get()); }

 private:
  at::DataPtr memory_;
};

/// x with adjacent elements in each row and rows at equal distance, which is written to `stride`; a copy where it is not so.
inline at::Tensor uniform_rows(const at::Tensor& x, std::int64_t& stride) {
  std::int64_t expected = -1;
  bool uniform = x.dim() > 0 && (x.size(-1) == 1 || x.stride(-1) == 1);
  for (std::int64_t d = x.dim() - 2; d >= 0 && uniform; --d) {
    if (x.size(d) == 1) continue;
    if (expected < 0)
      stride = x.stride(d);
    else
      uniform = x.stride(d) == expected;
    expected = x.stride(d) * x.size(d);
  }
  if (expected < 0) stride = x.dim() > 0 ? x.size(-1) : 1;
  if (uniform) return x;
  stride = x.size(-1);
  return x.contiguous();
}

/// f(begin, end) over the rows, on all threads; a piece has some 2^15 elements at least.
template <class F>
void over_rows(std::int64_t rows, std::int64_t width, const F& f) {
  at::parallel_for(0, rows, std::max<std::int64_t>(1, (std::int64_t{1} << 15) / std::max<std::int64_t>(width, 1)), f);
}

/// f(task) for task = 0 .. tasks - 1 on all threads, the next one to whichever is free: for tasks of unequal size that
/// write to places of their own.
template <class F>
void over_tasks(std::int64_t tasks, const F& f) {
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, std::min<std::int64_t>(tasks, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    for (std::int64_t task = next++; task < tasks; task = next++) f(task);
  });
}

/// Sums over rows in pieces whose number does not depend on the threads, so that neither does the sum: f(begin, end, sum)
/// adds to sum [width], W*. Returns [width] in `dtype`.
template <class W, class F>
at::Tensor sum_over_rows(std::int64_t rows, std::int64_t width, const at::TensorOptions& options, const F& f) {
  const std::int64_t pieces = std::clamp<std::int64_t>(rows / 64, 1, 16);
  const at::Tensor sums = at::zeros({pieces, width}, options);
  W* const first = elements<W>(sums);
  at::parallel_for(0, pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) f(rows * i / pieces, rows * (i + 1) / pieces, first + i * width);
  });
  return pieces == 1 ? sums.view({width}) : sums.sum(0);
}

}  // namespace equisweep
