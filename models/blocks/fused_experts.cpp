// Shapes: N tokens, D width, E experts, K experts a token, R expert width, S slots for the N K pairs of a token and one of
// its experts, sorted by expert; those of an expert begin at a multiple of 32, so that whole tiles of rows can be read.
#include "models/blocks/fused_experts.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/tiles.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Int = std::int64_t;

constexpr Int kTileRows = 256;

/// Some slots of one expert.
struct ExpertTile {
  Int expert, begin, rows;
};

struct Dispatch {
  at::Tensor slot_of_pair;        ///< [N K]
  at::Tensor pair_of_slot;        ///< [S]; not set where there is no pair
  std::vector<Int> begins, ends;  ///< [E]: slots of each expert

  Int slot_count() const { return pair_of_slot.numel(); }
  const Int* slots() const { return slot_of_pair.const_data_ptr<Int>(); }
  const Int* pairs() const { return pair_of_slot.const_data_ptr<Int>(); }
  std::vector<ExpertTile> tiles() const {
    std::vector<ExpertTile> out;
    for (std::size_t e = 0; e < begins.size(); ++e)
      for (Int begin = begins[e]; begin < ends[e]; begin += kTileRows)
        out.push_back({static_cast<Int>(e), begin, std::min(kTileRows, ends[e] - begin)});
    return out;
  }
};

/// A counting sort: pairs of one expert keep the order of the tokens.
Dispatch dispatch(const at::Tensor& experts_NK, Int E) {
  const at::Tensor experts = experts_NK.contiguous();
  const Int pairs = experts.numel();
  const Int* const expert = experts.const_data_ptr<Int>();
  Dispatch d{at::empty({pairs}, experts.options()), {}, std::vector<Int>(E), std::vector<Int>(E, 0)};
  for (Int p = 0; p < pairs; ++p) ++d.ends[expert[p]];
  Int slots = 0;
  for (Int e = 0; e < E; ++e) {
    d.begins[e] = slots;
    slots += (d.ends[e] + 31) / 32 * 32;
    d.ends[e] += d.begins[e];
  }
  d.pair_of_slot = at::empty({slots}, experts.options());
  std::vector<Int> next = d.begins;
  Int *const slot = elements<Int>(d.slot_of_pair), *const pair = elements<Int>(d.pair_of_slot);
  for (Int p = 0; p < pairs; ++p) pair[slot[p] = next[expert[p]]++] = p;
  return d;
}

/// op(W_e) [K, N] of every expert e as right-hand factors: W [E, K, N], or [E, N, K] with `transposed`. Where packed
/// products serve, the fp32 weights are packed once; else W has the type T.
template <class T>
class Factors {
 public:
  Factors(const at::Tensor& w, bool transposed, bool tiles)
      : transposed_(transposed),
        K_(w.size(transposed ? 2 : 1)),
        N_(w.size(transposed ? 1 : 2)),
        ld_(w.size(2)),
        weights_(tiles ? nullptr : elements<const T>(w)) {
    if constexpr (kTileElement<T>) {
      if (!tiles) return;
      panels_.emplace(w.numel());
      const auto* const from = elements<const float>(w);
      at::parallel_for(0, w.size(0), std::max<Int>(1, (Int{1} << 16) / (K_ * N_)), [&](Int begin, Int end) {
        for (Int e = begin; e < end; ++e)
          tile_kernels<T>()->pack(from + e * K_ * N_, ld_, transposed_, K_, N_, panels_->at(e * K_ * N_));
      });
    }
  }

  /// c [rows, N] = a op(W_e), a [rows, K]; with tiles, `a` is read up to the next multiple of 32 rows.
  void times(Int e, Int rows, const T* a, T* c) const {
    if constexpr (kTileElement<T>) {
      if (weights_ == nullptr) {
        const LeftFactor<T> factor(a, K_, rows, K_, true);
        const TileTerm term = factor.times(panels_->at(e * K_ * N_));
        return tile_kernels<T>()->rows(rows, N_, &term, 1, {c, N_, nullptr, nullptr, 0});
      }
    }
    multiply<T, T>(false, transposed_, rows, N_, K_, a, K_, weights_ + e * K_ * N_, ld_, c, N_);
  }

 private:
  bool transposed_;
  Int K_, N_, ld_;
  const T* weights_;
  std::optional<Packed<T>> panels_;
};

/// w [M, N] = X^T Y over the rows of X [.., M] and Y [.., N], some at a time.
template <class T>
class OuterProduct {
 public:
  OuterProduct(Int M, Int N, Wide<T>* w, bool tiles) : M_(M), N_(N), w_(w), tiles_(tiles), sum_(tiles ? M * N : 0) {
    if constexpr (kTileElement<T>) {
      if (tiles) operands_.emplace(kTileRows * (M + N));
    }
  }

  void add(Int rows, const T* x, const T* y) {
    if constexpr (kTileElement<T>) {
      if (tiles_) {
        const TileKernels<T>& kernels = *tile_kernels<T>();
        // The narrower side is the one to transpose.
        void *const narrow = operands_->at(0), *const wide = operands_->at(kTileRows * std::min(M_, N_));
        kernels.left(turned() ? y : x, std::min(M_, N_), rows, std::min(M_, N_), kTileRows, narrow);
        kernels.right(turned() ? x : y, std::max(M_, N_), rows, std::max(M_, N_), kTileRows, wide);
        kernels.add(std::min(M_, N_), std::max(M_, N_), rows, narrow, kTileRows, wide, kTileRows, sum_.get(), begun_);
        begun_ = true;
        return;
      }
    }
    multiply<T, Wide<T>>(true, false, M_, N_, rows, x, M_, y, N_, w_, N_, begun_);
    begun_ = true;
  }

  /// Writes w, zero where there were no rows.
  void finish() {
    if (!begun_) {
      std::fill_n(w_, M_ * N_, Wide<T>(0));
      return;
    }
    if constexpr (kTileElement<T>) {
      const Int across = std::max(M_, N_) / 32;
      for (Int i = 0; tiles_ && i < M_ * N_ / 1024; ++i) {
        const Int narrow = i / across * 32, wide = i % across * 32;
        tile_kernels<T>()->finish(sum_.get() + 1024 * i, 1, 0, turned(),
                                  w_ + (turned() ? wide * N_ + narrow : narrow * N_ + wide), N_);
      }
    }
  }

 private:
  bool turned() const { return N_ < M_; }

  Int M_, N_;
  Wide<T>* w_;
  bool tiles_, begun_ = false;
  std::optional<Packed<T>> operands_;
  Scratch<float> sum_;
};

Int whole(Int rows) { return (rows + 31) / 32 * 32; }

/// What both passes know.
template <class T>
struct Experts {
  using W = Wide<T>;

  Int N, D, E, K, R;
  bool in_out, tiles;
  GateForm form;
  at::Tensor gate_up, down;
  const W *gate_up_bias, *down_bias;

  template <class Q>
  GateRows<Q> gate_rows(Q* joint) const {
    return {joint, joint + (in_out ? 1 : R), 2 * R, in_out ? 2 : 1, R};
  }
  const W* gate_bias(Int e) const { return gate_up_bias ? gate_up_bias + e * 2 * R : nullptr; }
  const W* up_bias(Int e) const { return gate_up_bias ? gate_bias(e) + (in_out ? 1 : R) : nullptr; }

  /// rows <- rows of x [N, D] for the slots of a tile.
  void gather(const T* x, const Int* pairs, const ExpertTile& tile, T* rows) const {
    for (Int i = 0; i < tile.rows; ++i) std::copy_n(x + pairs[tile.begin + i] / K * D, D, rows + i * D);
  }
};

template <class T>
Experts<T> make_experts(const at::Tensor& x, Int K, const at::Tensor& gate_up, const at::Tensor& gate_up_bias,
                        const at::Tensor& down, const at::Tensor& down_bias, bool in_out, bool tiles, const GateForm& form) {
  return {x.size(0), x.size(1), gate_up.size(0), K,    down.size(in_out ? 1 : 2),       in_out,
          tiles,     form,      gate_up,         down, elements<Wide<T>>(gate_up_bias), elements<Wide<T>>(down_bias)};
}

template <class T>
void experts_forward(const Experts<T>& m, const Dispatch& d, const T* x, const Wide<T>* shares, const Int* expert,
                     T* gate_up_S2R, T* y_ND) {
  using W = Wide<T>;
  const Scratch<T> out_S(d.slot_count() * m.D);
  const Factors<T> gate_up(m.gate_up, !m.in_out, m.tiles), down(m.down, !m.in_out, m.tiles);
  const auto tiles = d.tiles();
  over_tasks(static_cast<Int>(tiles.size()), [&](Int i) {
    const ExpertTile& tile = tiles[static_cast<std::size_t>(i)];
    const Scratch<T> scratch(whole(tile.rows) * (m.D + m.R));
    T *const rows = scratch.get(), *const h = rows + whole(tile.rows) * m.D,
             *const joint = gate_up_S2R + tile.begin * 2 * m.R;
    m.gather(x, d.pairs(), tile, rows);
    gate_up.times(tile.expert, tile.rows, rows, joint);
    row_kernels<T>().gate(m.form, m.template gate_rows<const T>(joint), m.gate_bias(tile.expert), m.up_bias(tile.expert), h,
                          tile.rows);
    down.times(tile.expert, tile.rows, h, out_S.get() + tile.begin * m.D);
  });
  over_rows(m.N, m.D * m.K, [&](Int begin, Int end) {
    std::vector<const W*> bias(static_cast<std::size_t>(m.K));
    for (Int n = begin; n < end; ++n) {
      if (m.down_bias)
        for (Int k = 0; k < m.K; ++k) bias[static_cast<std::size_t>(k)] = m.down_bias + expert[n * m.K + k] * m.D;
      row_kernels<T>().combine(out_S.get(), m.D, d.slots() + n * m.K, shares + n * m.K, m.down_bias ? bias.data() : nullptr,
                               m.K, y_ND + n * m.D);
    }
  });
}

template <class T>
struct ExpertGradients {
  using W = Wide<T>;
  T* x;
  W *shares, *gate_up, *gate_up_bias, *down, *down_bias;
};

template <class T>
void experts_backward(const Experts<T>& m, const Dispatch& d, const T* x, const Wide<T>* shares, const T* gate_up_S2R,
                      const T* dy_ND, const ExpertGradients<T>& out) {
  using W = Wide<T>;
  const Int S = d.slot_count(), R2 = 2 * m.R;
  const Scratch<T> buffer(S * (2 * m.D + 3 * m.R));
  T *const dout_SD = buffer.get(), *const dx_SD = dout_SD + S * m.D, *const dgate_up = dx_SD + S * m.D,
           *const h_SR = dgate_up + S * R2;
  const Factors<T> gate_up(m.gate_up, m.in_out, m.tiles), down(m.down, m.in_out, m.tiles);
  const auto tiles = d.tiles();
  over_tasks(static_cast<Int>(tiles.size()), [&](Int i) {
    const ExpertTile& tile = tiles[static_cast<std::size_t>(i)];
    const Int e = tile.expert;
    const Scratch<T> dh(tile.rows * m.R);
    const Scratch<W> weights(2 * tile.rows);
    W *const share = weights.get(), *const dshare = share + tile.rows;
    T* const dout = dout_SD + tile.begin * m.D;
    m.gather(dy_ND, d.pairs(), tile, dout);
    for (Int r = 0; r < tile.rows; ++r) share[r] = shares[d.pairs()[tile.begin + r]];
    down.times(e, tile.rows, dout, dh.get());
    T* const djoint = dgate_up + tile.begin * R2;
    row_kernels<T>().gate_backward(m.form, m.template gate_rows<const T>(gate_up_S2R + tile.begin * R2), m.gate_bias(e),
                                   m.up_bias(e), dh.get(), share, m.template gate_rows<T>(djoint), h_SR + tile.begin * m.R,
                                   dshare, tile.rows);
    for (Int r = 0; r < tile.rows; ++r) {
      const W* const bias = m.down_bias ? m.down_bias + e * m.D : nullptr;
      dshare[r] += row_kernels<T>().scale_row(dout + r * m.D, share[r], bias, dout + r * m.D, m.D);
      out.shares[d.pairs()[tile.begin + r]] = dshare[r];
    }
    gate_up.times(e, tile.rows, djoint, dx_SD + tile.begin * m.D);
  });
  // Gradients of the weights: two tasks an expert, each a sum over its tiles in order.
  over_tasks(2 * m.E, [&](Int task) {
    const Int e = task / 2, begin = d.begins[static_cast<std::size_t>(e)], end = d.ends[static_cast<std::size_t>(e)];
    const bool of_down = task % 2 == 1;
    W* const dw = of_down ? out.down + e * m.R * m.D : out.gate_up + e * R2 * m.D;
    W* const db = of_down ? (out.down_bias ? out.down_bias + e * m.D : nullptr)
                          : (out.gate_up_bias ? out.gate_up_bias + e * R2 : nullptr);
    const Int width = of_down ? m.D : R2, in_width = of_down ? m.R : m.D;
    const T* const gradients = of_down ? dout_SD : dgate_up;
    if (db) {
      std::fill_n(db, width, W(0));
      row_kernels<T>().add_rows(gradients + begin * width, end - begin, width, db);
    }
    const Scratch<T> gathered(of_down ? 0 : kTileRows * m.D);
    OuterProduct<T> product(m.in_out ? in_width : width, m.in_out ? width : in_width, dw, m.tiles);
    for (Int row = begin; row < end; row += kTileRows) {
      const ExpertTile tile{e, row, std::min(kTileRows, end - row)};
      if (!of_down) m.gather(x, d.pairs(), tile, gathered.get());
      const T* const in = of_down ? h_SR + row * m.R : gathered.get();
      const T* const gradient = gradients + row * width;
      product.add(tile.rows, m.in_out ? in : gradient, m.in_out ? gradient : in);
    }
    product.finish();
  });
  over_rows(m.N, m.D * m.K, [&](Int begin, Int end) {
    for (Int n = begin; n < end; ++n)
      row_kernels<T>().combine(dx_SD, m.D, d.slots() + n * m.K, nullptr, nullptr, m.K, out.x + n * m.D);
  });
}

/// Whether packed products serve these experts.
bool experts_on_tiles(const at::Tensor& x, const at::Tensor& gate_up, const at::Tensor& down) {
  return tiles_serve(x, {gate_up.select(0, 0), down.select(0, 0)});
}

struct FusedExperts : torch::autograd::Function<FusedExperts> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_any, const at::Tensor& shares_NK,
                            const at::Tensor& experts_NK, const at::Tensor& gate_up, const at::Tensor& down,
                            const std::optional<at::Tensor>& gate_up_bias, const std::optional<at::Tensor>& down_bias,
                            bool in_out, const GateForm& form) {
    const at::Tensor x = x_any.contiguous(), experts = experts_NK.contiguous();
    const at::ScalarType narrow = x.scalar_type(), wide = at_least_float(narrow);
    const auto to = [](const at::Tensor& t, at::ScalarType dtype) { return t.defined() ? t.to(dtype).contiguous() : t; };
    const bool tiles = experts_on_tiles(x, gate_up, down);
    const at::ScalarType stored = tiles ? at::kFloat : narrow;
    const at::Tensor shares = to(shares_NK, wide), wgu = to(gate_up, stored),
                     bgu = to(gate_up_bias.value_or(at::Tensor()), wide), wd = to(down, stored),
                     bd = to(down_bias.value_or(at::Tensor()), wide);
    const Dispatch d = dispatch(experts, gate_up.size(0));
    const at::Tensor joint = at::empty({d.slot_count(), gate_up.size(in_out ? 2 : 1)}, x.options());
    const at::Tensor y = at::empty_like(x);
    with_element(narrow, [&]<class T>() {
      const auto m = make_experts<T>(x, experts.size(1), wgu, bgu, wd, bd, in_out, tiles, form);
      experts_forward<T>(m, d, elements<T>(x), elements<Wide<T>>(shares), elements<Int>(experts), elements<T>(joint),
                         elements<T>(y));
    });
    ctx->save_for_backward({x, shares, wgu, bgu, wd, bd, joint, d.slot_of_pair, d.pair_of_slot});
    ctx->saved_data["begins"] = d.begins;
    ctx->saved_data["ends"] = d.ends;
    ctx->saved_data["in_out"] = in_out;
    ctx->saved_data["tiles"] = tiles;
    ctx->saved_data["gate"] = static_cast<Int>(form.kind);
    ctx->saved_data["alpha"] = form.alpha;
    ctx->saved_data["limit"] = form.limit;
    ctx->saved_data["share_type"] = shares_NK.scalar_type();
    ctx->saved_data["weight_type"] = gate_up.scalar_type();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &shares = saved[1], &wgu = saved[2], &bgu = saved[3], &wd = saved[4], &bd = saved[5],
                     &joint = saved[6], dy = dys[0].contiguous();
    const Dispatch d{saved[7], saved[8], ctx->saved_data["begins"].toIntVector(), ctx->saved_data["ends"].toIntVector()};
    const GateForm form{static_cast<Gate>(ctx->saved_data["gate"].toInt()), ctx->saved_data["alpha"].toDouble(),
                        ctx->saved_data["limit"].toDouble()};
    const bool in_out = ctx->saved_data["in_out"].toBool(), tiles = ctx->saved_data["tiles"].toBool();
    const auto wide_like = [&](const at::Tensor& t) {
      return t.defined() ? at::empty(t.sizes(), shares.options()) : at::Tensor();
    };
    const at::Tensor dx = at::empty_like(x), dshares = wide_like(shares), dwgu = wide_like(wgu), dbgu = wide_like(bgu),
                     dwd = wide_like(wd), dbd = wide_like(bd);
    with_element(x.scalar_type(), [&]<class T>() {
      using W = Wide<T>;
      const auto m = make_experts<T>(x, shares.size(1), wgu, bgu, wd, bd, in_out, tiles, form);
      experts_backward<T>(
          m, d, elements<T>(x), elements<W>(shares), elements<T>(joint), elements<T>(dy),
          {elements<T>(dx), elements<W>(dshares), elements<W>(dwgu), elements<W>(dbgu), elements<W>(dwd), elements<W>(dbd)});
    });
    const auto weight_type = ctx->saved_data["weight_type"].toScalarType();
    const auto to = [&](const at::Tensor& t) { return t.defined() ? t.to(weight_type) : t; };
    return {dx,           dshares.to(ctx->saved_data["share_type"].toScalarType()),
            at::Tensor(), to(dwgu),
            to(dwd),      to(dbgu),
            to(dbd),      at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor fused_experts(const at::Tensor& x_ND, const at::Tensor& shares_NK, const at::Tensor& experts_NK,
                         const ExpertWeights& w, const GateForm& form) {
  return FusedExperts::apply(x_ND, shares_NK, experts_NK, w.gate_up, w.down, optional(w.gate_up_bias), optional(w.down_bias),
                             w.in_out, form);
}

}  // namespace equisweep
