#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/cuda_device.cuh"
#include "models/kernels/cuda_norms.cuh"
#include "models/kernels/cuda_rows.h"

namespace equisweep {
namespace {

constexpr int kMostThreads = 512;
constexpr int kMostItems = 4;  ///< packs of a row that a thread of norm_backward keeps

/// Threads for a row of `packs` packs: whole warps.
int threads_for(Int packs) { return static_cast<int>(std::clamp<Int>((packs + 31) / 32 * 32, 32, kMostThreads)); }

Int pieces_of(Int rows, Int width) {
  return std::clamp<Int>(rows / 16, 1, std::clamp<Int>((Int{1} << 21) / width, 64, 2048));
}

template <class W>
struct Gated {
  W activation, slope, factor, factor_slope;
};

/// As Rows::gated of rows.inc.
template <Gate kind, class W>
__device__ Gated<W> gated(W g, W u, W alpha, W limit) {
  if constexpr (kind == Gate::silu) {
    const W s = W(1) / (W(1) + exponential(-g));
    return {g * s, s * (W(1) + g * (W(1) - s)), u, W(1)};
  } else if constexpr (kind == Gate::gelu_tanh) {
    constexpr W k = static_cast<W>(2 * 0.79788456080286535588), cubic = static_cast<W>(0.044715);
    const W s = W(1) / (W(1) + exponential(-k * (g + cubic * g * g * g)));
    return {g * s, s + g * s * (W(1) - s) * k * (W(1) + 3 * cubic * g * g), u, W(1)};
  } else {
    const W low = g > limit ? limit : g;
    const W s = W(1) / (W(1) + exponential(-alpha * low));
    const W bounded = u > limit ? limit : (u < -limit ? -limit : u);
    return {low * s, g > limit ? W(0) : s + alpha * low * s * (W(1) - s), bounded + W(1), bounded == u ? W(1) : W(0)};
  }
}

/// V pairs of gate and up from a row of either form.
template <int V, int kStep, class T>
__device__ void load_pairs(const T* gate, const T* up, Int i, Wide<T> (&g)[V], Wide<T> (&u)[V]) {
  if constexpr (kStep == 1) {
    const auto a = load<V>(gate + i), b = load<V>(up + i);
#pragma unroll
    for (int v = 0; v < V; ++v) g[v] = wide(a.v[v]), u[v] = wide(b.v[v]);
  } else {
    const auto a = load<2 * V>(gate + 2 * i);
#pragma unroll
    for (int v = 0; v < V; ++v) g[v] = wide(a.v[2 * v]), u[v] = wide(a.v[2 * v + 1]);
  }
}

template <class T, Gate kind, int V, int kStep>
__global__ void gate_rows(Wide<T> alpha, Wide<T> limit, GateRows<const T> in, T* __restrict__ h) {
  using W = Wide<T>;
  const Int row = blockIdx.x;
  for (Int i = threadIdx.x * V; i < in.width; i += blockDim.x * V) {
    W g[V], u[V];
    load_pairs<V, kStep>(in.gate + row * in.stride, in.up + row * in.stride, i, g, u);
    Pack<T, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const auto a = gated<kind>(g[v], u[v], alpha, limit);
      put(out.v[v], a.activation * a.factor);
    }
    store<V>(h + row * in.width + i, out);
  }
}

template <class T, Gate kind, int V, int kStep>
__global__ void gate_rows_backward(Wide<T> alpha, Wide<T> limit, GateRows<const T> in, const T* __restrict__ dh,
                                   GateRows<T> out) {
  using W = Wide<T>;
  const Int row = blockIdx.x;
  for (Int i = threadIdx.x * V; i < in.width; i += blockDim.x * V) {
    W g[V], u[V];
    load_pairs<V, kStep>(in.gate + row * in.stride, in.up + row * in.stride, i, g, u);
    const auto d = load<V>(dh + row * in.width + i);
    Pack<T, V> dg, du;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const auto a = gated<kind>(g[v], u[v], alpha, limit);
      put(dg.v[v], wide(d.v[v]) * a.factor * a.slope);
      put(du.v[v], wide(d.v[v]) * a.activation * a.factor_slope);
    }
    if constexpr (kStep == 1) {
      store<V>(out.gate + row * out.stride + i, dg);
      store<V>(out.up + row * out.stride + i, du);
    } else {
      Pack<T, 2 * V> both;
#pragma unroll
      for (int v = 0; v < V; ++v) both.v[2 * v] = dg.v[v], both.v[2 * v + 1] = du.v[v];
      store<2 * V>(out.gate + row * out.stride + 2 * i, both);
    }
  }
}

/// The sum and largest element so far, the sum relative to that.
template <class W>
struct Running {
  W largest, sum;
};

template <class W>
__device__ Running<W> joined(Running<W> a, Running<W> b) {
  const W largest = a.largest > b.largest || a.largest != a.largest ? a.largest : b.largest;
  const W fall_a = a.sum == 0 ? W(0) : a.sum * exponential(a.largest - largest);
  const W fall_b = b.sum == 0 ? W(0) : b.sum * exponential(b.largest - largest);
  return {largest, fall_a + fall_b};
}

template <class T, int V>
__global__ void cross_entropy_rows(T* __restrict__ z, Int width, const Int* __restrict__ target, bool gradient,
                                   Wide<T> factor, Wide<T>* __restrict__ loss) {
  using W = Wide<T>;
  T* row = z + blockIdx.x * width;
  const Int right = target[blockIdx.x];
  if (right < 0 || right >= width) __trap();
  const W hit = wide(row[right]);
  Running<W> mine{-infinity<W>(), W(0)};
  for (Int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto a = load<V>(row + i);
    W largest = wide(a.v[0]);
#pragma unroll
    for (int v = 1; v < V; ++v) largest = wide(a.v[v]) > largest ? wide(a.v[v]) : largest;
    largest = largest > mine.largest ? largest : mine.largest;
    W sum = mine.sum == 0 ? W(0) : mine.sum * exponential(mine.largest - largest);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += exponential(wide(a.v[v]) - largest);
    mine = {largest, sum};
  }
  __shared__ Running<W> warps[32];
  for (int o = 16; o > 0; o /= 2)
    mine = joined(mine, Running<W>{__shfl_xor_sync(~0U, mine.largest, o), __shfl_xor_sync(~0U, mine.sum, o)});
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  Running<W> all = warps[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) all = joined(all, warps[warp]);
  if (threadIdx.x == 0) loss[blockIdx.x] = all.largest + logarithm(all.sum) - hit;
  if (!gradient) return;
  const W share = factor / all.sum;
  for (Int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto a = load<V>(row + i);
    Pack<T, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const W p = exponential(wide(a.v[v]) - all.largest) * share;
      put(out.v[v], i + v == right ? p - factor : p);
    }
    store<V>(row + i, out);
  }
}

/// The host's side: chooses the width of loads and launches.
template <class T>
struct Launch {
  using W = Wide<T>;
  static constexpr int kPack = 16 / sizeof(T);

  template <class... Pointers>
  static bool packed(Int width, Int stride, const Pointers*... pointers) {
    return width % kPack == 0 && stride % kPack == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
  }
  template <class F>
  static void with_pack(bool whole, const F& f) {
    if (whole) return f(std::integral_constant<int, kPack>());
    f(std::integral_constant<int, 1>());
  }
  static unsigned blocks(Int count) { return checked_blocks(count); }

  static void norm(const T* x, Int stride, const W* gain, W eps, T* y, W* r, Int rows, Int width, CudaStream stream) {
    if (rows == 0) return;
    with_pack(packed(width, stride, x, gain, y), [&](auto v) {
      norm_rows<T, v>
          <<<blocks(rows), threads_for((width + v - 1) / v), 0, stream_of(stream)>>>(x, stride, gain, eps, y, r, width);
    });
    check_launch("norm");
  }

  static void norm_backward(const T* x, Int stride, const W* r, const W* gain, const T* dy, T* dx, W* dgain, Int rows,
                            Int width, CudaStream stream) {
    const unsigned grid = blocks(pieces_of(rows, width));
    with_pack(packed(width, stride, x, gain, dy, dx), [&](auto v) {
      const Int packs = (width + v - 1) / v;
      const int threads = threads_for(packs);
      const auto with_items = [&](auto items) {
        norm_rows_backward<T, v, items>
            <<<grid, threads, 0, stream_of(stream)>>>(x, stride, r, gain, dy, dx, dgain, rows, width);
      };
      if (packs <= threads) return with_items(std::integral_constant<int, 1>());
      if (packs <= 2 * threads) return with_items(std::integral_constant<int, 2>());
      with_items(std::integral_constant<int, kMostItems>());
    });
    check_launch("norm_backward");
  }

  /// The widest pack of which 32 lanes cover half a head in one pass.
  template <class F>
  static void with_half(Int half, bool aligned, const F& f) {
    if (aligned && half > 64) return f(std::integral_constant<int, 4>());
    if (aligned && half > 32) return f(std::integral_constant<int, 2>());
    f(std::integral_constant<int, 1>());
  }
  static bool turns(Int C, Int stride) { return C <= 64 || (C <= 256 && C % 8 == 0 && stride % 4 == 0); }

  static void rotate(const T* x, Int stride, const W* gain, W eps, const Rotation<W>& rotation, T* y, W* r, Int rows,
                     CudaStream stream) {
    if (rows == 0) return;
    const Int half = rotation.C / 2;
    const dim3 threads(32, kHeadWarps);
    const unsigned grid = blocks((rows * rotation.heads + kHeadWarps - 1) / kHeadWarps);
    with_half(half, turns(rotation.C, stride) && packed(kPack, kPack, x, y), [&](auto v) {
      if (gain)
        rotate_heads<T, v, true><<<grid, threads, 0, stream_of(stream)>>>(x, stride, gain, eps, rotation, y, r, rows);
      else
        rotate_heads<T, v, false><<<grid, threads, 0, stream_of(stream)>>>(x, stride, gain, eps, rotation, y, r, rows);
    });
    check_launch("rotate");
  }

  static void rotate_backward(const T* x, Int stride, const W* gain, const W* r, const Rotation<W>& rotation, const T* dy,
                              T* dx, W* dgain, Int rows, CudaStream stream) {
    if (rows == 0) return;
    const Int half = rotation.C / 2, all = rows * rotation.heads;
    const dim3 threads(32, kHeadWarps);
    const bool aligned = half > 32;  // see turns()
    const auto launch = [&](auto v) {
      if (gain)
        rotate_heads_backward<T, v, true><<<blocks(pieces_of(all, rotation.C)), threads, 0, stream_of(stream)>>>(
            x, stride, gain, r, rotation, dy, dx, dgain, rows);
      else
        rotate_heads_backward<T, v, false><<<blocks((all + kHeadWarps - 1) / kHeadWarps), threads, 0, stream_of(stream)>>>(
            x, stride, gain, r, rotation, dy, dx, dgain, rows);
    };
    with_half(half, aligned, launch);
    check_launch("rotate_backward");
  }

  template <Gate kind, class F>
  static void with_pairs(Int step, bool whole, const F& f) {
    constexpr auto k = std::integral_constant<Gate, kind>();
    if (step == 2) {
      if (whole) return f(k, std::integral_constant<int, kPack / 2>(), std::integral_constant<int, 2>());
      return f(k, std::integral_constant<int, 1>(), std::integral_constant<int, 2>());
    }
    if (whole) return f(k, std::integral_constant<int, kPack>(), std::integral_constant<int, 1>());
    f(k, std::integral_constant<int, 1>(), std::integral_constant<int, 1>());
  }
  template <class F>
  static void with_form(Gate kind, Int step, bool whole, const F& f) {
    if (kind == Gate::silu) return with_pairs<Gate::silu>(step, whole, f);
    if (kind == Gate::gelu_tanh) return with_pairs<Gate::gelu_tanh>(step, whole, f);
    with_pairs<Gate::clamped>(step, whole, f);
  }

  static void gate(const GateForm& form, const GateRows<const T>& in, T* h, Int rows, CudaStream stream) {
    if (rows == 0) return;
    const bool whole = packed(in.width, in.stride, in.gate, in.step == 2 ? in.gate : in.up, h);
    with_form(form.kind, in.step, whole, [&](auto kind, auto v, auto step) {
      gate_rows<T, kind, v, step><<<blocks(rows), threads_for((in.width + v - 1) / v), 0, stream_of(stream)>>>(
          static_cast<W>(form.alpha), static_cast<W>(form.limit), in, h);
    });
    check_launch("gate");
  }

  static void gate_backward(const GateForm& form, const GateRows<const T>& in, const T* dh, const GateRows<T>& out, Int rows,
                            CudaStream stream) {
    if (rows == 0) return;
    const bool whole = packed(in.width, in.stride, in.gate, in.step == 2 ? in.gate : in.up, dh) &&
                       packed(in.width, out.stride, out.gate, in.step == 2 ? out.gate : out.up);
    with_form(form.kind, in.step, whole, [&](auto kind, auto v, auto step) {
      gate_rows_backward<T, kind, v, step><<<blocks(rows), threads_for((in.width + v - 1) / v), 0, stream_of(stream)>>>(
          static_cast<W>(form.alpha), static_cast<W>(form.limit), in, dh, out);
    });
    check_launch("gate_backward");
  }

  static void cross_entropy(T* z, Int width, const Int* target, bool gradient, W factor, W* loss, Int rows,
                            CudaStream stream) {
    if (rows == 0) return;
    with_pack(packed(width, width, z), [&](auto v) {
      cross_entropy_rows<T, v><<<blocks(rows), threads_for((width + v - 1) / v), 0, stream_of(stream)>>>(
          z, width, target, gradient, factor, loss);
    });
    check_launch("cross_entropy");
  }

  static constexpr CudaRowKernels<T> table = {
      kMostItems * kMostThreads, turns, pieces_of,     norm,         norm_backward, rotate,
      rotate_backward,           gate,  gate_backward, cross_entropy};
};

}  // namespace

template <>
const CudaRowKernels<float>* cuda_row_kernels<float>() {
  return &Launch<float>::table;
}
template <>
const CudaRowKernels<double>* cuda_row_kernels<double>() {
  return &Launch<double>::table;
}
template <>
const CudaRowKernels<Bf16>* cuda_row_kernels<Bf16>() {
  return &Launch<Bf16>::table;
}

}  // namespace equisweep
