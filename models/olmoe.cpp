// OLMoE (Muennighoff et al., arXiv:2409.02060): QK-norm over the whole projection, mixture of SwiGLU experts, weights of the
// chosen experts not renormalised.
#include "models/blocks/block.h"
#include "models/blocks/moe.h"
#include "models/decoder.h"
#include "models/fields.h"
#include "models/models.h"

namespace equisweep {
namespace {

class Olmoe final : public Decoder {
 public:
  Olmoe(const nlohmann::json& config, at::Device device) : Decoder(config, device) {
    const auto d = integer("d");
    const double eps = number("norm_eps");
    AttentionShape attention = attention_shape(config);
    attention.qk_norm = QkNorm::projection;
    attention.clip_qkv = number_or("clip_qkv", 0);
    const MoeShape moe = {
        .d = d,
        .experts = integer("experts"),
        .top_k = integer("top_k"),
        .expert_ff = integer("expert_ff"),
        .routing = flag("norm_topk") ? Routing::softmax_then_top_k_normalized : Routing::softmax_then_top_k,
    };
    for (std::int64_t i = 0; i < integer("layers"); ++i) {
      const Scope scope = layer_scope(i);
      blocks_.push_back({RmsNorm(scope, "input_layernorm", d, eps), Attention(scope / "self_attn", attention),
                         RmsNorm(scope, "post_attention_layernorm", d, eps), Moe(scope / "mlp", moe)});
    }
  }

 private:
  std::size_t block_count() const override { return blocks_.size(); }
  at::Tensor block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits) const override {
    return blocks_[layer](x_BTD, router_logits);
  }

  std::vector<PreNormBlock<Moe>> blocks_;
};

Field norm_topk() {
  return {.name = "norm_topk",
          .kind = FieldKind::boolean,
          .default_json = "false",
          .doc = "divide the weights of the chosen experts by their sum"};
}

Field clip_qkv() {
  return {.name = "clip_qkv",
          .kind = FieldKind::number,
          .default_json = "null",
          .doc = "clamp queries, keys and values to +- this",
          .min = 0,
          .above_min = true};
}

}  // namespace

Architecture olmoe() {
  return {
      .name = "olmoe",
      .summary = "mixture of experts; softmax, then top-k; QK-norm over the projection",
      .source = "arXiv:2409.02060",
      .fields = {field::vocab(), field::d(), field::layers(), field::heads(), field::kv_heads(), field::head_dim(),
                 field::experts(), field::top_k(), field::expert_ff(), norm_topk(), clip_qkv(), field::rope_base(1e4),
                 field::rope_scaling(), field::norm_eps(1e-5), field::bias(false), field::tied(false)},
      .sizes =
          {
              {"nano",
               R"({"vocab": 512, "d": 64, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 32, "experts": 8, "top_k": 2, "expert_ff": 32})"},
              {"tiny",
               R"({"vocab": 2048, "d": 128, "layers": 4, "heads": 4, "kv_heads": 4, "head_dim": 32, "experts": 16, "top_k": 4, "expert_ff": 64})"},
              {"small",
               R"({"vocab": 8192, "d": 256, "layers": 6, "heads": 4, "kv_heads": 4, "head_dim": 64, "experts": 32, "top_k": 8, "expert_ff": 128})"},
              {"mid",
               R"({"vocab": 32768, "d": 512, "layers": 5, "heads": 4, "kv_heads": 4, "head_dim": 128, "experts": 32, "top_k": 8, "expert_ff": 256})"},
              {"paper",
               R"({"vocab": 50304, "d": 2048, "layers": 12, "heads": 16, "kv_heads": 16, "head_dim": 128, "experts": 32, "top_k": 8, "expert_ff": 1024})"},
          },
      .make = [](const nlohmann::json& config, at::Device device) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<Olmoe>(config, device);
      },
  };
}

}  // namespace equisweep
