#pragma once
// What all architectures share: embedding -> blocks -> final norm -> LM head.

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/language_model.h"
#include "models/blocks/linear.h"
#include "models/blocks/norm.h"
#include "models/blocks/weights.h"

namespace equisweep {

class Decoder : public LanguageModel {
 public:
  std::span<Param> params() override { return weights_.params(); }
  Forward forward(const at::Tensor& tokens_BT) const override;
  at::Tensor logits(const at::Tensor& hidden_BTD) const override;
  at::Tensor loss(const at::Tensor& hidden_BTD, const at::Tensor& targets_BT) const override;
  void set_compute_dtype(at::ScalarType dtype) override { compute_dtype_ = dtype; }
  void set_recompute(bool on) override { recompute_ = on; }
  bool recordable(at::Device device) const override;
  std::int64_t vocabulary() const override { return config_.at("vocab").get<std::int64_t>(); }
  const nlohmann::json& config() const override { return config_; }

  /// The residual stream of a forward pass, for parity tests: the input of every block, the output of the last, and that
  /// after the final norm; L + 2 tensors [B, T, D].
  std::vector<at::Tensor> residual_stream(const at::Tensor& tokens_BT) const;

 protected:
  /// Makes the weights outside the blocks. Fields read: vocab, d, norm_eps, tied, softcap (optional).
  /// `embedding_scale` multiplies the embedding, rounded to the compute dtype; `norm_offset` as in RmsNorm.
  Decoder(nlohmann::json config, at::Device device, double embedding_scale = 1, double norm_offset = 0);

  virtual std::size_t block_count() const = 0;

  /// Block `layer` on the residual stream x; a MoE block appends its router logits [B*T, E] to `router_logits`.
  virtual at::Tensor block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits) const = 0;

  std::int64_t integer(const char* field) const { return config_.at(field).get<std::int64_t>(); }
  double number(const char* field) const { return config_.at(field).get<double>(); }
  bool flag(const char* field) const { return config_.at(field).get<bool>(); }
  /// `fallback` where an optional field is absent.
  double number_or(const char* field, double fallback) const { return config_.contains(field) ? number(field) : fallback; }

  Scope layer_scope(std::int64_t layer);

 private:
  at::Tensor embed(const at::Tensor& tokens_BT) const;
  /// block(), with recomputation where it is on.
  at::Tensor run_block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits) const;
  Weight head() const { return lm_head_ ? lm_head_ : embedding_.weight(); }

  nlohmann::json config_;
  Weights weights_;
  double embedding_scale_;
  Embedding embedding_;
  RmsNorm norm_;
  Weight lm_head_;
  at::ScalarType compute_dtype_ = at::kFloat;
  bool recompute_ = false;
};

}  // namespace equisweep
