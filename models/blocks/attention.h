#pragma once
// Causal attention with grouped key/value heads, QK-norm, rotary embedding, sliding windows.

#include "models/blocks/linear.h"
#include "models/blocks/norm.h"
#include "models/blocks/rope.h"

namespace equisweep {

enum class QkNorm {
  none,
  per_head,    ///< one gain [head_dim] for all heads (Qwen3, Gemma 3)
  projection,  ///< over the whole projection, before the split into heads (OLMoE)
};

struct AttentionShape {
  std::int64_t d = 0, heads = 0, kv_heads = 0, head_dim = 0;
  Rope rope = {};
  double scale = 1;         ///< of the scores, usually head_dim^(-1/2)
  std::int64_t window = 0;  ///< a query sees the last `window` keys, its own included; 0: all keys before it
  QkNorm qk_norm = QkNorm::none;
  double norm_eps = 1e-6, norm_offset = 0;
  bool bias = false;    ///< on all four projections
  double clip_qkv = 0;  ///< q and k (after their norms) and v are clamped to +- this; 0: not at all (OLMoE)
  bool sinks = false;   ///< a learned logit per head that takes part in the softmax and has no value (gpt-oss)
};

/// x [B, T, d] -> [B, T, d], with a norm before and a residual behind where they are given. Names: {q,k,v,o}_proj,
/// {q,k}_norm, sinks.
class Attention {
 public:
  Attention(const Scope& scope, const AttentionShape& shape);
  at::Tensor operator()(const at::Tensor& x_BTD, const Around& around = {}) const;

 private:
  struct Heads {
    at::Tensor q_BTHC, k_BTGC, v_BTGC;
  };
  /// The heads of x, or of norm(x), as attend() takes them.
  Heads heads(const at::Tensor& x_BTD, const RmsNorm* norm) const;

  AttentionShape shape_;
  Linear q_, k_, v_, o_;
  RmsNorm q_norm_, k_norm_;
  Weight sinks_;
};

/// softmax(scale q k^T, over the visible keys) v. Query head h reads key/value head floor(h / (H/G)).
/// q [B, T, H, C], k and v [B, T, G, C] -> [B, T, H, C]. `sinks_H`, if defined, adds one logit to each row of the softmax,
/// whose probability is dropped. Scores of bf16 inputs are rounded to bf16; the softmax is taken in at least fp32.
at::Tensor attend(const at::Tensor& q_BTHC, const at::Tensor& k_BTGC, const at::Tensor& v_BTGC, double scale,
                  std::int64_t window, const at::Tensor& sinks_H = {});

/// While it lives, every attend() of this thread also writes down max over batch and visible pairs of scale q . k, [H].
class RecordAttentionPeaks {
 public:
  RecordAttentionPeaks();
  ~RecordAttentionPeaks();
  RecordAttentionPeaks(const RecordAttentionPeaks&) = delete;
  RecordAttentionPeaks& operator=(const RecordAttentionPeaks&) = delete;
  /// In the order of the calls.
  const std::vector<at::Tensor>& peaks() const { return peaks_; }

 private:
  friend at::Tensor attend(const at::Tensor&, const at::Tensor&, const at::Tensor&, double, std::int64_t, const at::Tensor&);
  std::vector<at::Tensor> peaks_;
  RecordAttentionPeaks* outer_;
};

}  // namespace equisweep
