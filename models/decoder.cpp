#include "models/decoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>

#include "models/blocks/attention.h"
#include "models/blocks/loss.h"
#include "models/blocks/moe.h"
#include "models/blocks/recompute.h"

namespace equisweep {

Decoder::Decoder(nlohmann::json config, at::Device device, double embedding_scale, double norm_offset)
    : config_(std::move(config)), weights_(device), embedding_scale_(embedding_scale) {
  const Scope top(weights_);
  embedding_ = Embedding(top / "model", "embed_tokens", integer("vocab"), integer("d"));
  norm_ = RmsNorm(top / "model", "norm", integer("d"), number("norm_eps"), norm_offset);
  if (!flag("tied")) lm_head_ = top.matrix("lm_head.weight", Role::lm_head, {integer("vocab"), integer("d")});
}

Scope Decoder::layer_scope(std::int64_t layer) { return Scope(weights_, fmt::format("model.layers.{}.", layer), layer); }

at::Tensor Decoder::embed(const at::Tensor& tokens_BT) const {
  return embedding_(tokens_BT, compute_dtype_, embedding_scale_);
}

at::Tensor Decoder::run_block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits) const {
  if (!recompute_) return block(layer, x_BTD, router_logits);
  return recomputed([this, layer](const at::Tensor& x, std::vector<at::Tensor>& logits) { return block(layer, x, logits); },
                    x_BTD, router_logits);
}

Forward Decoder::forward(const at::Tensor& tokens_BT) const {
  Forward out;
  at::Tensor x = embed(tokens_BT);
  for (std::size_t i = 0; i < block_count(); ++i) x = run_block(i, x, out.router_logits_NE);
  out.hidden_BTD = norm_(x);
  out.attention_peaks = [this, tokens_BT](std::int64_t n) {
    const at::NoGradGuard no_grad;
    const RecordAttentionPeaks record;
    forward(tokens_BT.narrow(0, 0, std::min(n, tokens_BT.size(0))));
    return record.peaks();
  };
  return out;
}

bool Decoder::recordable(at::Device device) const {
  if (recompute_) return false;  // its backward pass starts another
  if (!config_.contains("experts")) return true;
  return grouped_on_device(device, compute_dtype_, integer("d"), integer("expert_ff"));
}

std::vector<at::Tensor> Decoder::residual_stream(const at::Tensor& tokens_BT) const {
  std::vector<at::Tensor> stream = {embed(tokens_BT)}, router_logits;
  for (std::size_t i = 0; i < block_count(); ++i) stream.push_back(block(i, stream.back(), router_logits));
  stream.push_back(norm_(stream.back()));
  return stream;
}

at::Tensor Decoder::logits(const at::Tensor& hidden_BTD) const {
  return head_logits(hidden_BTD, *head(), number_or("softcap", 0));
}

at::Tensor Decoder::loss(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT) const {
  return cross_entropy(hidden_BTD.reshape({-1, hidden_BTD.size(-1)}), *head(), targets_BT.reshape({-1}),
                       number_or("softcap", 0));
}

}  // namespace equisweep
