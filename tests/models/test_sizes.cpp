// The sizes of every architecture, number by number, and what they amount to.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>

#include "models/models.h"

namespace equisweep {
namespace test_sizes {

using nlohmann::json;

constexpr std::array kDimensions = {"vocab", "d",       "layers", "heads",     "kv_heads", "head_dim",
                                    "ff",    "experts", "top_k",  "expert_ff", "window",   "global_every"};

/// Dimensions in the order above, 0 where the architecture has none; parameters as transformers counts them on its own
/// models of these shapes: all, those of embedding and LM head, those that one token uses.
struct Row {
  const char* model;
  std::array<std::int64_t, kDimensions.size()> dimensions;
  std::int64_t parameters, embedding, active;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {"qwen3-nano", {512, 64, 2, 4, 2, 32, 192, 0, 0, 0, 0, 1}, 188864, 65536, 188864},
      {"qwen3-tiny", {2048, 128, 4, 8, 4, 32, 384, 0, 0, 0, 0, 1}, 1508736, 524288, 1508736},
      {"qwen3-small", {8192, 256, 8, 8, 4, 64, 768, 0, 0, 0, 0, 1}, 12064000, 4194304, 12064000},
      {"qwen3-mid", {32768, 512, 16, 8, 4, 128, 1536, 0, 0, 0, 0, 1}, 96489984, 33554432, 96489984},
      {"qwen3-paper", {151936, 1024, 20, 16, 8, 128, 3072, 0, 0, 0, 0, 1}, 625784832, 311164928, 625784832},
      {"gemma3-nano", {512, 64, 2, 4, 1, 32, 384, 0, 0, 0, 64, 2}, 254656, 65536, 254656},
      {"gemma3-tiny", {2048, 128, 6, 4, 1, 32, 768, 0, 0, 0, 64, 6}, 2543104, 524288, 2543104},
      {"gemma3-small", {8192, 256, 6, 4, 1, 64, 1536, 0, 0, 0, 128, 6}, 12262400, 4194304, 12262400},
      {"gemma3-mid", {32768, 512, 12, 4, 1, 128, 3072, 0, 0, 0, 256, 6}, 98070016, 33554432, 98070016},
      {"gemma3-paper", {262144, 1152, 18, 4, 1, 256, 6912, 0, 0, 0, 512, 6}, 1087138944, 603979776, 1087138944},
      {"olmoe-nano", {512, 64, 2, 2, 2, 32, 0, 8, 2, 32, 0, 1}, 198208, 65536, 124480},
      {"olmoe-tiny", {2048, 128, 4, 4, 4, 32, 0, 16, 4, 64, 0, 1}, 2369664, 524288, 1190016},
      {"olmoe-small", {8192, 256, 6, 4, 4, 64, 0, 32, 8, 128, 0, 1}, 24697088, 4194304, 10541312},
      {"olmoe-mid", {32768, 512, 5, 4, 4, 128, 0, 32, 8, 256, 0, 1}, 101804544, 33554432, 54618624},
      {"olmoe-paper", {50304, 2048, 12, 16, 16, 128, 0, 32, 8, 1024, 0, 1}, 2824177664, 206045184, 1012238336},
      {"gpt_oss-nano", {512, 64, 2, 4, 2, 32, 0, 4, 2, 64, 32, 2}, 216016, 65536, 166096},
      {"gpt_oss-tiny", {2048, 128, 4, 8, 2, 32, 0, 8, 2, 128, 32, 2}, 2444480, 524288, 1255616},
      {"gpt_oss-small", {8192, 256, 6, 16, 2, 32, 0, 16, 4, 256, 64, 2}, 24945344, 4194304, 10734272},
      {"gpt_oss-mid", {32768, 512, 5, 16, 2, 64, 0, 16, 4, 512, 128, 2}, 102545824, 33554432, 55267744},
      {"gpt_oss-paper", {201088, 2048, 12, 64, 8, 64, 0, 16, 4, 2048, 128, 2}, 3467779008, 823656448, 1654954944},
  };
  return table;
}

TEST(Sizes, EveryDimensionIsThatOfTheTable) {
  for (const Row& row : rows()) {
    const json config = resolve_model(row.model, json::object());
    for (std::size_t i = 0; i < kDimensions.size(); ++i) {
      // No window is 0 for those that can slide, and no field for the others; a layer that is global is every first one.
      const std::int64_t absent = std::string_view(kDimensions[i]) == "global_every" ? 1 : 0;
      EXPECT_EQ(config.value(kDimensions[i], absent), row.dimensions[i]) << row.model << " " << kDimensions[i];
    }
    EXPECT_FALSE(config.at("tied").get<bool>()) << row.model;
  }
}

TEST(Sizes, ParametersAreThoseThatTransformersCounts) {
  for (const Row& row : rows()) {
    const json config = resolve_model(row.model, json::object());
    std::int64_t all = 0, embedding = 0, active = 0;
    for (const Param& p : describe_params(config)) {
      const std::int64_t n = p.tensor.numel();
      const bool expert = p.name.find(".experts.") != std::string::npos;
      all += n;
      if (p.role == Role::embedding || p.role == Role::lm_head) embedding += n;
      active += expert ? n / config.at("experts").get<std::int64_t>() * config.at("top_k").get<std::int64_t>() : n;
    }
    EXPECT_EQ(all, row.parameters) << row.model;
    EXPECT_EQ(embedding, row.embedding) << row.model;
    EXPECT_EQ(active, row.active) << row.model;
  }
}

TEST(Sizes, ThereAreNoOthers) {
  std::vector<std::string> names;
  for (const Row& row : rows()) names.emplace_back(row.model);
  EXPECT_EQ(names, model_names());
}

}  // namespace test_sizes
}  // namespace equisweep
