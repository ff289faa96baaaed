#pragma once
// Loops over rows, in one pass where separate operations take several. Plain pointers and one thread: the callers divide the
// rows. Each function is compiled for several instruction sets, and the machine's best is taken at run time.
//
// Element types T: float, double, Bf16. Arithmetic and sums are in Wide<T>: double for double, else float; results are
// rounded once. A stride is the distance of two rows in elements; the elements of a row are adjacent.

#include <cstdint>
#include <string_view>

#include "core/element.h"

namespace equisweep {

enum class Gate {
  silu,       ///< SwiGLU: g sigmoid(g) u
  gelu_tanh,  ///< GeGLU, tanh approximation: gelu(g) u
  clamped,    ///< gpt-oss: (clamp(u, -limit, limit) + 1) g' sigmoid(alpha g') with g' = min(g, limit)
};

/// Where gate and up of one row lie: gate[step i] and up[step i], i < width; rows `stride` elements apart. A joint product
/// has both in one row, as halves (step 1) or in turns (step 2, up = gate + 1).
template <class T>
struct GateRows {
  T* gate;
  T* up;
  std::int64_t stride, step, width;
};

struct GateForm {
  Gate kind = Gate::silu;
  double alpha = 1.702, limit = 7;  ///< clamped
};

/// What a rotation needs: rows of `heads` heads of width C = 2 half; row n stands at position n mod T; cos and sin [T,
/// half].
template <class W>
struct Rotation {
  const W* cos;
  const W* sin;
  std::int64_t T, heads, C;
};

/// What a causal tile of attention needs to know: rows are the queries from `query` on, columns the keys from `key` on; a
/// query sees the last `window` keys, its own included (0: all before it).
struct Tile {
  std::int64_t query, key, rows, columns, window;
};

template <class T>
struct RowKernels {
  using W = Wide<T>;
  using Int = std::int64_t;

  /// y = x r gain, r = (mean(x^2) + eps)^(-1/2). x rows `stride` apart; y [rows, width]; r [rows].
  void (*norm)(const T* x, Int stride, const W* gain, W eps, T* y, W* r, Int rows, Int width);
  /// dx [rows, width]; dgain [width] is added to.
  void (*norm_backward)(const T* x, Int stride, const W* r, const W* gain, const T* dy, T* dx, W* dgain, Int rows,
                        Int width);

  /// y = rotation(norm(x)) for rows first .. first + rows of x [.., heads C] `stride` apart; the norm runs over `width` =
  /// C (each head, gain [C]) or heads C (gain [heads C]) elements, and not at all where it is 0. y [.., heads C]; r, one for
  /// each norm. All pointers point to row 0.
  void (*rotate)(const T* x, Int stride, const W* gain, Int width, W eps, const Rotation<W>& rotation, T* y, W* r, Int first,
                 Int rows);
  /// dx [.., heads C]; dgain is added to; scratch [heads C].
  void (*rotate_backward)(const T* x, Int stride, const W* gain, Int width, const W* r, const Rotation<W>& rotation,
                          const T* dy, T* dx, W* dgain, W* scratch, Int first, Int rows);

  /// h [rows, width] = act(gate + bias_gate, up + bias_up); the biases (or null) lie as a row does.
  void (*gate)(const GateForm& form, const GateRows<const T>& in, const W* bias_gate, const W* bias_up, T* h, Int rows);
  /// dgate, dup = gradient of scale_row h for the gradient dh; h again where it is not null, and then share_row = sum(dh h)
  /// where that is not null. Without `scale`: 1.
  void (*gate_backward)(const GateForm& form, const GateRows<const T>& in, const W* bias_gate, const W* bias_up, const T* dh,
                        const W* scale, const GateRows<T>& out, T* h, W* share, Int rows);

  /// loss_row = logsumexp(z) - z[target]; with `gradient` z <- (softmax(z) - onehot(target)) factor.
  void (*cross_entropy)(T* z, Int width, const Int* target, bool gradient, W factor, W* loss, Int rows);

  /// p = softmax(scale s) over the keys that each query sees, and over the sink if there is one; zero elsewhere; lse: its
  /// logsumexp. s and p [rows, columns] with `stride`; s is overwritten, p may be s.
  void (*softmax)(W* s, Int stride, const Tile& tile, W scale, const W* sink, T* p, W* lse);
  /// p again from s and lse, and ds = scale p (dp - sum(dp p)), zero where a query does not see. Returns the gradient of the
  /// sink, 0 where there is none. p may be s and ds may be dp.
  W(*softmax_backward)
  (const W* s, const W* dp, Int stride, const Tile& tile, W scale, const W* sink, const W* lse, T* p, T* ds);

  /// y = sum over i of weight_i (x[row_i] + bias_i), i < count; weight null: 1; bias null: 0. x [.., width].
  void (*combine)(const T* x, Int width, const Int* row, const W* weight, const W* const* bias, Int count, T* y);
  /// y = factor x; returns sum(x bias), 0 without.
  W (*scale_row)(const T* x, W factor, const W* bias, T* y, Int width);
  /// sum [width] <- sum + the rows of x [rows, width].
  void (*add_rows)(const T* x, Int rows, Int width, W* sum);
  /// y = a rounded.
  void (*round)(const W* a, T* y, Int count);
  void (*widen)(const T* a, W* y, Int count);
  /// y = a + b rounded; y may be a.
  void (*sum)(const T* a, const T* b, T* y, Int count);
};

/// The functions for this machine (ATen's choice of instruction set, which ATEN_CPU_CAPABILITY can lower).
template <class T>
const RowKernels<T>& row_kernels();

/// Those of one instruction set; null where this program was built without.
template <class T>
const RowKernels<T>* row_kernels_default();
template <class T>
const RowKernels<T>* row_kernels_avx2();
template <class T>
const RowKernels<T>* row_kernels_avx512();
/// For machines with AVX512-BF16, too, where denormal numbers count as zero wherever they are rounded or squared.
const RowKernels<Bf16>* row_kernels_avx512_bf16();

}  // namespace equisweep
