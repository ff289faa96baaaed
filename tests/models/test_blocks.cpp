// Blocks against brute force and against finite differences of their own outputs, in fp64.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "core/safetensors.h"
#include "models/blocks/attention.h"
#include "models/blocks/linear.h"
#include "models/blocks/mlp.h"
#include "models/blocks/norm.h"
#include "models/blocks/rope.h"
#include "tests/models/finite_differences.h"

namespace equisweep {
namespace test_blocks {

/// Fills the weights with values of the size that they have in training, in fp64.
void randomize(Weights& weights, std::uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (auto& p : weights.params()) {
    p.tensor =
        (at::randn(p.tensor.sizes(), generator, at::kDouble) * 0.3 + (p.init == Init::ones ? 1 : 0)).requires_grad_(true);
  }
}

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

void check_gradients(Weights& weights, std::vector<at::Tensor> inputs, const std::function<at::Tensor()>& output) {
  for (const auto& p : weights.params()) inputs.push_back(p.tensor);
  EXPECT_LT(worst_gradient_error(output, inputs), 1e-7);
}

TEST(LinearBlock, IsAProductPlusBias) {
  Weights weights(at::kCPU);
  const Linear linear(Scope(weights, "l."), "q_proj", Role::attention_q, 5, 6, {LayoutKind::heads_rows, 2}, true);
  EXPECT_EQ(weights.params()[0].name, "l.q_proj.weight");
  EXPECT_EQ(weights.params()[1].name, "l.q_proj.bias");
  EXPECT_EQ(weights.params()[1].init, Init::zeros);
  randomize(weights, 1);
  const at::Tensor x = random({2, 3, 5}, 2).requires_grad_(true);
  const at::Tensor expected = at::einsum("bti,oi->bto", {x, weights.tensor(0)}) + weights.tensor(1);
  EXPECT_TRUE(at::allclose(linear(x), expected, 1e-14, 1e-14));
  check_gradients(weights, {x}, [&] { return linear(x); });
}

TEST(LinearBlock, KeepsMasterWeightsInBf16) {
  Weights weights(at::kCPU);
  const Linear linear(Scope(weights), "l", Role::mlp_up, 5, 6);
  const at::NoGradGuard no_grad;
  weights.params()[0].tensor.fill_(1.001);
  const at::Tensor x = at::ones({1, 5}, at::kBFloat16);
  EXPECT_EQ(linear(x).scalar_type(), at::kBFloat16);
  EXPECT_EQ(weights.tensor(0).scalar_type(), at::kFloat);
  EXPECT_FLOAT_EQ(weights.tensor(0).index({0, 0}).item<float>(), 1.001F);
}

TEST(EmbeddingBlock, LooksRowsUp) {
  Weights weights(at::kCPU);
  const Embedding embedding(Scope(weights), "e", 7, 4);
  randomize(weights, 3);
  const at::Tensor tokens = at::tensor({3, 3, 0, 6}, at::kLong).view({2, 2});
  EXPECT_TRUE(at::equal(embedding(tokens, at::kDouble), weights.tensor(0).index_select(0, tokens.view(-1)).view({2, 2, 4})));
  check_gradients(weights, {}, [&] { return embedding(tokens, at::kDouble); });
}

class RmsNormBlock : public ::testing::TestWithParam<double> {};  // the offset of the gain

TEST_P(RmsNormBlock, FollowsItsFormula) {
  Weights weights(at::kCPU);
  const double eps = 0.1, offset = GetParam();  // a large eps, so that its place in the formula matters
  const RmsNorm norm(Scope(weights), "n", 6, eps, offset);
  EXPECT_EQ(weights.params()[0].init, offset == 0 ? Init::ones : Init::zeros);
  randomize(weights, 4);
  const at::Tensor x = random({2, 3, 6}, 5).requires_grad_(true);
  const at::Tensor expected = x / (x.square().mean(-1, true) + eps).sqrt() * (weights.tensor(0) + offset);
  EXPECT_TRUE(at::allclose(norm(x), expected, 1e-14, 1e-14));
  check_gradients(weights, {x}, [&] { return norm(x); });
}

INSTANTIATE_TEST_SUITE_P(Offsets, RmsNormBlock, ::testing::Values(0.0, 1.0));

// In bf16 the sum of 1024 squares would stall at 256 if it were taken in bf16.
TEST(RmsNormBf16, TakesStatisticsInFp32) {
  Weights weights(at::kCPU);
  const RmsNorm norm(Scope(weights), "n", 1024, 1e-6);
  const at::NoGradGuard no_grad;
  weights.params()[0].tensor.fill_(1);
  const at::Tensor y = norm(at::full({1, 1024}, 3.0, at::kBFloat16));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(y.to(at::kFloat), at::ones({1, 1024})));
}

TEST(RopeBlock, RotatesHalvesByTheAngleOfThePosition) {
  const Rope rope{8, 100.0};
  const at::Tensor x = random({2, 5, 3, 8}, 6).requires_grad_(true), y = rotate(rope, x);
  for (int t = 0; t < 5; ++t) {
    for (int i = 0; i < 4; ++i) {
      const double angle = t * std::pow(100.0, -2.0 * i / 8), c = std::cos(angle), s = std::sin(angle);
      const auto at = [&](const at::Tensor& z, int j) { return z.index({1, t, 2, j}).item<double>(); };
      EXPECT_NEAR(at(y, i), at(x, i) * c - at(x, i + 4) * s, 1e-14);
      EXPECT_NEAR(at(y, i + 4), at(x, i + 4) * c + at(x, i) * s, 1e-14);
    }
  }
  Weights none(at::kCPU);
  check_gradients(none, {x}, [&] { return rotate(rope, x); });
}

struct YarnCase {
  const char* name;
  double factor;
  bool truncate;
};

class Yarn : public ::testing::TestWithParam<YarnCase> {};

TEST_P(Yarn, EqualsTheRecordedTables) {
  const auto& c = GetParam();
  RopeScaling scaling;
  scaling.factor = c.factor;
  scaling.truncate = c.truncate;
  const Rope rope{64, 150000, scaling};
  const SafetensorsFile recorded(std::string(EQUISWEEP_SOURCE_DIR) + "/tests/golden/hf/yarn.safetensors");
  const at::Tensor frequencies = recorded.tensor(std::string(c.name) + ".inv_freq");
  EXPECT_TRUE(at::allclose(at::tensor(rope.inverse_frequencies(), at::kDouble), frequencies, 1e-14, 0));
  EXPECT_NEAR(rope.attention_factor(), recorded.tensor(std::string(c.name) + ".attention_factor").item<double>(), 1e-15);
}

INSTANTIATE_TEST_SUITE_P(Recorded, Yarn,
                         ::testing::Values(YarnCase{"default", 32, false}, YarnCase{"truncate", 32, true},
                                           YarnCase{"factor4", 4, false}));

TEST(RopeBlock, LinearScalingDividesAllFrequenciesAndYarnScalesTheTables) {
  RopeScaling scaling;
  scaling.factor = 8;
  const Rope yarn{4, 1e4, scaling}, plain{4, 1e4};
  scaling.kind = RopeScaling::Kind::linear;
  const Rope linear{4, 1e4, scaling};
  for (std::size_t i = 0; i < 2; ++i) EXPECT_DOUBLE_EQ(linear.inverse_frequencies()[i] * 8, plain.inverse_frequencies()[i]);
  const at::Tensor x = random({1, 1, 1, 4}, 30);  // position 0: no rotation
  EXPECT_TRUE(at::allclose(rotate(yarn, x), x * (0.1 * std::log(8.0) + 1)));
  EXPECT_TRUE(at::allclose(rotate(linear, x), x));
}

TEST(RopeBlock, ScoresDependOnTheDistanceAlone) {
  const Rope rope{16, 1e4};
  const at::Tensor q = random({1, 1, 1, 16}, 7).expand({1, 9, 1, 16}), k = random({1, 1, 1, 16}, 8).expand({1, 9, 1, 16});
  const at::Tensor scores = at::matmul(rotate(rope, q).squeeze(2).squeeze(0), rotate(rope, k).squeeze(2).squeeze(0).t());
  for (int distance = 0; distance < 9; ++distance) {
    const at::Tensor diagonal = scores.diagonal(-distance);
    EXPECT_TRUE(at::allclose(diagonal, diagonal[0].expand_as(diagonal), 1e-12, 1e-12)) << distance;
  }
}

struct AttendCase {
  std::int64_t heads, kv_heads, window, T;
};

class Attend : public ::testing::TestWithParam<AttendCase> {};

/// The definition, entry by entry.
at::Tensor attend_by_loops(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                           std::int64_t window) {
  at::Tensor y = at::zeros_like(q);
  for (std::int64_t b = 0; b < q.size(0); ++b) {
    for (std::int64_t h = 0; h < q.size(2); ++h) {
      const std::int64_t g = h / (q.size(2) / k.size(2));
      for (std::int64_t t = 0; t < q.size(1); ++t) {
        const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, t - window + 1) : 0;
        double sum = 0;
        for (std::int64_t s = first; s <= t; ++s) {
          const double e = std::exp(scale * q[b][t][h].dot(k[b][s][g]).item<double>());
          sum += e;
          y[b][t][h] += v[b][s][g] * e;
        }
        y[b][t][h] /= sum;
      }
    }
  }
  return y;
}

TEST_P(Attend, EqualsTheDefinitionInEveryPrecision) {
  const auto [H, G, window, T] = GetParam();
  const at::Tensor q = random({2, T, H, 4}, 9), k = random({2, T, G, 4}, 10), v = random({2, T, G, 4}, 11);
  const at::Tensor expected = attend_by_loops(q, k, v, 0.7, window);
  EXPECT_TRUE(at::allclose(attend(q, k, v, 0.7, window), expected, 1e-12, 1e-13));
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 0.05}}) {
    const at::Tensor y = attend(q.to(dtype), k.to(dtype), v.to(dtype), 0.7, window);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), bound);
  }
}

TEST_P(Attend, HasTheGradientOfItsValue) {
  const auto [H, G, window, T] = GetParam();
  const at::Tensor q = random({1, T, H, 4}, 12).requires_grad_(true), k = random({1, T, G, 4}, 13).requires_grad_(true),
                   v = random({1, T, G, 4}, 14).requires_grad_(true);
  Weights none(at::kCPU);
  check_gradients(none, {q, k, v}, [&] { return attend(q, k, v, 0.7, window); });
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attend,
                         ::testing::Values(AttendCase{4, 4, 0, 6}, AttendCase{4, 2, 0, 6}, AttendCase{3, 1, 3, 7},
                                           AttendCase{2, 2, 1, 4}, AttendCase{4, 2, 9, 6}, AttendCase{2, 1, 0, 1}));

// A sink is one more key whose score is the sink and whose value is zero.
TEST_P(Attend, ASinkTakesItsShareOfTheSoftmax) {
  const auto [H, G, window, T] = GetParam();
  const at::Tensor q = random({1, T, H, 4}, 20).requires_grad_(true), k = random({1, T, G, 4}, 21).requires_grad_(true),
                   v = random({1, T, G, 4}, 22).requires_grad_(true), sinks = random({H}, 23).requires_grad_(true);
  const at::Tensor y = attend(q, k, v, 0.7, window, sinks);
  for (std::int64_t h = 0; h < H; ++h) {
    for (std::int64_t t = 0; t < T; ++t) {
      double sum = std::exp(sinks[h].item<double>());
      at::Tensor expected = at::zeros({4}, at::kDouble);
      for (std::int64_t s = window > 0 ? std::max<std::int64_t>(0, t - window + 1) : 0; s <= t; ++s) {
        const double e = std::exp(0.7 * q[0][t][h].dot(k[0][s][h / (H / G)]).item<double>());
        sum += e;
        expected = expected + e * v[0][s][h / (H / G)];
      }
      EXPECT_TRUE(at::allclose(y[0][t][h], expected / sum, 1e-12, 1e-13));
    }
  }
  Weights none(at::kCPU);
  check_gradients(none, {q, k, v, sinks}, [&] { return attend(q, k, v, 0.7, window, sinks); });
}

TEST(AttentionBlock, ClampsQueriesKeysAndValues) {
  Weights weights(at::kCPU);
  AttentionShape shape{.d = 4, .heads = 1, .kv_heads = 1, .head_dim = 4, .rope = {4, 1e4}, .scale = 0.5};
  shape.clip_qkv = 0.25;
  const Attention attention(Scope(weights), shape);
  const at::NoGradGuard no_grad;
  for (auto& p : weights.params()) p.tensor = at::eye(4, at::kDouble);
  // With identities for weights the first position returns its own clamped value.
  const at::Tensor y = attention(at::tensor({3.0, -2.0, 0.1, 0.25}, at::kDouble).view({1, 1, 4}));
  EXPECT_TRUE(at::allclose(y.view(-1), at::tensor({0.25, -0.25, 0.1, 0.25}, at::kDouble)));
}

TEST(AttentionBlock, HasTheGradientOfItsValue) {
  for (const auto kind : {QkNorm::none, QkNorm::per_head, QkNorm::projection}) {
    Weights weights(at::kCPU);
    AttentionShape shape{.d = 6, .heads = 4, .kv_heads = 2, .head_dim = 4, .rope = {4, 1e4}, .scale = 0.5};
    shape.qk_norm = kind;
    shape.bias = true;
    const Attention attention(Scope(weights, "a."), shape);
    randomize(weights, 15);
    const at::Tensor x = random({1, 5, 6}, 16).requires_grad_(true);
    check_gradients(weights, {x}, [&] { return attention(x); });
  }
}

TEST(GatedMlpBlock, FollowsItsFormula) {
  for (const auto gate : {Gate::silu, Gate::gelu_tanh}) {
    Weights weights(at::kCPU);
    const GatedMlp mlp(Scope(weights, "m."), 4, 6, gate);
    randomize(weights, 17);
    const at::Tensor x = random({1, 3, 4}, 18).requires_grad_(true);
    const at::Tensor g = at::matmul(x, weights.tensor(0).t()), u = at::matmul(x, weights.tensor(1).t());
    const at::Tensor inner = std::sqrt(2 / M_PI) * (g + 0.044715 * g.pow(3));
    const at::Tensor activated = gate == Gate::silu ? g / (1 + (-g).exp()) : 0.5 * g * (1 + inner.tanh());
    EXPECT_TRUE(at::allclose(mlp(x), at::matmul(activated * u, weights.tensor(2).t()), 1e-13, 1e-13));
    check_gradients(weights, {x}, [&] { return mlp(x); });
  }
}

}  // namespace test_blocks
}  // namespace equisweep
