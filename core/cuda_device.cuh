#pragma once
// What kernels for CUDA share: elements, wide loads, sums over a warp or block, launches. For .cu files.

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/element.h"

namespace equisweep {
namespace {

__device__ inline float wide(float x) { return x; }
__device__ inline double wide(double x) { return x; }
__device__ inline float wide(Bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

__device__ inline void put(float& y, float x) { y = x; }
__device__ inline void put(double& y, double x) { y = x; }
/// To the nearest, ties to even; NaN stays one.
__device__ inline void put(Bf16& y, float x) {
  const unsigned bits = __float_as_uint(x);
  const unsigned rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  y.bits = static_cast<std::uint16_t>(x != x ? 0x7fc0U : rounded);
}

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float logarithm(float x) { return logf(x); }
__device__ inline double logarithm(double x) { return log(x); }
template <class W>
__device__ W infinity() {
  return static_cast<W>(__uint_as_float(0x7f800000U));
}

/// V adjacent elements, read and written together, 16 bytes at a time.
template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T v[V];
};
template <int V, class T>
__device__ Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}
template <int V, class T>
__device__ void store(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

/// The sum over the lanes of a warp, or the threads of a block of whole warps, to each of them.
template <class W>
__device__ W warp_sum(W x) {
  for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(~0U, x, o);
  return x;
}
template <class W>
__device__ W block_sum(W x) {
  x = warp_sum(x);
  if (blockDim.x == 32) return x;
  __shared__ W warps[32];
  __syncthreads();  // of an earlier call nobody reads any more
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  W sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += warps[warp];
  return sum;
}

inline cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

/// A number of blocks for the first axis of a grid.
inline unsigned checked_blocks(std::int64_t count) {
  if (count > 0x7fffffff) throw std::runtime_error("CUDA: too many rows for one call");
  return static_cast<unsigned>(count);
}

inline void check_launch(const char* what) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

}  // namespace
}  // namespace equisweep
