// Gemma 3 (Gemma team, arXiv:2503.19786): norms before and after both sub-blocks with gain 1 + w, sliding layers between
// global ones, QK-norm per head, GeGLU, embeddings scaled by sqrt(d).
#include <cmath>

#include "models/blocks/attention.h"
#include "models/blocks/mlp.h"
#include "models/decoder.h"
#include "models/fields.h"
#include "models/models.h"

namespace equisweep {
namespace {

struct Block {
  RmsNorm attention_norm;
  Attention attention;
  RmsNorm attention_post_norm, mlp_norm;
  GatedMlp mlp;
  RmsNorm mlp_post_norm;

  at::Tensor operator()(const at::Tensor& x_BTD) const {
    const at::Tensor h_BTD = residual(x_BTD, attention_post_norm(attention(x_BTD, {&attention_norm})));
    return residual(h_BTD, mlp_post_norm(mlp(h_BTD, {&mlp_norm})));
  }
};

class Gemma3 final : public Decoder {
 public:
  Gemma3(const nlohmann::json& config, at::Device device)
      : Decoder(config, device, std::sqrt(config.at("d").get<double>()), kGainOffset) {
    const auto d = integer("d");
    AttentionShape global = attention_shape(config);
    global.scale = 1 / std::sqrt(number_or("query_scale", static_cast<double>(global.head_dim)));
    global.qk_norm = QkNorm::per_head;
    global.norm_offset = kGainOffset;
    AttentionShape sliding = global;
    sliding.window = integer("window");
    sliding.rope = {.head_dim = global.head_dim, .base = number("rope_base_local")};
    for (std::int64_t i = 0; i < integer("layers"); ++i) {
      const Scope scope = layer_scope(i);
      const auto norm = [&](const char* name) { return RmsNorm(scope, name, d, number("norm_eps"), kGainOffset); };
      blocks_.push_back({norm("input_layernorm"), Attention(scope / "self_attn", is_global(config, i) ? global : sliding),
                         norm("post_attention_layernorm"), norm("pre_feedforward_layernorm"),
                         GatedMlp(scope / "mlp", d, integer("ff"), Gate::gelu_tanh), norm("post_feedforward_layernorm")});
    }
  }

 private:
  static constexpr double kGainOffset = 1;

  std::size_t block_count() const override { return blocks_.size(); }
  at::Tensor block(std::size_t layer, const at::Tensor& x_BTD, std::vector<at::Tensor>&) const override {
    return blocks_[layer](x_BTD);
  }

  std::vector<Block> blocks_;
};

Field query_scale() {
  return {.name = "query_scale",
          .kind = FieldKind::number,
          .default_json = "null",
          .doc = "scores are divided by its root (query_pre_attn_scalar); absent: head_dim",
          .min = 0,
          .above_min = true};
}

Field rope_base_local() {
  Field base = field::rope_base(1e4);
  base.name = "rope_base_local";
  base.doc = "base of the rotary frequencies of sliding layers";
  return base;
}

}  // namespace

Architecture gemma3() {
  return {
      .name = "gemma3",
      .summary = "dense; sliding and global attention, norms with 1 + w on both sides, GeGLU",
      .source = "arXiv:2503.19786",
      .fields = {field::vocab(), field::d(), field::layers(), field::heads(), field::kv_heads(), field::head_dim(),
                 field::ff(), field::window(), field::global_every(6), field::global_layers(), query_scale(),
                 field::rope_base(1e6), rope_base_local(), field::rope_scaling(), field::norm_eps(1e-6), field::bias(false),
                 field::softcap(), field::tied(false)},
      .sizes =
          {
              {"nano",
               R"({"vocab": 512, "d": 64, "layers": 2, "heads": 4, "kv_heads": 1, "head_dim": 32, "ff": 384, "window": 64, "global_every": 2})"},
              {"tiny",
               R"({"vocab": 2048, "d": 128, "layers": 6, "heads": 4, "kv_heads": 1, "head_dim": 32, "ff": 768, "window": 64})"},
              {"small",
               R"({"vocab": 8192, "d": 256, "layers": 6, "heads": 4, "kv_heads": 1, "head_dim": 64, "ff": 1536, "window": 128})"},
              {"mid",
               R"({"vocab": 32768, "d": 512, "layers": 12, "heads": 4, "kv_heads": 1, "head_dim": 128, "ff": 3072, "window": 256})"},
              {"paper",
               R"({"vocab": 262144, "d": 1152, "layers": 18, "heads": 4, "kv_heads": 1, "head_dim": 256, "ff": 6912, "window": 512})"},
          },
      .make = [](const nlohmann::json& config, at::Device device) -> std::unique_ptr<LanguageModel> {
        return std::make_unique<Gemma3>(config, device);
      },
  };
}

}  // namespace equisweep
