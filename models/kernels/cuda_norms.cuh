#pragma once
// Norms and rotations of rows on a GPU: see cuda_rows.h. For cuda_rows.cu.

#include "core/cuda_device.cuh"
#include "models/kernels/cuda_rows.h"

namespace equisweep {
namespace {

using Int = std::int64_t;

constexpr int kHeadWarps = 4;  ///< of a block that works on heads, one head a warp

template <class T, int V>
__global__ void norm_rows(const T* __restrict__ x, Int stride, const Wide<T>* __restrict__ gain, Wide<T> eps,
                          T* __restrict__ y, Wide<T>* __restrict__ r, Int width) {
  using W = Wide<T>;
  const T* in = x + blockIdx.x * stride;
  T* out = y + blockIdx.x * width;
  W s = 0;
  for (Int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto a = load<V>(in + i);
#pragma unroll
    for (int v = 0; v < V; ++v) s += wide(a.v[v]) * wide(a.v[v]);
  }
  const W q = W(1) / root(block_sum(s) / static_cast<W>(width) + eps);
  if (threadIdx.x == 0) r[blockIdx.x] = q;
  for (Int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto a = load<V>(in + i);
    const auto g = load<V>(gain + i);
    Pack<T, V> b;
#pragma unroll
    for (int v = 0; v < V; ++v) put(b.v[v], wide(a.v[v]) * q * g.v[v]);
    store<V>(out + i, b);
  }
}

/// Each block takes every gridDim-th row and keeps its columns' part of dgain in registers.
template <class T, int V, int kItems>
__global__ void norm_rows_backward(const T* __restrict__ x, Int stride, const Wide<T>* __restrict__ r,
                                   const Wide<T>* __restrict__ gain, const T* __restrict__ dy, T* __restrict__ dx,
                                   Wide<T>* __restrict__ dgain, Int rows, Int width) {
  using W = Wide<T>;
  W sum[kItems][V] = {}, g[kItems][V] = {};
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const Int i = (k * blockDim.x + threadIdx.x) * V;
    if (i >= width) continue;
    const auto pack = load<V>(gain + i);
#pragma unroll
    for (int v = 0; v < V; ++v) g[k][v] = pack.v[v];
  }
  for (Int row = blockIdx.x; row < rows; row += gridDim.x) {
    const W q = r[row];
    Pack<T, V> a[kItems], d[kItems];
    W s = 0;
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const Int i = (k * blockDim.x + threadIdx.x) * V;
      if (i >= width) continue;
      a[k] = load<V>(x + row * stride + i);
      d[k] = load<V>(dy + row * width + i);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const W dz = wide(d[k].v[v]) * wide(a[k].v[v]) * q;
        sum[k][v] += dz;
        s += dz * g[k][v];
      }
    }
    const W mean = block_sum(s) / static_cast<W>(width);
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      const Int i = (k * blockDim.x + threadIdx.x) * V;
      if (i >= width) continue;
      Pack<T, V> b;
#pragma unroll
      for (int v = 0; v < V; ++v) put(b.v[v], q * (wide(d[k].v[v]) * g[k][v] - wide(a[k].v[v]) * q * mean));
      store<V>(dx + row * width + i, b);
    }
  }
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const Int i = (k * blockDim.x + threadIdx.x) * V;
    if (i >= width) continue;
#pragma unroll
    for (int v = 0; v < V; ++v) dgain[blockIdx.x * width + i + v] = sum[k][v];
  }
}

/// A warp a head; a lane has V adjacent elements of the first half and those V of the second that they turn with.
template <class T, int V, bool kNorm>
__global__ void rotate_heads(const T* __restrict__ x, Int stride, const Wide<T>* __restrict__ gain, Wide<T> eps,
                             Rotation<Wide<T>> rotation, T* __restrict__ y, Wide<T>* __restrict__ r, Int rows) {
  using W = Wide<T>;
  const Int head = static_cast<Int>(blockIdx.x) * kHeadWarps + threadIdx.y;
  if (head >= rows * rotation.heads) return;
  const Int row = head / rotation.heads, C = rotation.C, half = C / 2, t = row % rotation.T;
  const T* in = x + row * stride + (head - row * rotation.heads) * C;
  T* out = y + head * C;
  W q = 1;
  if constexpr (kNorm) {
    W s = 0;
    for (Int i = threadIdx.x * V; i < half; i += 32 * V) {
      const auto a = load<V>(in + i), b = load<V>(in + half + i);
#pragma unroll
      for (int v = 0; v < V; ++v) s += wide(a.v[v]) * wide(a.v[v]) + wide(b.v[v]) * wide(b.v[v]);
    }
    q = W(1) / root(warp_sum(s) / static_cast<W>(C) + eps);
    if (threadIdx.x == 0) r[head] = q;
  }
  for (Int i = threadIdx.x * V; i < half; i += 32 * V) {
    const auto a = load<V>(in + i), b = load<V>(in + half + i);
    Pack<T, V> first, second;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      W u = wide(a.v[v]), w = wide(b.v[v]);
      if constexpr (kNorm) {
        u *= q * gain[i + v];
        w *= q * gain[half + i + v];
      }
      const W c = rotation.cos[t * half + i + v], s = rotation.sin[t * half + i + v];
      put(first.v[v], u * c - w * s);
      put(second.v[v], w * c + u * s);
    }
    store<V>(out + i, first);
    store<V>(out + half + i, second);
  }
}

/// As rotate_heads, where one pass of a warp covers a head: C <= 64 V. Each warp takes every so many heads and keeps its
/// columns' part of dgain.
template <class T, int V, bool kNorm>
__global__ void rotate_heads_backward(const T* __restrict__ x, Int stride, const Wide<T>* __restrict__ gain,
                                      const Wide<T>* __restrict__ r, Rotation<Wide<T>> rotation, const T* __restrict__ dy,
                                      T* __restrict__ dx, Wide<T>* __restrict__ dgain, Int rows) {
  using W = Wide<T>;
  const Int C = rotation.C, half = C / 2, i = threadIdx.x * V;
  const bool inside = i < half;
  W sum[2][V] = {}, g[2][V] = {};
  if (kNorm && inside) {
#pragma unroll
    for (int v = 0; v < V; ++v) g[0][v] = gain[i + v], g[1][v] = gain[half + i + v];
  }
  const Int step = static_cast<Int>(gridDim.x) * kHeadWarps;
  for (Int head = static_cast<Int>(blockIdx.x) * kHeadWarps + threadIdx.y; head < rows * rotation.heads; head += step) {
    const Int row = head / rotation.heads, t = row % rotation.T;
    W dz[2][V] = {}, z[2][V] = {}, s = 0;
    W q = 1;
    if (inside) {
      const auto a = load<V>(dy + head * C + i), b = load<V>(dy + head * C + half + i);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const W c = rotation.cos[t * half + i + v], sine = rotation.sin[t * half + i + v];
        dz[0][v] = wide(a.v[v]) * c + wide(b.v[v]) * sine;
        dz[1][v] = wide(b.v[v]) * c - wide(a.v[v]) * sine;
      }
      if constexpr (kNorm) {
        q = r[head];
        const T* in = x + row * stride + (head - row * rotation.heads) * C;
        const auto low = load<V>(in + i), high = load<V>(in + half + i);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          z[0][v] = wide(low.v[v]) * q;
          z[1][v] = wide(high.v[v]) * q;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            sum[k][v] += dz[k][v] * z[k][v];
            s += dz[k][v] * z[k][v] * g[k][v];
          }
        }
      }
    }
    if constexpr (kNorm) {
      const W mean = warp_sum(s) / static_cast<W>(C);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int k = 0; k < 2; ++k) dz[k][v] = q * (dz[k][v] * g[k][v] - z[k][v] * mean);
    }
    if (inside) {
      Pack<T, V> first, second;
#pragma unroll
      for (int v = 0; v < V; ++v) put(first.v[v], dz[0][v]), put(second.v[v], dz[1][v]);
      store<V>(dx + head * C + i, first);
      store<V>(dx + head * C + half + i, second);
    }
  }
  if constexpr (kNorm) {
    __shared__ W all[kHeadWarps][2 * 32 * V];
#pragma unroll
    for (int v = 0; v < V; ++v) all[threadIdx.y][i + v] = sum[0][v], all[threadIdx.y][32 * V + i + v] = sum[1][v];
    __syncthreads();
    if (threadIdx.y != 0 || !inside) return;
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        W total = 0;
        for (int warp = 0; warp < kHeadWarps; ++warp) total += all[warp][k * 32 * V + i + v];
        dgain[blockIdx.x * C + k * half + i + v] = total;
      }
  }
}

}  // namespace
}  // namespace equisweep
