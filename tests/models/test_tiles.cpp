// Products of packed matrices against fp64, and the operations that are made of them against their plain form; where the
// machine lacks the instructions, what takes their place.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/kernels.h"
#include "models/blocks/attention.h"
#include "models/blocks/loss.h"
#include "models/blocks/mlp.h"
#include "models/blocks/tile_linear.h"
#include "models/kernels/gemm.h"
#include "tests/models/compare_kernels.inc"

namespace equisweep::tile_tests {
namespace {

using fused_tests::compare, fused_tests::normal, fused_tests::Operation, fused_tests::Own, fused_tests::Tensors,
    fused_tests::WithKernels;

/// Products that tiles do not serve are left to ATen.
Own own_if(bool served) {
  if (!served) return fused_tests::kNotOwn;
  return [](at::ScalarType dtype) {
    return (dtype == at::kBFloat16 && tile_kernels<Bf16>() != nullptr) ||
           (dtype == at::kFloat && tile_kernels<float>() != nullptr);
  };
}

/// The kernels of an element type, two each: those that this machine does not choose, too.
struct Bf16Tiles {
  using T = Bf16;
  static const TileKernels<Bf16>* kernels() { return has_tile_registers() ? amx_tile_kernels() : nullptr; }
};
struct Bf16Vectors {
  using T = Bf16;
  static const TileKernels<Bf16>* kernels() { return has_bf16_vectors() ? avx512_bf16_tile_kernels() : nullptr; }
};
struct FloatParts {
  using T = float;
  static const TileKernels<float>* kernels() { return has_tile_registers() ? amx_parts_kernels() : nullptr; }
};
struct FloatVectors {
  using T = float;
  static const TileKernels<float>* kernels() {
    return instruction_set() == InstructionSet::avx512 ? avx512_tile_kernels() : nullptr;
  }
};

template <class Kind>
struct TileProducts : ::testing::Test {
  using T = typename Kind::T;
  static constexpr at::ScalarType kType = std::is_same_v<T, float> ? at::kFloat : at::kBFloat16;
  /// Of one rounding, and what the sums lose.
  static constexpr double kRounding = std::is_same_v<T, float> ? 1e-6 : 4.1e-3,
                          kSums = std::is_same_v<T, float> ? 1e-5 : 1e-4;

  void SetUp() override {
    if (Kind::kernels() == nullptr)
      GTEST_SKIP() << "this machine lacks the instructions, or ATEN_CPU_CAPABILITY forbids them";
  }
  const TileKernels<T>& kernels() const { return *Kind::kernels(); }
  at::Tensor random(at::IntArrayRef shape, std::uint64_t seed) const { return normal(shape, seed).to(kType); }
  /// Memory for operands.
  at::Tensor packed(std::int64_t count) const { return at::full({count * kernels().bytes}, -1, at::kChar); }
  static char* at(const at::Tensor& x, std::int64_t element = 0) {
    return static_cast<char*>(x.mutable_data_ptr()) + element * Kind::kernels()->bytes;
  }
  static const T* in(const at::Tensor& x) { return static_cast<const T*>(x.const_data_ptr()); }
  static T* out(const at::Tensor& x) { return static_cast<T*>(x.mutable_data_ptr()); }
};
using Kinds = ::testing::Types<Bf16Tiles, Bf16Vectors, FloatParts, FloatVectors>;
TYPED_TEST_SUITE(TileProducts, Kinds);

float* floats(const at::Tensor& x) { return static_cast<float*>(x.mutable_data_ptr()); }
at::Tensor exact(const at::Tensor& x) { return x.to(at::kDouble); }

// y = a_1 op(B_1) + a_2 op(B_2) + bias + more, in rows of a wider matrix, whose other elements stay.
TYPED_TEST(TileProducts, SumOfProductsOverRows) {
  const auto& kernels = this->kernels();
  const auto in = this->in;
  const auto out = this->out;
  for (const std::int64_t rows : {1, 7, 33, 96}) {
    for (const auto& [K, N] : {std::pair{32, 64}, std::pair{96, 32}}) {
      for (const bool transposed : {false, true}) {
        const std::int64_t whole = (rows + 31) / 32 * 32;
        const at::Tensor a1 = this->random({whole, K + 5}, 1), a2 = this->random({whole, 32}, 2),
                         more = this->random({rows, N + 1}, 3);
        const at::Tensor b1 = normal(transposed ? at::IntArrayRef{N, K + 2} : at::IntArrayRef{K, N + 2}, 4).to(at::kFloat);
        const at::Tensor b2 = normal(transposed ? at::IntArrayRef{N, 32} : at::IntArrayRef{32, N}, 5).to(at::kFloat);
        const at::Tensor bias = normal({N}, 6).to(at::kFloat), y = at::full({rows, N + 3}, 9, this->kType);
        const at::Tensor p1 = this->packed(K * N), p2 = this->packed(32 * N), l1 = this->packed(whole * K),
                         l2 = this->packed(whole * 32);
        kernels.pack(floats(b1), b1.size(1), transposed, K, N, this->at(p1));
        kernels.pack(floats(b2), b2.size(1), transposed, 32, N, this->at(p2));
        TileTerm terms[] = {{in(a1), K + 5, this->at(p1), K}, {in(a2), 32, this->at(p2), 32}};
        if (kernels.arrange) {
          kernels.arrange(in(a1), K + 5, rows, K, this->at(l1));
          kernels.arrange(in(a2), 32, rows, 32, this->at(l2));
          terms[0].a = this->at(l1), terms[1].a = this->at(l2);
        }
        kernels.rows(rows, N, terms, 2, {out(y), N + 3, floats(bias), in(more), N + 1});
        const auto factor = [&](const at::Tensor& b, std::int64_t k) {
          const at::Tensor rounded = exact(b.to(this->kType));
          return transposed ? rounded.narrow(1, 0, k).t() : rounded.narrow(1, 0, N);
        };
        const at::Tensor expected = at::mm(exact(a1).narrow(0, 0, rows).narrow(1, 0, K), factor(b1, K)) +
                                    at::mm(exact(a2).narrow(0, 0, rows), factor(b2, 32)) + exact(bias) +
                                    exact(more).narrow(1, 0, N);
        EXPECT_TRUE(at::allclose(exact(y).narrow(1, 0, N), expected, this->kRounding, this->kSums))
            << rows << " " << K << " " << transposed;
        EXPECT_TRUE(at::equal(exact(y).narrow(1, N, 3), at::full({rows, 3}, 9, at::kDouble)));
      }
    }
  }
}

// X^T Y in several calls, with NaN behind the last row, summed over two pieces.
TYPED_TEST(TileProducts, SumOverRows) {
  const auto& kernels = this->kernels();
  const auto in = this->in;
  for (const std::int64_t rows : {1, 7, 33, 160}) {
    for (const auto& [M, N] : {std::pair{32, 96}, std::pair{64, 32}}) {
      for (const bool transposed : {false, true}) {
        const std::int64_t depth = 192;
        at::Tensor x = this->random({depth, M + 3}, 7), y = this->random({depth, N + 1}, 8);
        x.narrow(0, rows, depth - rows).fill_(NAN);
        y.narrow(0, rows, depth - rows).fill_(NAN);
        const at::Tensor left = this->packed(depth * M), right = this->packed(depth * N);
        const at::Tensor sums = at::full({2, M * N}, NAN),
                         w = at::empty(transposed ? at::IntArrayRef{N, M} : at::IntArrayRef{M, N});
        for (int piece = 0; piece < 2; ++piece) {
          float* const c = floats(sums) + piece * M * N;
          for (std::int64_t row = 0; row < rows; row += 64) {
            const auto some = std::min<std::int64_t>(64, rows - row);
            kernels.left(in(x) + row * (M + 3), M + 3, some, M, depth, this->at(left, 16 * row));
            kernels.right(in(y) + row * (N + 1), N + 1, some, N, depth, this->at(right, 16 * row));
            kernels.add(M, N, some, this->at(left, 16 * row), depth, this->at(right, 16 * row), depth, c, row > 0);
          }
        }
        for (std::int64_t i = 0; i < M * N / 1024; ++i) {
          const std::int64_t m = i / (N / 32) * 32, n = i % (N / 32) * 32;
          kernels.finish(floats(sums) + 1024 * i, 2, M * N, transposed, floats(w) + (transposed ? n * M + m : m * N + n),
                         transposed ? M : N);
        }
        const at::Tensor expected =
            2 * at::mm(exact(x).narrow(0, 0, rows).narrow(1, 0, M).t(), exact(y).narrow(0, 0, rows).narrow(1, 0, N));
        EXPECT_TRUE(at::allclose(exact(transposed ? w.t() : w), expected, 1e-5, 1e-4))
            << rows << " " << M << " " << transposed;
      }
    }
  }
}

/// Linear maps of one input whose parameters are among the inputs of an operation.
struct Maps {
  Weights weights{at::kCPU};
  std::vector<Linear> maps;
  Maps(std::int64_t in, std::vector<std::int64_t> widths, bool bias) {
    for (const auto width : widths)
      maps.emplace_back(Scope(weights), fmt::format("m{}", maps.size()), Role::mlp_up, in, width, Layout{}, bias);
  }
  void set(const Tensors& in, std::size_t first) {
    for (std::size_t i = 0; i < weights.params().size(); ++i) weights.params()[i].tensor = in[first + i];
  }
  void append_random(Tensors& inputs) {
    for (const auto& p : weights.params()) inputs.push_back(normal(p.tensor.sizes(), 20 + inputs.size()) * 0.3);
  }
};

// Widths that tiles serve and one that they do not; rows of one piece, of several, and of a view.
TEST(TileOperations, JointProducts) {
  for (const std::int64_t rows : {1, 33, 700}) {
    for (const auto& widths : std::vector<std::vector<std::int64_t>>{{32}, {64, 32, 96}, {64, 33}, {1504}}) {
      for (const bool bias : {false, true}) {
        const bool many = widths[0] > 1000;  // sums that leave the cache
        if (many && rows < 700) continue;
        const std::int64_t width = many ? 192 : 64;
        Maps m(width, widths, bias);
        Tensors inputs = {normal({rows, width + 6}, 9).narrow(1, 3, width)};
        m.append_random(inputs);
        const Operation f = [&](const Tensors& in) {
          m.set(in, 1);
          if (m.maps.size() == 1) return joint(in[0], {&m.maps[0]})[0];
          if (m.maps.size() == 2) return at::cat(joint(in[0], {&m.maps[0], &m.maps[1]}), -1);
          return at::cat(joint(in[0], {&m.maps[0], &m.maps[1], &m.maps[2]}), -1);
        };
        compare(fmt::format("{} maps of {} rows, bias {}", widths.size(), rows, bias), f, inputs, 1,
                own_if(widths.back() % 32 == 0));
      }
    }
  }
}

// The last one is wider before than behind, and its sums leave the cache.
TEST(TileOperations, ProductPlusResidual) {
  for (const auto& [in_width, out_width] :
       {std::pair{32, 64}, std::pair{33, 64}, std::pair{128, 64}, std::pair{1376, 192}}) {
    Maps m(in_width, {out_width}, true);
    Tensors inputs = {normal({3, 45, in_width}, 10), normal({3, 45, out_width + 16}, 11).narrow(2, 16, out_width)};
    m.append_random(inputs);
    compare(
        fmt::format("product of {} plus residual", in_width),
        [&](const Tensors& in) {
          m.set(in, 2);
          return m.maps[0](in[0], in[1]);
        },
        inputs, 2, own_if(in_width % 32 == 0));
  }
}

// The last one has so many weights that the operands of their gradients are kept for all rows.
TEST(TileOperations, GatedMlp) {
  for (const auto kind : {Gate::silu, Gate::gelu_tanh}) {
    for (const auto& [rows, D, F] : {std::tuple{1, 32, 64}, std::tuple{33, 64, 96}, std::tuple{700, 32, 32},
                                     std::tuple{7, 33, 64}, std::tuple{450, 256, 416}}) {
      for (const bool residual : {false, true}) {
        Weights weights(at::kCPU);
        const GatedMlp mlp(Scope(weights), D, F, kind);
        Tensors inputs = {normal({rows, D}, 12), normal({rows, D + 2}, 13).narrow(1, 1, D)};
        for (const auto& p : weights.params()) inputs.push_back(normal(p.tensor.sizes(), 14 + inputs.size()) * 0.2);
        compare(
            fmt::format("mlp of {} rows, {} {}, residual {}", rows, D, F, residual),
            [&](const Tensors& in) {
              for (std::size_t i = 0; i < 3; ++i) weights.params()[i].tensor = in[2 + i];
              return residual ? mlp(in[0], {nullptr, in[1]}) : mlp(in[0]) + in[1] * 0;
            },
            inputs, 2, own_if(D % 32 == 0));
      }
    }
  }
}

/// Weights of a block among the inputs of an operation, from `first` on; gains near one.
void append_weights(Tensors& inputs, Weights& weights) {
  for (const auto& p : weights.params()) {
    const at::Tensor w = normal(p.tensor.sizes(), 40 + inputs.size());
    inputs.push_back(p.tensor.dim() == 2 ? w * 0.1 : 1 + w * 0.2);
  }
}
void set_weights(Weights& weights, const Tensors& in, std::size_t first) {
  for (std::size_t i = 0; i < weights.params().size(); ++i) weights.params()[i].tensor = in[first + i];
}

// Norm, projections, norms of the heads, rotation, attention and residual as they stand together in a block.
TEST(TileOperations, AttentionBlock) {
  for (const auto kind : {QkNorm::none, QkNorm::per_head, QkNorm::projection}) {
    for (const std::int64_t d : {64, 48}) {
      for (const std::int64_t kv_heads : {1, 2}) {
        Weights weights(at::kCPU);
        AttentionShape shape{.d = d, .heads = 2, .kv_heads = kv_heads, .head_dim = 32, .rope = {32, 1e3}, .scale = 0.2};
        shape.qk_norm = kind;
        shape.bias = kind == QkNorm::none;
        shape.norm_offset = 0.5;
        const Attention attention(Scope(weights), shape);
        const RmsNorm norm(Scope(weights), "n", d, 1e-3, 0.25);
        Tensors inputs = {normal({3, 37, d}, 30)};
        append_weights(inputs, weights);
        compare(
            fmt::format("attention of width {}, norm {}, {} key heads", d, static_cast<int>(kind), kv_heads),
            [&](const Tensors& in) {
              set_weights(weights, in, 1);
              return attention(in[0], {&norm, in[0]});
            },
            inputs, 1, own_if(d % 32 == 0));
      }
    }
  }
}

TEST(TileOperations, MlpBlock) {
  for (const std::int64_t rows : {1, 33, 300}) {
    Weights weights(at::kCPU);
    const GatedMlp mlp(Scope(weights), 64, 96, Gate::silu);
    const RmsNorm norm(Scope(weights), "n", 64, 1e-3, 1);
    Tensors inputs = {normal({2, rows, 66}, 31).narrow(2, 1, 64), normal({2, rows, 64}, 32)};
    append_weights(inputs, weights);
    for (const bool residual_is_x : {false, true}) {
      compare(
          fmt::format("mlp block of {} rows, x again {}", rows, residual_is_x),
          [&](const Tensors& in) {
            set_weights(weights, in, 2);
            return residual_is_x ? mlp(in[0], {&norm, in[0]}) + in[1] : mlp(in[0], {&norm, in[1]});
          },
          inputs, 2, own_if(true));
    }
  }
}

// In one chunk and in several; the losses' own rounding is that of bf16 logits.
TEST(TileOperations, CrossEntropy) {
  for (const auto& [rows, D, V] : {std::tuple{1, 32, 32}, std::tuple{33, 64, 96}, std::tuple{700, 32, 160}}) {
    for (const std::int64_t chunk : {0, 40}) {
      const at::Tensor targets = at::arange(rows, at::kLong).mul(7).remainder(V);
      compare(
          fmt::format("cross entropy of {} rows, V {}, chunk {}", rows, V, chunk),
          [&](const Tensors& in) { return cross_entropy(in[0], in[1], targets, 0, chunk) * rows; },  // the sum
          {normal({rows, D + 2}, 17).narrow(1, 1, D), normal({V, D}, 18) * 0.3}, 1, own_if(true));
    }
  }
}

TEST(TileOperations, ServeWhatTheTablePromises) {
  const at::Tensor x = at::ones({4, 64}, at::kBFloat16), w = at::ones({32, 64});
  EXPECT_EQ(tile_linear_serves(x, w), tile_kernels<Bf16>() != nullptr);
  EXPECT_EQ(tile_linear_serves(x.to(at::kFloat), w), tile_kernels<float>() != nullptr);
  EXPECT_FALSE(tile_linear_serves(x.to(at::kDouble), w));
  EXPECT_FALSE(tile_linear_serves(x, w.to(at::kBFloat16)));
  EXPECT_FALSE(tile_linear_serves(x, at::ones({33, 64})));
  // 2 million weights are too many for tile registers, 4 million for vectors.
  for (const at::Tensor& rows : {x, x.to(at::kFloat)}) {
    EXPECT_EQ(tile_linear_serves(rows, {w, at::ones({1 << 15, 64})}), tile_linear_serves(rows, w) && !has_tile_registers());
    EXPECT_FALSE(tile_linear_serves(rows, {w, at::ones({1 << 16, 64})}));
  }
  EXPECT_FALSE(tile_linear_serves(at::ones({0, 64}, at::kBFloat16), w));
  const WithKernels plain(Kernels::reference);
  EXPECT_FALSE(tile_linear_serves(x, w));
}

}  // namespace
}  // namespace equisweep::tile_tests
