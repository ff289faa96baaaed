#pragma once
// Mixture of experts without dropped tokens (Shazeer et al., arXiv:1701.06538): tokens sorted by expert, grouped products.
//
// Shapes: N tokens, D width, E experts, K experts a token, R expert width.

#include <span>

#include "models/blocks/norm.h"

namespace equisweep {

enum class Routing {
  softmax_then_top_k,             ///< weights are probabilities over all experts (OLMoE)
  softmax_then_top_k_normalized,  ///< divided by their sum over the chosen ones
  top_k_then_softmax,             ///< softmax over the chosen ones (gpt-oss)
};

struct MoeShape {
  std::int64_t d = 0, experts = 0, top_k = 0, expert_ff = 0;
  Routing routing = Routing::softmax_then_top_k;
  /// gpt-oss: biases on router and experts, storage [in, out] with gate and up columns interleaved, and
  /// (clamp(up, -limit, limit) + 1) * g * sigmoid(alpha g) with g = min(gate, limit). Otherwise: no biases, storage [out,
  /// in] with the gate rows before the up rows, and silu(gate) * up.
  bool clamped = false;
  double alpha = 1.702, limit = 7;
};

/// y_n = sum over the K chosen experts e of w_ne expert_e(x_n).
/// Names: gate.weight or, clamped, router.{weight,bias}; experts.{gate_up_proj,down_proj} and, clamped, their _bias.
class Moe {
 public:
  /// Throws UsageError if top_k exceeds the experts.
  Moe(const Scope& scope, const MoeShape& shape);
  /// x [B, T, D] -> [B, T, D], with a norm before and a residual behind where they are given; appends the logits of the
  /// router [B*T, E], before any softmax.
  at::Tensor operator()(const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits, const Around& around = {}) const;

 private:
  MoeShape shape_;
  Weight router_, router_bias_, gate_up_, gate_up_bias_, down_, down_bias_;
};

/// The experts of each token by falling logit, and the weights of their outputs in at least fp32; both [N, K].
struct Routes {
  at::Tensor experts_NK, weights_NK;
};
Routes route(const at::Tensor& logits_NE, std::int64_t top_k, Routing routing);

/// Whether LibTorch's grouped products serve, which take the sizes of the groups from the device: bf16 rows of whole packs
/// of 16 bytes, on a Hopper GPU. Elsewhere on a GPU the host waits for the sizes.
bool grouped_on_device(at::Device device, at::ScalarType dtype, std::int64_t d, std::int64_t expert_ff);

/// x [S, in], rows sorted by expert, those of expert e from begins[e] to begins[e + 1]; weights [E, out, in], or [E, in,
/// out] if `in_out` -> [S, out], each row times the matrix of its expert.
at::Tensor grouped_product(const at::Tensor& x, const at::Tensor& weights, std::span<const std::int64_t> begins,
                           bool in_out);

/// HuggingFace's load-balancing loss: E sum_e f_e P_e with f_e = (times e is chosen, all layers and tokens) / (layers *
/// tokens) and P_e = mean over layers and tokens of softmax(logits)_e. Uniform routing gives K. Needs at least one layer.
at::Tensor load_balancing_loss(std::span<const at::Tensor> router_logits_NE, std::int64_t top_k);

/// Mean over layers and tokens of logsumexp(logits)^2 (Zoph et al., arXiv:2202.08906, equation 5).
at::Tensor router_z_loss(std::span<const at::Tensor> router_logits_NE);

}  // namespace equisweep
