// Shapes: B batch, T time, H query heads, G key/value heads, C head width. A task is one key/value head of one sequence with
// all the query heads that read it, so that its keys, values and their gradients stay with one thread.
#include "models/blocks/fused_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/tiles.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Int = std::int64_t;

/// Queries a tile: enough for the products to be efficient, few enough to leave out much of what the mask hides.
constexpr Int kQueries = 64, kQueriesOfShortWindow = 32;

/// [B, T, heads, C] with adjacent elements in a head.
template <class T>
struct Heads {
  explicit Heads(const at::Tensor& x) : data(elements<T>(x)), batch(x.stride(0)), time(x.stride(1)), head(x.stride(2)) {}
  T* at(Int b, Int t, Int h) const { return data + b * batch + t * time + h * head; }
  T* data;
  Int batch, time, head;
};

at::Tensor adjacent(const at::Tensor& x) { return x.stride(3) == 1 || x.size(3) == 1 ? x : x.contiguous(); }

struct Sizes {
  Int B, T, H, G, C, window;

  /// f(tile) for the tiles of one head.
  template <class F>
  void over_tiles(const F& f) const {
    const Int step = window > 0 && window <= kQueriesOfShortWindow ? kQueriesOfShortWindow : kQueries;
    for (Int query = 0; query < T; query += step) {
      const Int rows = std::min(step, T - query), first = window > 0 ? std::max<Int>(0, query - window + 1) : 0;
      const Int key = first / 16 * 16;
      f(Tile{query, key, rows, query + rows - key, window});
    }
  }
  Int largest_tile() const { return std::min(kQueries, T) * T; }
};

template <class E>
void forward_task(const Sizes& z, Int b, Int g, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const Wide<E>* sinks, Wide<E> scale, const at::Tensor& y, const at::Tensor& lse) {
  using W = Wide<E>;
  const Heads<const E> Q(q), K(k), V(v);
  const Heads<E> Y(y);
  const Scratch<W> scores(z.largest_tile());
  const Scratch<E> narrow(std::is_same_v<E, W> ? 0 : z.largest_tile());
  E* p = narrow.get();
  if constexpr (std::is_same_v<E, W>) p = scores.get();
  for (Int h = g * (z.H / z.G); h < (g + 1) * (z.H / z.G); ++h) {
    z.over_tiles([&](const Tile& tile) {
      multiply(false, true, tile.rows, tile.columns, z.C, Q.at(b, tile.query, h), Q.time, K.at(b, tile.key, g), K.time,
               scores.get(), tile.columns);
      row_kernels<E>().softmax(scores.get(), tile.columns, tile, scale, sinks ? sinks + h : nullptr, p,
                               elements<W>(lse) + (b * z.H + h) * z.T + tile.query);
      multiply(false, false, tile.rows, z.C, tile.columns, static_cast<const E*>(p), tile.columns, V.at(b, tile.key, g),
               V.time, Y.at(b, tile.query, h), Y.time);
    });
  }
}

struct Gradients {
  at::Tensor q, k, v, sinks_BH;
};

template <class E>
void backward_task(const Sizes& z, Int b, Int g, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                   const Wide<E>* sinks, Wide<E> scale, const at::Tensor& lse, const at::Tensor& dy, const Gradients& out) {
  using W = Wide<E>;
  const Heads<const E> Q(q), K(k), V(v), DY(dy);
  const Heads<E> DQ(out.q), DK(out.k), DV(out.v);
  const Int largest = z.largest_tile(), all = z.T * z.C;
  const Scratch<W> scratch(2 * largest + 2 * all);
  W *const scores = scratch.get(), *const dp = scores + largest, *const dk = dp + largest, *const dv = dk + all;
  const Scratch<E> narrow(std::is_same_v<E, W> ? 0 : 2 * largest);
  E *p = narrow.get(), *ds = p + largest;
  if constexpr (std::is_same_v<E, W>) p = scores, ds = dp;
  std::fill_n(dk, 2 * all, W(0));
  for (Int h = g * (z.H / z.G); h < (g + 1) * (z.H / z.G); ++h) {
    const W* const sink = sinks ? sinks + h : nullptr;
    W dsink = 0;
    z.over_tiles([&](const Tile& tile) {
      const Int rows = tile.rows, columns = tile.columns, from = tile.key * z.C;
      const E *const query = Q.at(b, tile.query, h), *const dout = DY.at(b, tile.query, h);
      multiply(false, true, rows, columns, z.C, query, Q.time, K.at(b, tile.key, g), K.time, scores, columns);
      multiply(false, true, rows, columns, z.C, dout, DY.time, V.at(b, tile.key, g), V.time, dp, columns);
      dsink += row_kernels<E>().softmax_backward(scores, dp, columns, tile, scale, sink,
                                                 elements<W>(lse) + (b * z.H + h) * z.T + tile.query, p, ds);
      const E *const p_in = p, *const ds_in = ds;
      multiply(true, false, columns, z.C, rows, p_in, columns, dout, DY.time, dv + from, z.C, true);
      multiply(true, false, columns, z.C, rows, ds_in, columns, query, Q.time, dk + from, z.C, true);
      multiply(false, false, rows, z.C, columns, ds_in, columns, K.at(b, tile.key, g), K.time, DQ.at(b, tile.query, h),
               DQ.time);
    });
    if (out.sinks_BH.defined()) elements<W>(out.sinks_BH)[b * z.H + h] = dsink;
  }
  for (Int t = 0; t < z.T; ++t) {
    row_kernels<E>().round(dk + t * z.C, DK.at(b, t, g), z.C);
    row_kernels<E>().round(dv + t * z.C, DV.at(b, t, g), z.C);
  }
}

/// Whether the kernels of tile_attention.h serve these heads.
bool on_tiles(const at::Tensor& q, double scale) {
  return (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kFloat) && q.size(3) % 32 == 0 && scale > 0 &&
         with_tile_element(q, []<class E>() { return tile_attention<E>() != nullptr; });
}

/// The heads of one group of one sequence; `peak_and_share` [2, B, H, T].
template <class E>
TileAttention<E> tile_task(const Sizes& z, Int b, Int g, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const float* sinks, double scale, const at::Tensor& peak_and_share) {
  const Int R = z.H / z.G, h = g * R;
  const Heads<const E> Q(q), K(k), V(v);
  float* const peak = elements<float>(peak_and_share) + (b * z.H + h) * z.T;
  return {z.T,
          z.C,
          R,
          z.window,
          static_cast<float>(scale),
          {Q.at(b, 0, h), Q.time, Q.head},
          {K.at(b, 0, g), K.time, 0},
          {V.at(b, 0, g), V.time, 0},
          sinks ? sinks + h : nullptr,
          peak,
          peak + z.B * z.H * z.T};
}

/// The rows of a tensor [B, T, heads, C] from head h of sequence b on.
template <class T>
HeadRows<T> rows_from(const at::Tensor& x, Int b, Int h) {
  const Heads<T> heads(x);
  return {heads.at(b, 0, h), heads.time, heads.head};
}

struct FusedAttention : torch::autograd::Function<FusedAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q_any, const at::Tensor& k_any, const at::Tensor& v_any,
                            const std::optional<at::Tensor>& sinks_or, double scale, Int window) {
    const at::Tensor q = adjacent(q_any), k = adjacent(k_any), v = adjacent(v_any);
    const at::Tensor sinks_H = sinks_or.value_or(at::Tensor());
    const Sizes z{q.size(0), q.size(1), q.size(2), k.size(2), q.size(3), window};
    const at::Tensor y = at::empty(q.sizes(), q.options());
    const at::TensorOptions wide = q.options().dtype(at_least_float(q.scalar_type()));
    const at::Tensor sinks = sinks_H.defined() ? sinks_H.to(at_least_float(q.scalar_type())).contiguous() : at::Tensor();
    // What the backward pass needs to compute the probabilities again.
    at::Tensor lse;
    if (on_tiles(q, scale)) {
      lse = at::empty({2, z.B, z.H, z.T}, wide);
      with_tile_element(q, [&]<class E>() {
        const TileAttentionKernels<E>& kernels = *tile_attention<E>();
        over_tasks(z.B * z.G, [&](Int task) {
          const Int b = task / z.G, g = task % z.G;
          const Scratch<char> scratch(kernels.scratch_bytes(z.T, z.C));
          kernels.forward(tile_task<E>(z, b, g, q, k, v, elements<float>(sinks), scale, lse),
                          rows_from<E>(y, b, g * (z.H / z.G)), scratch.get());
        });
      });
    } else {
      lse = at::empty({z.B, z.H, z.T}, wide);
      with_element(q.scalar_type(), [&]<class E>() {
        over_tasks(z.B * z.G, [&](Int task) {
          forward_task<E>(z, task / z.G, task % z.G, q, k, v, elements<Wide<E>>(sinks), static_cast<Wide<E>>(scale), y, lse);
        });
      });
    }
    ctx->save_for_backward({q, k, v, sinks, lse});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["window"] = window;
    if (sinks.defined()) ctx->saved_data["sink_type"] = sinks_H.scalar_type();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &sinks = saved[3], &lse = saved[4];
    const at::Tensor dy = adjacent(dys[0]);
    const Sizes z{q.size(0), q.size(1), q.size(2), k.size(2), q.size(3), ctx->saved_data["window"].toInt()};
    const double scale = ctx->saved_data["scale"].toDouble();
    const Gradients out{at::empty(q.sizes(), q.options()), at::empty(k.sizes(), k.options()),
                        at::empty(v.sizes(), v.options()),
                        sinks.defined() ? at::empty({z.B, z.H}, lse.options()) : at::Tensor()};
    if (on_tiles(q, scale)) {
      with_tile_element(q, [&]<class E>() {
        const TileAttentionKernels<E>& kernels = *tile_attention<E>();
        over_tasks(z.B * z.G, [&](Int task) {
          const Int b = task / z.G, g = task % z.G, h = g * (z.H / z.G);
          const Scratch<char> scratch(kernels.scratch_bytes(z.T, z.C));
          kernels.backward(tile_task<E>(z, b, g, q, k, v, elements<float>(sinks), scale, lse), rows_from<const E>(dy, b, h),
                           rows_from<E>(out.q, b, h), rows_from<E>(out.k, b, g), rows_from<E>(out.v, b, g),
                           sinks.defined() ? elements<float>(out.sinks_BH) + b * z.H + h : nullptr, scratch.get());
        });
      });
    } else {
      with_element(q.scalar_type(), [&]<class E>() {
        over_tasks(z.B * z.G, [&](Int task) {
          backward_task<E>(z, task / z.G, task % z.G, q, k, v, elements<Wide<E>>(sinks), static_cast<Wide<E>>(scale), lse,
                           dy, out);
        });
      });
    }
    at::Tensor dsinks;
    if (sinks.defined()) dsinks = out.sinks_BH.sum(0).to(ctx->saved_data["sink_type"].toScalarType());
    return {out.q, out.k, out.v, dsinks, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor fused_attention(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                           std::int64_t window, const at::Tensor& sinks_H) {
  return FusedAttention::apply(q_BTHC, k_BTGC, v_BTGC, optional(sinks_H), scale, window);
}

}  // namespace equisweep
