// Shapes: B batch, T time, D width, H query heads, G key/value heads, R = H/G queries a group, C head width.
#include "models/blocks/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "models/blocks/flash_attention.h"
#include "models/blocks/fused_attention.h"
#include "models/blocks/tile_linear.h"
#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

/// What is added to the scores: 0 where a query may look, else -inf. [R*T, T]: the R query heads of a group stacked.
struct Mask {
  std::int64_t T, window, R;
  at::ScalarType dtype;
  at::Device device;
  at::Tensor values;
};

constexpr std::size_t kMaxMasks = 32;

at::Tensor make_mask(std::int64_t T, std::int64_t window, std::int64_t R, at::ScalarType dtype, at::Device device) {
  at::Tensor hidden = at::ones({T, T}, at::kBool).triu_(1);
  if (window > 0) hidden.logical_or_(at::ones({T, T}, at::kBool).tril_(-window));
  return at::zeros({T, T}, dtype).masked_fill_(hidden, -std::numeric_limits<double>::infinity()).to(device).repeat({R, 1});
}

at::Tensor cached_mask(std::int64_t T, std::int64_t window, std::int64_t R, at::ScalarType dtype, at::Device device) {
  static std::mutex mutex;
  static std::vector<Mask> masks;
  const std::lock_guard lock(mutex);
  for (const auto& m : masks) {
    if (m.T == T && m.window == window && m.R == R && m.dtype == dtype && m.device == device) return m.values;
  }
  if (masks.size() == kMaxMasks) masks.erase(masks.begin());
  return masks.emplace_back(Mask{T, window, R, dtype, device, make_mask(T, window, R, dtype, device)}).values;
}

/// p_j = exp(s_j) / (exp(sink) + sum_i exp(s_i)): the softmax over the scores and one more logit, whose probability q is
/// dropped. ds = p (dp - sum_i dp_i p_i), dsink = -q sum_i dp_i p_i. Scores [B, H, T, S], sinks [H].
struct SinkSoftmax : torch::autograd::Function<SinkSoftmax> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& scores, const at::Tensor& sinks_H) {
    const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor sink = sinks_H.to(wide).view({-1, 1, 1});
    const at::Tensor exact = scores.to(wide);
    const at::Tensor largest = at::maximum(exact.amax(-1, true), sink);
    at::Tensor p = (exact - largest).exp_();
    at::Tensor q = (sink - largest).exp_();
    const at::Tensor total = p.sum(-1, true).add_(q);
    p = p.div_(total).to(scores.scalar_type());
    q.div_(total);
    ctx->save_for_backward({p, q});
    ctx->saved_data["sink_type"] = sinks_H.scalar_type();
    return p;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dps) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &p = saved[0], &q = saved[1];
    const at::Tensor inner = (dps[0] * p).sum(-1, true, q.scalar_type());
    const at::Tensor ds = (dps[0].to(q.scalar_type()) - inner).mul_(p).to(p.scalar_type());
    const at::Tensor dsink = (q * inner).sum(at::IntArrayRef{0, 2, 3}).neg_();
    return {ds, dsink.to(ctx->saved_data["sink_type"].toScalarType())};
  }
};

/// The flash kernels win on a GPU, and in fp32 on the CPU; in bf16 on the CPU they take a multiple of the time of two
/// products and a softmax, and in fp64 the plain formula is the reference.
bool prefer_flash(const at::Tensor& q, const at::Tensor& sinks) {
  if (sinks.defined()) return false;
  return q.is_cuda() ? q.scalar_type() != at::kDouble : q.scalar_type() == at::kFloat;
}

thread_local RecordAttentionPeaks* recorder = nullptr;

/// [H]: the largest score of each query head.
at::Tensor largest_scores(const at::Tensor& q_BHTC, const at::Tensor& k_BGTC, double scale, std::int64_t window) {
  const auto B = q_BHTC.size(0), H = q_BHTC.size(1), T = q_BHTC.size(2), C = q_BHTC.size(3), G = k_BGTC.size(1), R = H / G;
  const at::Tensor mask = cached_mask(T, window, R, at::kFloat, q_BHTC.device()).expand({B * G, R * T, T});
  const at::Tensor q = q_BHTC.reshape({B * G, R * T, C}).to(at::kFloat), k = k_BGTC.reshape({B * G, T, C}).to(at::kFloat);
  return at::baddbmm(mask, q, k.transpose(1, 2), 1, scale).view({B, H, T * T}).amax(-1).amax(0);
}

}  // namespace

RecordAttentionPeaks::RecordAttentionPeaks() : outer_(std::exchange(recorder, this)) {}
RecordAttentionPeaks::~RecordAttentionPeaks() { recorder = outer_; }

at::Tensor attend(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                  std::int64_t window, const at::Tensor& sinks_H) {
  const auto B = q_BTHC.size(0), T = q_BTHC.size(1), H = q_BTHC.size(2), C = q_BTHC.size(3), G = k_BTGC.size(2), R = H / G;
  const bool sliding = window > 0 && window < T;
  if (recorder != nullptr)
    recorder->peaks_.push_back(largest_scores(q_BTHC.transpose(1, 2), k_BTGC.transpose(1, 2), scale, sliding ? window : 0));
  if (fusable(q_BTHC)) return fused_attention(q_BTHC, k_BTGC, v_BTGC, scale, sliding ? window : 0, sinks_H);
  if (flash_attention_serves(q_BTHC)) return flash_attention(q_BTHC, k_BTGC, v_BTGC, scale, sliding ? window : 0, sinks_H);
  const at::Tensor q = q_BTHC.transpose(1, 2), k = k_BTGC.transpose(1, 2), v = v_BTGC.transpose(1, 2);
  if (prefer_flash(q, sinks_H)) {
    const auto mask = sliding ? std::make_optional(cached_mask(T, window, 1, q.scalar_type(), q.device())) : std::nullopt;
    return at::scaled_dot_product_attention(q, k, v, mask, 0.0, !sliding, scale, G != H).transpose(1, 2);
  }
  const at::Tensor mask = cached_mask(T, sliding ? window : 0, R, q.scalar_type(), q.device()).expand({B * G, R * T, T});
  const at::Tensor scores =
      at::baddbmm(mask, q.reshape({B * G, R * T, C}), k.reshape({B * G, T, C}).transpose(1, 2), 1, scale);
  const at::Tensor p =
      sinks_H.defined() ? SinkSoftmax::apply(scores.view({B, H, T, T}), sinks_H).view_as(scores) : at::softmax(scores, -1);
  return at::bmm(p, v.reshape({B * G, T, C})).view({B, H, T, C}).transpose(1, 2);
}

Attention::Attention(const Scope& scope, const AttentionShape& s) : shape_(s) {
  const std::int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  q_ = Linear(scope, "q_proj", Role::attention_q, s.d, q, {LayoutKind::heads_rows, s.heads}, s.bias);
  k_ = Linear(scope, "k_proj", Role::attention_k, s.d, kv, {LayoutKind::heads_rows, s.kv_heads}, s.bias);
  v_ = Linear(scope, "v_proj", Role::attention_v, s.d, kv, {LayoutKind::heads_rows, s.kv_heads}, s.bias);
  o_ = Linear(scope, "o_proj", Role::attention_o, q, s.d, {LayoutKind::heads_columns, s.heads}, s.bias);
  if (s.sinks) sinks_ = scope.vector("sinks", {s.heads}, Init::normal);
  if (s.qk_norm == QkNorm::none) return;
  const bool per_head = s.qk_norm == QkNorm::per_head;
  q_norm_ = RmsNorm(scope, "q_norm", per_head ? s.head_dim : q, s.norm_eps, s.norm_offset);
  k_norm_ = RmsNorm(scope, "k_norm", per_head ? s.head_dim : kv, s.norm_eps, s.norm_offset);
}

Attention::Heads Attention::heads(const at::Tensor& x_BTD, const RmsNorm* norm) const {
  const auto B = x_BTD.size(0), T = x_BTD.size(1);
  const auto split = [&](const at::Tensor& x, std::int64_t n) { return x.view({B, T, n, shape_.head_dim}); };
  const std::vector<at::Tensor> weights = {q_.weight(), k_.weight(), v_.weight()};
  const double c = shape_.clip_qkv;
  if (c == 0 && tile_linear_serves(x_BTD, weights)) {
    std::vector<at::Tensor> biases;
    if (shape_.bias) biases = {q_.bias(), k_.bias(), v_.bias()};
    const auto [cos, sin] = rotation_tables(shape_.rope, T, x_BTD.scalar_type(), x_BTD.device());
    TurnedHeads turned{cos, sin, shape_.head_dim};
    if (q_norm_) turned = {cos, sin, shape_.head_dim, {q_norm_.gain(), k_norm_.gain()}, q_norm_.eps(), q_norm_.offset()};
    const auto y = tile_linear(x_BTD, weights, biases, {norm}, turned);
    return {y[0], y[1], split(y[2], shape_.kv_heads)};
  }
  const auto y = joint(x_BTD, {&q_, &k_, &v_}, norm);
  at::Tensor q = y[0], k = y[1], v = split(y[2], shape_.kv_heads);
  if (c > 0) {
    const auto clipped = [&](const RmsNorm& head_norm, const at::Tensor& x, std::int64_t n) {
      const at::Tensor normed = shape_.qk_norm == QkNorm::per_head ? head_norm(split(x, n)) : head_norm ? head_norm(x) : x;
      return rotate(shape_.rope, normed.view({B, T, n, shape_.head_dim}).clamp(-c, c));
    };
    return {clipped(q_norm_, q, shape_.heads), clipped(k_norm_, k, shape_.kv_heads), v.clamp(-c, c)};
  }
  return {normalize_and_rotate(shape_.rope, q_norm_, q), normalize_and_rotate(shape_.rope, k_norm_, k), v};
}

at::Tensor Attention::operator()(const at::Tensor& x_BTD, const Around& around) const {
  const auto [q, k, v] = heads(x_BTD, around.norm);
  const at::Tensor y = attend(q, k, v, shape_.scale, shape_.window, sinks_ ? *sinks_ : at::Tensor());
  return o_(y.reshape({x_BTD.size(0), x_BTD.size(1), shape_.heads * shape_.head_dim}), around.residual);
}

}  // namespace equisweep
