#include "models/blocks/flash_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "core/cuda.h"
#include "core/kernels.h"
#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Keys to the left of a query's own that it sees; nothing: all.
std::optional<std::int64_t> keys_before(std::int64_t window) {
  return window > 0 ? std::make_optional(window - 1) : std::nullopt;
}
std::optional<std::int64_t> keys_behind(std::int64_t window) {
  return window > 0 ? std::make_optional<std::int64_t>(0) : std::nullopt;
}

struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& sinks_H, double scale, std::int64_t window) {
    auto [y, lse, seed, offset, _] =
        at::_flash_attention_forward(q, k, v, {}, {}, q.size(1), k.size(1), /*dropout_p=*/0.0, /*is_causal=*/true,
                                     /*return_debug_mask=*/false, scale, keys_before(window), keys_behind(window));
    at::Tensor sink;
    if (sinks_H) {
      sink = sinks_H->to(at::kFloat).unsqueeze(1);
      const at::Tensor with_sink = at::logaddexp(lse, sink);  // [B, H, T]
      y.mul_((lse - with_sink).exp_().transpose(1, 2).unsqueeze(-1));
      lse = with_sink;
      ctx->saved_data["sink_type"] = sinks_H->scalar_type();
    }
    ctx->save_for_backward({q, k, v, y, lse, seed, offset, sink});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["window"] = window;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &y = saved[3], &lse = saved[4], &sink = saved[7];
    const at::Tensor dy = dys[0].contiguous();
    const std::int64_t window = ctx->saved_data["window"].toInt();
    const auto [dq, dk, dv] = at::_flash_attention_backward(
        dy, q, k, saved[2], y, lse, {}, {}, q.size(1), k.size(1), /*dropout_p=*/0.0, /*is_causal=*/true, saved[5], saved[6],
        ctx->saved_data["scale"].toDouble(), keys_before(window), keys_behind(window));
    at::Tensor dsink;
    if (sink.defined()) {
      const at::Tensor inner = (dy * y).sum(-1, false, at::kFloat).transpose(1, 2);  // [B, H, T]
      dsink =
          ((sink - lse).exp_() * inner).sum(at::IntArrayRef{0, 2}).neg_().to(ctx->saved_data["sink_type"].toScalarType());
    }
    return {dq, dk, dv, dsink, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool flash_attention_serves(const at::Tensor& q_BTHC) {
  return kernels() == Kernels::fused && q_BTHC.is_cuda() && q_BTHC.scalar_type() == at::kBFloat16 && q_BTHC.numel() > 0 &&
         q_BTHC.size(3) % 8 == 0 && q_BTHC.size(3) <= 256 && cuda_capability(q_BTHC.device()) >= 80;
}

at::Tensor flash_attention(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                           std::int64_t window, const at::Tensor& sinks_H) {
  return FlashAttention::apply(q_BTHC, k_BTGC, v_BTGC, optional(sinks_H), scale, window);
}

}  // namespace equisweep
