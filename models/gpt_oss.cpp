// gpt-oss (OpenAI, arXiv:2508.10925): biases everywhere, a learned sink per head, sliding and global layers in turn, mixture
// of experts with a clamped gate.
#include "models/blocks/block.h"
#include "models/blocks/moe.h"
#include "models/decoder.h"
#include "models/fields.h"
#include "models/models.h"

namespace equisweep {
namespace {

class GptOss final : public Decoder {
 public:
  GptOss(const nlohmann::json& config, at::Device device) : Decoder(config, device) {
    const auto d = integer("d");
    const double eps = number("norm_eps");
    AttentionShape global = attention_shape(config);
    global.sinks = true;
    AttentionShape sliding = global;
    sliding.window = integer("window");
    const MoeShape moe = {.d = d,
                          .experts = integer("experts"),
                          .top_k = integer("top_k"),
                          .expert_ff = integer("expert_ff"),
                          .routing = Routing::top_k_then_softmax,
                          .clamped = true,
                          .alpha = number("swiglu_alpha"),
                          .limit = number("swiglu_limit")};
    for (std::int64_t i = 0; i < integer("layers"); ++i) {
      const Scope scope = layer_scope(i);
      blocks_.push_back({RmsNorm(scope, "input_layernorm", d, eps),
                         Attention(scope / "self_attn", is_global(config, i) ? global : sliding),
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

Field swiglu(const char* name, const char* value, const char* doc) {
  return {.name = name, .kind = FieldKind::number, .default_json = value, .doc = doc, .min = 0, .above_min = true};
}

}  // namespace

Architecture gpt_oss() {
  return {
      .name = "gpt_oss",
      .summary = "mixture of experts; top-k, then softmax; sinks, biases, sliding and global attention in turn",
      .source = "arXiv:2508.10925",
      .fields = {field::vocab(), field::d(), field::layers(), field::heads(), field::kv_heads(), field::head_dim(),
                 field::window(), field::global_every(2), field::global_layers(), field::experts(), field::top_k(),
                 field::expert_ff(), swiglu("swiglu_alpha", "1.702", "slope of the gate's sigmoid"),
                 swiglu("swiglu_limit", "7", "clamp of gate (from above) and up (from both sides)"),
                 field::rope_base(150000), field::rope_scaling(), field::norm_eps(1e-5), field::bias(true),
                 field::tied(false)},
      .sizes =
          {
              {"nano",
               R"({"vocab": 512, "d": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "experts": 4, "top_k": 2, "expert_ff": 64, "window": 32})"},
              {"tiny",
               R"({"vocab": 2048, "d": 128, "layers": 4, "heads": 8, "kv_heads": 2, "head_dim": 32, "experts": 8, "top_k": 2, "expert_ff": 128, "window": 32})"},
              {"small",
               R"({"vocab": 8192, "d": 256, "layers": 6, "heads": 16, "kv_heads": 2, "head_dim": 32, "experts": 16, "top_k": 4, "expert_ff": 256, "window": 64})"},
              {"mid",
               R"({"vocab": 32768, "d": 512, "layers": 5, "heads": 16, "kv_heads": 2, "head_dim": 64, "experts": 16, "top_k": 4, "expert_ff": 512, "window": 128})"},
              {"paper",
               R"({"vocab": 201088, "d": 2048, "layers": 12, "heads": 64, "kv_heads": 8, "head_dim": 64, "experts": 16, "top_k": 4, "expert_ff": 2048, "window": 128})"},
          },
      .make = [](const nlohmann::json& config, at::Device device) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<GptOss>(config, device);
      },
  };
}

}  // namespace equisweep
