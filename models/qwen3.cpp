// Qwen3 (Qwen team, arXiv:2505.09388): pre-norm decoder, QK-norm per head, RoPE, grouped-query attention, SwiGLU.
#include "models/blocks/block.h"
#include "models/blocks/mlp.h"
#include "models/decoder.h"
#include "models/fields.h"
#include "models/models.h"

namespace equisweep {
namespace {

class Qwen3 final : public Decoder {
 public:
  Qwen3(const nlohmann::json& config, at::Device device) : Decoder(config, device) {
    const auto d = integer("d");
    const double eps = number("norm_eps");
    AttentionShape shape = attention_shape(config);
    shape.qk_norm = QkNorm::per_head;
    for (std::int64_t i = 0; i < integer("layers"); ++i) {
      const Scope scope = layer_scope(i);
      blocks_.push_back({RmsNorm(scope, "input_layernorm", d, eps), Attention(scope / "self_attn", shape),
                         RmsNorm(scope, "post_attention_layernorm", d, eps),
                         GatedMlp(scope / "mlp", d, integer("ff"), Gate::silu)});
    }
  }

 private:
  std::size_t block_count() const override { return blocks_.size(); }
  at::Tensor block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>&) const override {
    return blocks_[layer](x_BTD);
  }

  std::vector<PreNormBlock<GatedMlp>> blocks_;
};

}  // namespace

Architecture qwen3() {
  return {
      .name = "qwen3",
      .summary = "dense; QK-norm per head, grouped-query attention, SwiGLU",
      .source = "arXiv:2505.09388",
      .fields = {field::vocab(), field::d(), field::layers(), field::heads(), field::kv_heads(), field::head_dim(),
                 field::ff(), field::rope_base(1e6), field::rope_scaling(), field::norm_eps(1e-6), field::bias(false),
                 field::tied(false)},
      .sizes =
          {
              {"nano", R"({"vocab": 512, "d": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "ff": 192})"},
              {"tiny", R"({"vocab": 2048, "d": 128, "layers": 4, "heads": 8, "kv_heads": 4, "head_dim": 32, "ff": 384})"},
              {"small", R"({"vocab": 8192, "d": 256, "layers": 8, "heads": 8, "kv_heads": 4, "head_dim": 64, "ff": 768})"},
              {"mid", R"({"vocab": 32768, "d": 512, "layers": 16, "heads": 8, "kv_heads": 4, "head_dim": 128, "ff": 1536})"},
              {"paper",
               R"({"vocab": 151936, "d": 1024, "layers": 20, "heads": 16, "kv_heads": 8, "head_dim": 128, "ff": 3072})"},
          },
      .make = [](const nlohmann::json& config, at::Device device) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<Qwen3>(config, device);
      },
  };
}

}  // namespace equisweep
