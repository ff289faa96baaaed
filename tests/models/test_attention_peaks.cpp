// The largest attention logits against loops over heads and positions.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "models/blocks/attention.h"
#include "models/models.h"

namespace equisweep {
namespace test_attention_peaks {

TEST(AttentionPeaks, AreTheLargestVisibleScores) {
  at::Generator generator = at::detail::createCPUGenerator(11);
  constexpr std::int64_t B = 2, T = 7, H = 4, G = 2, C = 6;
  const auto random = [&](std::int64_t heads) {
    return at::randn({B, T, heads, C}, generator, at::TensorOptions(at::kFloat));
  };
  const at::Tensor q = random(H), k = random(G), v = random(G), sinks = at::full({H}, 100.0);
  for (const std::int64_t window : {0, 3})
    for (const bool with_sinks : {false, true}) {
      const at::Tensor plain = attend(q, k, v, 0.3, window, with_sinks ? sinks : at::Tensor());
      const RecordAttentionPeaks record;
      EXPECT_TRUE(at::equal(attend(q, k, v, 0.3, window, with_sinks ? sinks : at::Tensor()), plain));
      ASSERT_EQ(record.peaks().size(), 1u);
      for (std::int64_t h = 0; h < H; ++h) {
        double most = -1e9;
        for (std::int64_t b = 0; b < B; ++b)
          for (std::int64_t t = 0; t < T; ++t)
            for (std::int64_t s = window == 0 ? 0 : std::max<std::int64_t>(0, t - window + 1); s <= t; ++s)
              most = std::max(most, 0.3 * (q[b][t][h] * k[b][s][h / (H / G)]).sum().item<double>());
        EXPECT_NEAR(record.peaks()[0][h].item<double>(), most, 1e-5) << window << " " << h;
      }
    }
}

TEST(AttentionPeaks, OfAForwardPassAreOfItsLayersAndLeaveNoGradient) {
  for (const char* name : {"qwen3-nano", "gpt_oss-nano"}) {
    const auto model = make_model(resolve_model(name, nlohmann::json::object()));
    initialize(*model, 1);
    const at::Tensor tokens = at::arange(3 * 40).view({3, 40});
    const Forward forward = model->forward(tokens);
    const auto peaks = forward.attention_peaks(2);
    ASSERT_EQ(peaks.size(), 2u);
    for (const at::Tensor& layer : peaks) {
      EXPECT_EQ(layer.sizes(), at::IntArrayRef({4}));
      EXPECT_FALSE(layer.requires_grad());
      EXPECT_TRUE(layer.isfinite().all().item<bool>());
    }
    // More sequences can only raise a maximum; asked for more than there are, all are looked at.
    const auto all = forward.attention_peaks(100);
    EXPECT_TRUE((all[1] >= peaks[1]).all().item<bool>());
    EXPECT_TRUE(at::equal(all[0], forward.attention_peaks(3)[0]));
  }
}

}  // namespace test_attention_peaks
}  // namespace equisweep
