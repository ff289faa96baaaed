// Shapes: D width, F width between the products.
#include "models/blocks/tile_mlp.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/weight_gradients.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Int = std::int64_t;

template <class T>
struct TileMlp : torch::autograd::Function<TileMlp<T>> {
  /// `plus_x`: the residual is x itself, whose two gradients are then added here.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& gate_any, const at::Tensor& up_any,
                            const at::Tensor& down_any, Int kind, const std::optional<at::Tensor>& gain, double eps,
                            double offset, const std::optional<at::Tensor>& residual_or, bool plus_x) {
    const InputRows<T> in(x, scale_of(gain, offset), eps);
    Int residual_stride = in.stride;
    at::Tensor residual = plus_x ? in.x : at::Tensor();
    if (residual_or) residual = uniform_rows(*residual_or, residual_stride);
    const at::Tensor gate = gate_any.contiguous(), up = up_any.contiguous(), down = down_any.contiguous();
    const Int D = in.width, F = gate.size(0);
    const at::Tensor g = at::empty({in.rows, F}, x.options()), u = at::empty_like(g), y = at::empty(x.sizes(), x.options());
    const Panels<T> gate_panels(gate, true), up_panels(up, true), down_panels(down, true);
    const TileKernels<T>& kernels = *tile_kernels<T>();
    over_row_blocks(in.rows, block_rows<T>(F), [&](Int begin, Int n) {
      float r[kBlockRows];
      std::optional<Scratch<T>> spare;
      const Rows<T> rows = in.block(begin, n, spare, r);
      const LeftFactor<T> factor(rows.data, rows.stride, n, D);
      const TileTerm to_gate = factor.times(gate_panels.get()), to_up = factor.times(up_panels.get());
      const Scratch<T> h(n * F);
      T *const g_rows = elements<T>(g) + begin * F, *const u_rows = elements<T>(u) + begin * F;
      kernels.rows(n, F, &to_gate, 1, {g_rows, F, nullptr, nullptr, 0});
      kernels.rows(n, F, &to_up, 1, {u_rows, F, nullptr, nullptr, 0});
      row_kernels<T>().gate({static_cast<Gate>(kind)}, {g_rows, u_rows, F, 1, F}, nullptr, nullptr, h.get(), n);
      const T* const add = residual.defined() ? elements<const T>(residual) + begin * residual_stride : nullptr;
      const LeftFactor<T> hidden(h.get(), F, n, F);
      const TileTerm to_y = hidden.times(down_panels.get());
      kernels.rows(n, D, &to_y, 1, {elements<T>(y) + begin * D, D, nullptr, add, residual_stride});
    });
    ctx->save_for_backward({in.x, in.scale, gate, up, down, g, u});
    ctx->saved_data["kind"] = kind;
    ctx->saved_data["eps"] = eps;
    if (gain) ctx->saved_data["gain_type"] = gain->scalar_type();
    ctx->saved_data["residual"] = residual_or.has_value();
    ctx->saved_data["plus_x"] = plus_x;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const InputRows<T> in(saved[0], saved[1], ctx->saved_data["eps"].toDouble());
    const at::Tensor &gate = saved[2], &up = saved[3], &down = saved[4], &g = saved[5], &u = saved[6];
    const at::Tensor dy = dys[0].contiguous(), dx = at::empty(in.x.sizes(), in.x.options());
    const GateForm form{static_cast<Gate>(ctx->saved_data["kind"].toInt())};
    const at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up), ddown = at::empty_like(down);
    const Int D = in.width, F = gate.size(0);
    const Panels<T> gate_panels(gate, false), up_panels(up, false), down_panels(down, false);
    const RowPieces pieces(in.rows);
    // [D, F] for all three, so that only the narrow x and dy are transposed.
    const WeightGradients<T> sums(pieces, {D, D}, {F, F, F}, true,
                                  {{dgate, true, 0, 0}, {dup, true, 0, 1}, {ddown, false, 1, 2}});
    const bool plus_x = ctx->saved_data["plus_x"].toBool(), normed = in.scale.defined();
    const at::Tensor dscale = at::zeros({pieces.count, normed ? D : 0}, in.x.options().dtype(at::kFloat));
    const TileKernels<T>& kernels = *tile_kernels<T>();
    pieces.over_blocks(block_rows<T>(F), [&](const RowBlock& block) {
      const Int begin = block.begin, n = block.rows;
      float r[kBlockRows];
      std::optional<Scratch<T>> spare;
      const Rows<T> rows = in.block(begin, n, spare, r);
      const T* const dy_rows = elements<const T>(dy) + begin * D;
      const Scratch<T> dh(n * F), h(n * F), dg(n * F), du(n * F), dnormed(normed ? n * D : 0);
      const LeftFactor<T> dout(dy_rows, D, n, D);
      const TileTerm to_h = dout.times(down_panels.get());
      kernels.rows(n, F, &to_h, 1, {dh.get(), F, nullptr, nullptr, 0});
      row_kernels<T>().gate_backward(form, {elements<const T>(g) + begin * F, elements<const T>(u) + begin * F, F, 1, F},
                                     nullptr, nullptr, dh.get(), nullptr, {dg.get(), du.get(), F, 1, F}, h.get(), nullptr,
                                     n);
      const LeftFactor<T> dgates(dg.get(), F, n, F), dups(du.get(), F, n, F);
      const TileTerm to_x[] = {dgates.times(gate_panels.get()), dups.times(up_panels.get())};
      T* const dx_rows = elements<T>(dx) + begin * D;
      T* const dblock = normed ? dnormed.get() : dx_rows;
      kernels.rows(n, D, to_x, 2, {dblock, D, nullptr, nullptr, 0});
      in.backward(begin, n, r, dblock, plus_x ? dy_rows : nullptr, dx_rows, elements<float>(dscale) + block.piece * D);
      const auto operands = sums.operands(block);
      operands.hold(0, rows.data, rows.stride);
      operands.hold(1, dy_rows, D);
      operands.pass(0, dg.get(), F);
      operands.pass(1, du.get(), F);
      operands.pass(2, h.get(), F);
    });
    sums.finish();
    const at::Tensor none, dgain = normed ? dscale.sum(0).to(ctx->saved_data["gain_type"].toScalarType()) : none;
    return {dx, dgate, dup, ddown, none, dgain, none, none, ctx->saved_data["residual"].toBool() ? dy : none, none};
  }
};

}  // namespace

at::Tensor tile_mlp(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down, Gate kind,
                    const Around& around) {
  const RmsNorm* const norm = around.norm;
  const bool plus_x = around.residual.is_same(x);
  return with_tile_element(x, [&]<class T>() {
    return TileMlp<T>::apply(x, gate, up, down, static_cast<Int>(kind), norm ? optional(norm->gain()) : std::nullopt,
                             norm ? norm->eps() : 0.0, norm ? norm->offset() : 0.0,
                             plus_x ? std::nullopt : optional(around.residual), plus_x);
  });
}

}  // namespace equisweep
