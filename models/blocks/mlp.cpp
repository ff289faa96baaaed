#include "models/blocks/mlp.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/tile_linear.h"
#include "models/blocks/tile_mlp.h"
#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

/// act(gate) up, and both gradients, in one pass each; gate and up contiguous, of the same shape.
struct GatedFunction : torch::autograd::Function<GatedFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up,
                            std::int64_t kind) {
    const at::Tensor h = at::empty_like(gate);
    const auto width = gate.size(-1);
    with_element(gate.scalar_type(), [&]<class T>() {
      over_rows(gate.numel() / width, width, [&](std::int64_t begin, std::int64_t end) {
        row_kernels<T>().gate({static_cast<Gate>(kind)}, rows_of<const T>(gate, up, begin), nullptr, nullptr,
                              elements<T>(h) + begin * width, end - begin);
      });
    });
    ctx->save_for_backward({gate, up});
    ctx->saved_data["kind"] = kind;
    return h;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dhs) {
    const auto saved = ctx->get_saved_variables();
    const auto kind = static_cast<Gate>(ctx->saved_data["kind"].toInt());
    const at::Tensor &gate = saved[0], &up = saved[1], dh = dhs[0].contiguous();
    const at::Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    const auto width = gate.size(-1);
    with_element(gate.scalar_type(), [&]<class T>() {
      over_rows(gate.numel() / width, width, [&](std::int64_t begin, std::int64_t end) {
        row_kernels<T>().gate_backward({kind}, rows_of<const T>(gate, up, begin), nullptr, nullptr,
                                       elements<T>(dh) + begin * width, nullptr, rows_of<T>(dgate, dup, begin), nullptr,
                                       nullptr, end - begin);
      });
    });
    return {dgate, dup, at::Tensor()};
  }
  template <class T>
  static GateRows<T> rows_of(const at::Tensor& gate, const at::Tensor& up, std::int64_t row) {
    const auto width = gate.size(-1);
    return {elements<T>(gate) + row * width, elements<T>(up) + row * width, width, 1, width};
  }
};

}  // namespace

GatedMlp::GatedMlp(const Scope& scope, std::int64_t d, std::int64_t ff, Gate gate)
    : gate_(scope, "gate_proj", Role::mlp_gate, d, ff),
      up_(scope, "up_proj", Role::mlp_up, d, ff),
      down_(scope, "down_proj", Role::mlp_down, ff, d),
      kind_(gate) {}

at::Tensor GatedMlp::operator()(const at::Tensor& x_BTD, const Around& around) const {
  if (tile_linear_serves(x_BTD, {gate_.weight(), up_.weight(), down_.weight()}))
    return tile_mlp(x_BTD, gate_.weight(), up_.weight(), down_.weight(), kind_, around);
  const auto gate_up = joint(x_BTD, {&gate_, &up_}, around.norm);
  return down_(gated(gate_up[0], gate_up[1], kind_), around.residual);
}

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, Gate kind) {
  if (fusable(gate)) return GatedFunction::apply(gate.contiguous(), up.contiguous(), static_cast<std::int64_t>(kind));
  return (kind == Gate::silu ? at::silu(gate) : at::gelu(gate, "tanh")) * up;
}

}  // namespace equisweep
