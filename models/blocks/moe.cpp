// Shapes: N tokens, D width, E experts, K experts a token, R expert width, P = N K pairs of token and chosen expert, S
// slots: the pairs sorted by expert, with the rows of an expert padded to a multiple of kRows where that pays.
#include "models/blocks/moe.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "models/blocks/fused_experts.h"
#include "models/blocks/linear.h"
#include "models/blocks/mlp.h"
#include "models/blocks/precision.h"
#include "models/kernels/fused.inc"

#if __has_include(<ATen/ops/_grouped_mm.h>)
#define EQUISWEEP_GROUPED_MM
#endif

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// oneDNN compiles a bf16 product for every number of rows that it meets, which takes milliseconds.
std::int64_t row_multiple(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kBFloat16 ? 64 : 1; }

/// Where the pairs go.
struct Slots {
  at::Tensor slot_of_pair;           ///< [P]
  at::Tensor token_of_slot;          ///< [S]; N in padding
  at::Tensor expert_of_slot;         ///< [S]
  std::vector<std::int64_t> begins;  ///< [E + 1]; empty where the products read `ends`
  at::Tensor ends = {};              ///< int32 [E], on the device
};

Slots sort_by_expert(const at::Tensor& experts_NK, std::int64_t E, std::int64_t rows) {
  const auto N = experts_NK.size(0), K = experts_NK.size(1);
  const auto [sorted, order] = experts_NK.reshape({-1}).sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor counts = at::bincount(sorted, {}, E);
  const at::Tensor padded = at::div(counts + (rows - 1), rows, "floor") * rows;
  const at::Tensor padded_ends = padded.cumsum(0), shift = (padded_ends - padded) - (counts.cumsum(0) - counts);
  const at::Tensor ends = padded_ends.cpu();
  Slots slots;
  slots.begins.assign(1, 0);
  slots.begins.insert(slots.begins.end(), ends.data_ptr<std::int64_t>(), ends.data_ptr<std::int64_t>() + E);
  const auto S = slots.begins.back();
  const at::Tensor slot = at::arange(N * K, sorted.options()) + shift.index_select(0, sorted);
  slots.slot_of_pair = at::empty_like(slot).scatter_(0, order, slot);
  slots.token_of_slot = at::full({S}, N, sorted.options()).scatter_(0, slot, at::div(order, K, "floor"));
  slots.expert_of_slot = at::repeat_interleave(at::arange(E, sorted.options()), padded, 0, S);
  return slots;
}

/// The same without padding and without waiting for the device.
Slots sort_on_device(const at::Tensor& experts_NK, std::int64_t E) {
  const auto [sorted, order] = experts_NK.reshape({-1}).sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor slot = at::arange(sorted.size(0), sorted.options());
  return {.slot_of_pair = at::empty_like(slot).scatter_(0, order, slot),
          .token_of_slot = at::div(order, experts_NK.size(1), "floor"),
          .expert_of_slot = sorted,
          .begins = {},
          .ends = at::searchsorted(sorted, at::arange(E, sorted.options()), /*out_int32=*/true, /*right=*/true)};
}

at::Tensor with_zero_row(const at::Tensor& x) { return at::cat({x, x.new_zeros({1, x.size(1)})}); }

/// Rows of tokens into the slots of their experts. The gradient gathers the K copies of a token and sums them, where the
/// derivative of a gather would scatter.
struct GatherTokens : Function<GatherTokens> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_ND, const at::Tensor& slot_of_pair,
                            const at::Tensor& token_of_slot) {
    ctx->save_for_backward({slot_of_pair});
    ctx->saved_data["tokens"] = x_ND.size(0);
    const bool padding = token_of_slot.size(0) != slot_of_pair.size(0);
    return (padding ? with_zero_row(x_ND) : x_ND).index_select(0, token_of_slot);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& dy) {
    const auto N = ctx->saved_data["tokens"].toInt();
    const at::Tensor copies = dy[0].index_select(0, ctx->get_saved_variables()[0]);
    return {copies.view({N, -1, dy[0].size(1)}).sum(1), at::Tensor(), at::Tensor()};
  }
};

/// y_n = sum_k w_nk x[slot of (n, k)].
struct CombineSlots : Function<CombineSlots> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_SD, const at::Tensor& weights_NK,
                            const at::Tensor& slot_of_pair) {
    ctx->save_for_backward({x_SD, weights_NK, slot_of_pair});
    return at::bmm(weights_NK.unsqueeze(1), pairs(x_SD, weights_NK, slot_of_pair)).squeeze(1);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x_SD = saved[0], &weights_NK = saved[1], &slot_of_pair = saved[2];
    const at::Tensor dy_ND = dys[0].contiguous();
    const at::Tensor dweights = at::bmm(pairs(x_SD, weights_NK, slot_of_pair), dy_ND.unsqueeze(2)).squeeze(2);
    const at::Tensor dpairs = (weights_NK.unsqueeze(2) * dy_ND.unsqueeze(1)).view({-1, dy_ND.size(1)});
    at::Tensor dx = slot_of_pair.size(0) == x_SD.size(0) ? at::empty_like(x_SD) : at::zeros_like(x_SD);
    dx.index_copy_(0, slot_of_pair, dpairs);
    return {dx, dweights, at::Tensor()};
  }
  static at::Tensor pairs(const at::Tensor& x_SD, const at::Tensor& weights_NK, const at::Tensor& slot_of_pair) {
    return x_SD.index_select(0, slot_of_pair).view({weights_NK.size(0), weights_NK.size(1), x_SD.size(1)});
  }
};

struct GroupedProduct : Function<GroupedProduct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weights,
                            const std::vector<std::int64_t>& begins, bool in_out) {
    ctx->save_for_backward({x, weights});
    ctx->saved_data["begins"] = begins;
    ctx->saved_data["in_out"] = in_out;
    at::Tensor y = at::empty({x.size(0), weights.size(in_out ? 2 : 1)}, x.options());
    each(begins, [&](std::int64_t e, std::int64_t begin, std::int64_t n) {
      at::Tensor rows = y.narrow(0, begin, n);
      const at::Tensor w = weights.select(0, e);
      at::mm_out(rows, x.narrow(0, begin, n), in_out ? w : w.t());
    });
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weights = saved[1], dy = dys[0].contiguous();
    const bool in_out = ctx->saved_data["in_out"].toBool();
    at::Tensor dx = at::empty_like(x), dweights = at::empty_like(weights);
    each(ctx->saved_data["begins"].toIntVector(), [&](std::int64_t e, std::int64_t begin, std::int64_t n) {
      at::Tensor dw = dweights.select(0, e);
      if (n == 0) {
        dw.zero_();
        return;
      }
      at::Tensor rows = dx.narrow(0, begin, n);
      const at::Tensor w = weights.select(0, e), x_e = x.narrow(0, begin, n), dy_e = dy.narrow(0, begin, n);
      at::mm_out(rows, dy_e, in_out ? w.t() : w);
      if (in_out) {
        at::mm_out(dw, x_e.t(), dy_e);
      } else {
        at::mm_out(dw, dy_e.t(), x_e);
      }
    });
    return {dx, dweights, at::Tensor(), at::Tensor()};
  }
  template <class Body>
  static void each(const std::vector<std::int64_t>& begins, const Body& body) {
    for (std::size_t e = 0; e + 1 < begins.size(); ++e) {
      body(static_cast<std::int64_t>(e), begins[e], begins[e + 1] - begins[e]);
    }
  }
};

#ifdef EQUISWEEP_GROUPED_MM
/// GroupedProduct in one call for all experts, whose rows end at ends [E].
struct DeviceGroupedProduct : Function<DeviceGroupedProduct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weights, const at::Tensor& ends,
                            bool in_out) {
    ctx->save_for_backward({x, weights, ends});
    ctx->saved_data["in_out"] = in_out;
    return at::_grouped_mm(x, in_out ? weights : weights.transpose(1, 2), ends);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weights = saved[1], &ends = saved[2], dy = dys[0].contiguous();
    const bool in_out = ctx->saved_data["in_out"].toBool();
    const at::Tensor dx = at::_grouped_mm(dy, in_out ? weights.transpose(1, 2) : weights, ends);
    const at::Tensor dweights = in_out ? at::_grouped_mm(x.t(), dy, ends) : at::_grouped_mm(dy.t(), x, ends);
    return {dx, dweights, at::Tensor(), at::Tensor()};
  }
};
#endif

/// The product of the slots' rows with the weights of their experts.
at::Tensor expert_product(const at::Tensor& x_SD, const at::Tensor& weights, const Slots& slots, bool in_out) {
#ifdef EQUISWEEP_GROUPED_MM
  if (slots.ends.defined()) return DeviceGroupedProduct::apply(x_SD, weights, slots.ends, in_out);
#endif
  return grouped_product(x_SD, weights, slots.begins, in_out);
}

}  // namespace

Moe::Moe(const Scope& scope, const MoeShape& s) : shape_(s) {
  if (s.top_k > s.experts) {
    throw UsageError(fmt::format("top_k must not exceed experts; found top_k {}, experts {}", s.top_k, s.experts));
  }
  const Scope experts = scope / "experts";
  if (s.clamped) {
    router_ = scope.matrix("router.weight", Role::router, {s.experts, s.d});
    router_bias_ = scope.vector("router.bias", {s.experts}, Init::normal);
    gate_up_ = experts.matrix("gate_up_proj", Role::experts_gate_up, {s.experts, s.d, 2 * s.expert_ff},
                              {LayoutKind::gate_up_interleaved});
    gate_up_bias_ = experts.vector("gate_up_proj_bias", {s.experts, 2 * s.expert_ff}, Init::zeros);
    down_ =
        experts.matrix("down_proj", Role::experts_down, {s.experts, s.expert_ff, s.d}, {LayoutKind::experts_down_in_out});
    down_bias_ = experts.vector("down_proj_bias", {s.experts, s.d}, Init::zeros);
  } else {
    router_ = scope.matrix("gate.weight", Role::router, {s.experts, s.d});
    gate_up_ = experts.matrix("gate_up_proj", Role::experts_gate_up, {s.experts, 2 * s.expert_ff, s.d},
                              {LayoutKind::gate_up_stacked});
    down_ = experts.matrix("down_proj", Role::experts_down, {s.experts, s.d, s.expert_ff}, {LayoutKind::experts_down});
  }
}

at::Tensor Moe::operator()(const at::Tensor& input_BTD, std::vector<at::Tensor>& router_logits, const Around& around) const {
  const at::Tensor x_BTD = around.input(input_BTD);
  const auto plus_residual = [&](const at::Tensor& y) {
    return around.residual.defined() ? residual(around.residual, y.view_as(x_BTD)) : y.view_as(x_BTD);
  };
  const auto dtype = x_BTD.scalar_type();
  const auto cast = [dtype](const Weight& w) { return (*w).to(dtype); };
  const at::Tensor x_ND = x_BTD.reshape({-1, shape_.d});
  const at::Tensor logits_NE =
      router_bias_ ? at::linear(x_ND, cast(router_), cast(router_bias_)) : at::linear(x_ND, cast(router_));
  router_logits.push_back(logits_NE);
  const Routes routes = route(logits_NE, shape_.top_k, shape_.routing);
  if (fusable(x_ND)) {
    const auto bias = [](const Weight& w) { return w ? *w : at::Tensor(); };
    return plus_residual(fused_experts(x_ND, routes.weights_NK, routes.experts_NK,
                                       {*gate_up_, bias(gate_up_bias_), *down_, bias(down_bias_), shape_.clamped},
                                       {shape_.clamped ? Gate::clamped : Gate::silu, shape_.alpha, shape_.limit}));
  }
  const Slots slots = grouped_on_device(x_ND.device(), dtype, shape_.d, shape_.expert_ff)
                          ? sort_on_device(routes.experts_NK, shape_.experts)
                          : sort_by_expert(routes.experts_NK, shape_.experts, row_multiple(x_ND));

  // Cast after the selection, whose gradient sums over the rows of an expert.
  const auto rows_of = [&](const Weight& b) { return (*b).index_select(0, slots.expert_of_slot).to(dtype); };
  const at::Tensor x_SD = GatherTokens::apply(x_ND, slots.slot_of_pair, slots.token_of_slot);
  at::Tensor gate_up = expert_product(x_SD, cast(gate_up_), slots, shape_.clamped);
  if (shape_.clamped) gate_up = gate_up + rows_of(gate_up_bias_);
  const at::Tensor inner =
      gated_joint(gate_up, {shape_.clamped ? Gate::clamped : Gate::silu, shape_.alpha, shape_.limit}, shape_.clamped);
  at::Tensor y_SD = expert_product(inner, cast(down_), slots, shape_.clamped);
  if (shape_.clamped) y_SD = y_SD + rows_of(down_bias_);
  return plus_residual(CombineSlots::apply(y_SD, routes.weights_NK.to(dtype), slots.slot_of_pair));
}

bool grouped_on_device([[maybe_unused]] at::Device device, [[maybe_unused]] at::ScalarType dtype,
                       [[maybe_unused]] std::int64_t d, [[maybe_unused]] std::int64_t expert_ff) {
#ifdef EQUISWEEP_GROUPED_MM
  return kernels() == Kernels::fused && device.is_cuda() && cuda_row_kernels<float>() && dtype == at::kBFloat16 &&
         d % 8 == 0 && expert_ff % 8 == 0 && cuda_capability(device) == 90;
#else
  return false;
#endif
}

Routes route(const at::Tensor& logits_NE, std::int64_t top_k, Routing routing) {
  const at::Tensor logits = logits_NE.to(at_least_float(logits_NE.scalar_type()));
  if (routing == Routing::top_k_then_softmax) {
    const auto [chosen, experts] = logits.topk(top_k, -1);
    return {experts, chosen.softmax(-1)};
  }
  const auto [chosen, experts] = logits.softmax(-1).topk(top_k, -1);
  return {experts, routing == Routing::softmax_then_top_k_normalized ? chosen / chosen.sum(-1, true) : chosen};
}

at::Tensor grouped_product(const at::Tensor& x, const at::Tensor& weights, std::span<const std::int64_t> begins,
                           bool in_out) {
  return GroupedProduct::apply(x, weights, std::vector<std::int64_t>(begins.begin(), begins.end()), in_out);
}

at::Tensor load_balancing_loss(std::span<const at::Tensor> router_logits_NE, std::int64_t top_k) {
  const at::Tensor all = at::cat(std::vector<at::Tensor>(router_logits_NE.begin(), router_logits_NE.end()));
  const auto wide = at_least_float(all.scalar_type());
  const auto E = all.size(1);
  const at::Tensor chosen = std::get<1>(all.detach().topk(top_k, -1)).reshape({-1});
  const at::Tensor f_E = at::bincount(chosen, {}, E).to(wide).div_(static_cast<double>(all.size(0)));
  const at::Tensor p_E = all.to(wide).softmax(-1).mean(0);
  return (f_E * p_E).sum() * static_cast<double>(E);
}

at::Tensor router_z_loss(std::span<const at::Tensor> router_logits_NE) {
  const at::Tensor all = at::cat(std::vector<at::Tensor>(router_logits_NE.begin(), router_logits_NE.end()));
  return all.to(at_least_float(all.scalar_type())).logsumexp(-1).square().mean();
}

}  // namespace equisweep
