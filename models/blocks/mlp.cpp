#include "models/blocks/mlp.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/device_linear.h"
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
      if (gate.is_cuda()) {
        cuda_row_kernels<T>()->gate({static_cast<Gate>(kind)}, rows_of<const T>(gate, up, 0), elements<T>(h),
                                    gate.numel() / width, CudaQueue(gate));
        return;
      }
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
      if (gate.is_cuda()) {
        cuda_row_kernels<T>()->gate_backward({kind}, rows_of<const T>(gate, up, 0), elements<T>(dh),
                                             rows_of<T>(dgate, dup, 0), gate.numel() / width, CudaQueue(gate));
        return;
      }
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

/// The same on a GPU for gate and up in one tensor.
struct JointGateFunction : torch::autograd::Function<JointGateFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate_up, std::int64_t kind,
                            double alpha, double limit, bool interleaved) {
    std::vector<std::int64_t> shape = gate_up.sizes().vec();
    shape.back() /= 2;
    const at::Tensor h = at::empty(shape, gate_up.options());
    with_element(h.scalar_type(), [&]<class T>() {
      cuda_row_kernels<T>()->gate({static_cast<Gate>(kind), alpha, limit}, rows_of<const T>(gate_up, interleaved),
                                  elements<T>(h), h.numel() / h.size(-1), CudaQueue(h));
    });
    ctx->save_for_backward({gate_up});
    ctx->saved_data["form"] = std::vector<double>{static_cast<double>(kind), alpha, limit};
    ctx->saved_data["interleaved"] = interleaved;
    return h;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dhs) {
    const at::Tensor gate_up = ctx->get_saved_variables()[0], dh = dhs[0].contiguous(), out = at::empty_like(gate_up);
    const auto form = ctx->saved_data["form"].toDoubleVector();
    const bool interleaved = ctx->saved_data["interleaved"].toBool();
    with_element(dh.scalar_type(), [&]<class T>() {
      cuda_row_kernels<T>()->gate_backward({static_cast<Gate>(static_cast<int>(form[0])), form[1], form[2]},
                                           rows_of<const T>(gate_up, interleaved), elements<T>(dh),
                                           rows_of<T>(out, interleaved), dh.numel() / dh.size(-1), CudaQueue(dh));
    });
    return {out, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
  template <class T>
  static GateRows<T> rows_of(const at::Tensor& joint, bool interleaved) {
    const auto width = joint.size(-1) / 2;
    return {elements<T>(joint), elements<T>(joint) + (interleaved ? 1 : width), 2 * width, interleaved ? 2 : 1, width};
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
  if (device_linear_serves(x_BTD, {gate_.weight(), up_.weight()}))
    return down_(gated_joint(device_linear(around.input(x_BTD), {gate_.weight(), up_.weight()}), {.kind = kind_}, false),
                 around.residual);
  const auto gate_up = joint(x_BTD, {&gate_, &up_}, around.norm);
  return down_(gated(gate_up[0], gate_up[1], kind_), around.residual);
}

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, Gate kind) {
  if (fusable(gate) || cuda_fusable(gate))
    return GatedFunction::apply(gate.contiguous(), up.contiguous(), static_cast<std::int64_t>(kind));
  return (kind == Gate::silu ? at::silu(gate) : at::gelu(gate, "tanh")) * up;
}

at::Tensor gated_joint(const at::Tensor& gate_up, const GateForm& form, bool interleaved) {
  if (cuda_fusable(gate_up))
    return JointGateFunction::apply(for_wide_loads(gate_up), static_cast<std::int64_t>(form.kind), form.alpha, form.limit,
                                    interleaved);
  const auto halves =
      interleaved ? std::vector{gate_up.slice(-1, 0, {}, 2), gate_up.slice(-1, 1, {}, 2)} : gate_up.chunk(2, -1);
  if (form.kind != Gate::clamped) return gated(halves[0], halves[1], form.kind);
  const at::Tensor gate = halves[0].clamp_max(form.limit), up = halves[1].clamp(-form.limit, form.limit);
  return (up + 1) * (gate * at::sigmoid(gate * form.alpha));
}

}  // namespace equisweep
