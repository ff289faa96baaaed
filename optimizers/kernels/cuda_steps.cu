#include "optimizers/kernels/cuda_steps.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/cuda_device.cuh"

namespace equisweep {
namespace {

using Int = std::int64_t;

constexpr int kThreads = 256;
constexpr Int kPieceElements = Int{1} << 15;

/// V gradients, clipped.
template <int V, class T>
__device__ void clipped(const CudaStep<T>& step, Int i, T (&g)[V]) {
  const auto pack = load<V>(step.gradient + i);
  const T clip = step.clip ? *step.clip : T(1);
#pragma unroll
  for (int v = 0; v < V; ++v) g[v] = clip * pack.v[v];
}

/// S at i; with `fold` the momentum is updated first.
template <int V, class T>
__device__ void source(const CudaStep<T>& step, Int i, bool fold, T (&s)[V]) {
  if (!step.momentum) return clipped<V>(step, i, s);
  auto m = load<V>(step.momentum + i);
  if (!fold && !step.nesterov) {
#pragma unroll
    for (int v = 0; v < V; ++v) s[v] = m.v[v];
    return;
  }
  T g[V];
  clipped<V>(step, i, g);
  if (fold) {
#pragma unroll
    for (int v = 0; v < V; ++v) m.v[v] = step.keep * m.v[v] + step.take * g[v];
    store<V>(step.momentum + i, m);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) s[v] = step.nesterov ? step.take * g[v] + step.keep * m.v[v] : m.v[v];
}

/// The end of the step for V elements of U.
template <int V, class T>
__device__ void sink(const CudaStep<T>& step, Int i, const T (&u)[V]) {
  Pack<T, V> out;
  if (step.weight) {
    out = load<V>(step.weight + i);
#pragma unroll
    for (int v = 0; v < V; ++v) out.v[v] = step.retained * out.v[v] - step.lr * u[v];
    store<V>(step.weight + i, out);
  } else if (step.direction) {
#pragma unroll
    for (int v = 0; v < V; ++v) out.v[v] = u[v];
    store<V>(step.direction + i, out);
  }
  if (!step.zero_gradient) return;
#pragma unroll
  for (int v = 0; v < V; ++v) out.v[v] = 0;
  store<V>(step.gradient + i, out);
}

template <class T, int V>
__global__ void adam_step(CudaStep<T> step, AdamLoop<T> c, T* __restrict__ m, T* __restrict__ v, Int count) {
  const Int i = (static_cast<Int>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= count) return;
  T g[V], u[V];
  clipped<V>(step, i, g);
  auto first = load<V>(m + i), second = load<V>(v + i);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    first.v[k] = c.keep1 * first.v[k] + c.take1 * g[k];
    second.v[k] = c.keep2 * second.v[k] + c.take2 * g[k] * g[k];
    u[k] = first.v[k] * c.gain1 / (root(second.v[k] * c.gain2) + c.eps);
  }
  store<V>(m + i, first);
  store<V>(v + i, second);
  sink<V>(step, i, u);
}

template <class T, int V>
__global__ void momentum_step(CudaStep<T> step, T size, Int count) {
  const Int i = (static_cast<Int>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= count) return;
  T s[V];
  source<V>(step, i, true, s);
  if (size > 0) {
#pragma unroll
    for (int v = 0; v < V; ++v) s[v] = s[v] > 0 ? size : s[v] < 0 ? -size : s[v] == 0 ? T(0) : s[v];
  }
  sink<V>(step, i, s);
}

template <class T, int V>
__global__ void rows_step(CudaStep<T> step, Int width, T factor, T eps, T gain) {
  const Int row = blockIdx.x * width;
  double sum = 0;
  for (Int i = threadIdx.x * V; i < width; i += kThreads * V) {
    T s[V];
    source<V>(step, row + i, true, s);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += static_cast<double>(s[v]) * static_cast<double>(s[v]);
  }
  const T divisor = static_cast<T>(sqrt(block_sum(sum))) * factor + eps;
  for (Int i = threadIdx.x * V; i < width; i += kThreads * V) {
    T s[V];
    source<V>(step, row + i, false, s);
#pragma unroll
    for (int v = 0; v < V; ++v) s[v] = s[v] / divisor * gain;
    sink<V>(step, row + i, s);
  }
}

__host__ __device__ Int pieces_of(Int count) {
  const Int pieces = (count + kPieceElements - 1) / kPieceElements;
  return pieces < 1 ? 1 : pieces;
}

template <class T, int V>
__global__ void fold_matrices(CudaStep<T> step, Int count, double* __restrict__ squares) {
  const Int matrix = blockIdx.x / pieces_of(count), piece = blockIdx.x % pieces_of(count);
  const Int end = (piece + 1) * kPieceElements < count ? (piece + 1) * kPieceElements : count;
  double sum = 0;
  for (Int i = piece * kPieceElements + threadIdx.x * V; i < end; i += kThreads * V) {
    T s[V];
    source<V>(step, matrix * count + i, true, s);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += static_cast<double>(s[v]) * static_cast<double>(s[v]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

template <class T, int V>
__global__ void divide_matrices(CudaStep<T> step, Int count, const double* __restrict__ squares, double safety,
                                double smallest, Bf16* __restrict__ narrow, T* __restrict__ y) {
  const Int pieces = pieces_of(count), matrix = blockIdx.x / pieces, piece = blockIdx.x % pieces;
  double sum = 0;
  for (Int k = threadIdx.x; k < pieces; k += kThreads) sum += squares[matrix * pieces + k];
  const double norm = safety * sqrt(block_sum(sum));
  const T divisor = static_cast<T>(norm < smallest ? smallest : norm);  // NaN stays
  const Int end = (piece + 1) * kPieceElements < count ? (piece + 1) * kPieceElements : count;
  for (Int i = piece * kPieceElements + threadIdx.x * V; i < end; i += kThreads * V) {
    const Int at = matrix * count + i;
    T s[V];
    source<V>(step, at, false, s);
    if (narrow) {
      Pack<Bf16, V> out;
#pragma unroll
      for (int v = 0; v < V; ++v) put(out.v[v], static_cast<float>(s[v] / divisor));
      store<V>(narrow + at, out);
    } else {
      Pack<T, V> out;
#pragma unroll
      for (int v = 0; v < V; ++v) out.v[v] = s[v] / divisor;
      store<V>(y + at, out);
    }
    if (!step.zero_gradient) continue;
    Pack<T, V> zero;
#pragma unroll
    for (int v = 0; v < V; ++v) zero.v[v] = 0;
    store<V>(step.gradient + at, zero);
  }
}

template <class T, int V>
__global__ void apply_factor(CudaStep<T> step, const Bf16* __restrict__ narrow, const T* __restrict__ y, T gain, Int count) {
  const Int i = (static_cast<Int>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= count) return;
  T u[V];
  if (narrow) {
    const auto pack = load<V>(narrow + i);
#pragma unroll
    for (int v = 0; v < V; ++v) u[v] = gain * static_cast<T>(wide(pack.v[v]));
  } else {
    const auto pack = load<V>(y + i);
#pragma unroll
    for (int v = 0; v < V; ++v) u[v] = gain * pack.v[v];
  }
  sink<V>(step, i, u);
}

/// The host's side: chooses the width of loads and launches.
template <class T>
struct Steps {
  static constexpr int kPack = 16 / sizeof(T);

  /// Whether all lines of `width` elements can be read 16 bytes at a time.
  static bool packed(const CudaStep<T>& step, Int width, std::initializer_list<const void*> more = {}) {
    const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
    return width % kPack == 0 && aligned(step.gradient) && aligned(step.weight) && aligned(step.direction) &&
           aligned(step.momentum) && std::all_of(more.begin(), more.end(), aligned);
  }
  template <class F>
  static void with_pack(bool whole, const F& f) {
    if (whole) return f(std::integral_constant<int, kPack>());
    f(std::integral_constant<int, 1>());
  }
  static unsigned blocks(Int count, int v) { return checked_blocks((count + kThreads * v - 1) / (kThreads * v)); }

  static void adam(const CudaStep<T>& step, const AdamLoop<T>& form, T* m, T* v, Int count, CudaStream stream) {
    if (count == 0) return;
    with_pack(packed(step, count, {m, v}), [&](auto w) {
      adam_step<T, w><<<blocks(count, w), kThreads, 0, stream_of(stream)>>>(step, form, m, v, count);
    });
    check_launch("adam");
  }

  static void momentum(const CudaStep<T>& step, T size, Int count, CudaStream stream) {
    if (count == 0) return;
    with_pack(packed(step, count),
              [&](auto w) { momentum_step<T, w><<<blocks(count, w), kThreads, 0, stream_of(stream)>>>(step, size, count); });
    check_launch("momentum");
  }

  static void rows(const CudaStep<T>& step, Int rows, Int width, T factor, T eps, T gain, CudaStream stream) {
    if (rows == 0) return;
    with_pack(packed(step, width), [&](auto w) {
      rows_step<T, w><<<checked_blocks(rows), kThreads, 0, stream_of(stream)>>>(step, width, factor, eps, gain);
    });
    check_launch("rows");
  }

  static void fold(const CudaStep<T>& step, Int matrices, Int count, double* squares, CudaStream stream) {
    with_pack(packed(step, count), [&](auto w) {
      fold_matrices<T, w>
          <<<checked_blocks(matrices * pieces_of(count)), kThreads, 0, stream_of(stream)>>>(step, count, squares);
    });
    check_launch("fold");
  }

  static void divide(const CudaStep<T>& step, Int matrices, Int count, const double* squares, double safety, double smallest,
                     Bf16* narrow, T* y, CudaStream stream) {
    with_pack(packed(step, count, {narrow, y}), [&](auto w) {
      divide_matrices<T, w><<<checked_blocks(matrices * pieces_of(count)), kThreads, 0, stream_of(stream)>>>(
          step, count, squares, safety, smallest, narrow, y);
    });
    check_launch("divide");
  }

  static void apply(const CudaStep<T>& step, const Bf16* narrow, const T* y, T gain, Int count, CudaStream stream) {
    if (count == 0) return;
    with_pack(packed(step, count, {narrow, y}), [&](auto w) {
      apply_factor<T, w><<<blocks(count, w), kThreads, 0, stream_of(stream)>>>(step, narrow, y, gain, count);
    });
    check_launch("apply");
  }

  static constexpr CudaStepKernels<T> table = {adam, momentum, rows, pieces_of, fold, divide, apply};
};

}  // namespace

template <>
const CudaStepKernels<float>* cuda_step_kernels<float>() {
  return &Steps<float>::table;
}
template <>
const CudaStepKernels<double>* cuda_step_kernels<double>() {
  return &Steps<double>::table;
}

}  // namespace equisweep
