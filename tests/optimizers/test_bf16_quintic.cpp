// The parts of a quintic step in bf16 on tile registers and on vectors, one by one, against the same operations in double.
// Where a machine has neither there is nothing to test.

#include <gtest/gtest.h>

#include <vector>

#include "core/kernels.h"
#include "optimizers/kernels/bf16_quintic.h"
#include "optimizers/kernels/streams.inc"
#include "support.h"

namespace equisweep {
namespace test_bf16_quintic {

using namespace testing;
using Int = std::int64_t;

/// Blocks of 32 x 32 once and often, in odd numbers; k and n above what is multiplied in one go, 256, and rows that do not
/// come to whole groups of 64. [k, n]
const std::vector<std::pair<Int, Int>> kSizes = {{32, 32}, {96, 32}, {64, 160}, {96, 416}, {288, 96}, {352, 544}};

/// u of fp32 and of bf16: the error of a rounding relative to the result.
constexpr double kSingle = 0x1p-24, kHalf = 0x1p-8;

/// X [rows, columns] in bf16 on cache lines of its own, columns `padding` fewer than lie between its rows.
struct Matrix {
  Matrix(const at::Tensor& x, Int padding)
      : rows(x.size(0)), columns(x.size(1)), stride(columns + padding), memory(rows * stride) {
    memory.zero();
    const at::Tensor rounded = x.to(at::kBFloat16).contiguous();
    for (Int i = 0; i < rows; ++i) std::copy_n(elements<Bf16>(rounded) + i * columns, columns, memory.data() + i * stride);
  }
  at::Tensor exact() const {
    return at::from_blob(memory.data(), {rows, columns}, {stride, 1}, at::kBFloat16).to(at::kDouble);
  }
  Int rows, columns, stride;
  Buffer<Bf16> memory;
};

/// Largest |x - exact| / bound over the elements; a bound of zero is for what is exactly so.
double worst(const at::Tensor& x, const at::Tensor& exact, const at::Tensor& bound) {
  return ((x.to(at::kDouble) - exact).abs() / bound.clamp_min(1e-300)).max().item<double>();
}

enum class Unit { tiles, vectors };

class Bf16QuinticParts : public ::testing::TestWithParam<Unit> {
 protected:
  void SetUp() override {
    if (GetParam() == Unit::tiles)
      kernels_ = has_tile_registers() ? amx_quintic() : nullptr;
    else
      kernels_ = has_bf16_vectors() ? avx512_bf16_quintic() : nullptr;
    if (!kernels_) GTEST_SKIP() << "this machine lacks the instructions, or ATEN_CPU_CAPABILITY forbids them";
  }
  const Bf16Quintic* kernels_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Units, Bf16QuinticParts, ::testing::Values(Unit::tiles, Unit::vectors),
                         [](const auto& each) { return each.param == Unit::tiles ? "tiles" : "vectors"; });

// A sum of n products is off by at most n u of the sum of their sizes, in whatever order it is made; u doubled, since tile
// registers add pairs of products before they round.
TEST_P(Bf16QuinticParts, GramIsExactUpToSumsInFp32) {
  for (const auto& [k, n] : kSizes) {
    SCOPED_TRACE(::testing::Message() << k << " x " << n);
    const Matrix y(gaussian({k, n}, 3), 64);
    Buffer<Bf16> panels(k * n);
    Buffer<float> sums(k * k);
    sums.zero();
    kernels_->gram(y.memory.data(), y.stride, k, n, panels.data(), sums.data());
    const at::Tensor x = y.exact(), g = at::from_blob(sums.data(), {k, k}, at::kFloat);
    const at::Tensor blocks = at::arange(k).div(32, "floor"), written = blocks.unsqueeze(1).ge(blocks);
    const at::Tensor exact = at::matmul(x, x.t()) * written;
    const at::Tensor sizes = at::matmul(x.abs(), x.abs().t()) * written;
    EXPECT_LE(worst(g, exact, sizes * (2 * kSingle * static_cast<double>(n))), 1);  // and zero where nothing is written
  }
}

// P = b R + c R^2 for R = G rounded, rounded once more.
TEST_P(Bf16QuinticParts, PolynomialIsExactUpToItsRounding) {
  for (const auto& [k, n] : kSizes) {
    SCOPED_TRACE(k);
    const at::Tensor x = gaussian({k, k}, 5), g = (x + x.t()).to(at::kFloat).contiguous();
    Buffer<Bf16> r(k * k), panels(k * k), p(k * k);
    kernels_->polynomial(elements<float>(g), k, -4.5F, 2.25F, r.data(), panels.data(), p.data());
    const at::Tensor rounded = g.to(at::kBFloat16).to(at::kDouble), square = at::matmul(rounded, rounded);
    const at::Tensor exact = -4.5 * rounded + 2.25 * square;
    const at::Tensor sums = 2 * kSingle * static_cast<double>(k) * 2.25 * at::matmul(rounded.abs(), rounded.abs());
    const at::Tensor result = at::from_blob(p.data(), {k, k}, at::kBFloat16);
    EXPECT_LE(worst(result, exact, kHalf * exact.abs() * 1.01 + 1.01 * sums + kSingle * 4.5 * rounded.abs()), 1);
    EXPECT_TRUE(at::equal(at::from_blob(r.data(), {k, k}, at::kBFloat16), g.to(at::kBFloat16)));
  }
}

// Y <- a Y + P Y, rounded once.
TEST_P(Bf16QuinticParts, ApplyIsExactUpToItsRounding) {
  for (const auto& [k, n] : kSizes) {
    SCOPED_TRACE(::testing::Message() << k << " x " << n);
    const Matrix p(gaussian({k, k}, 7), 0), y(gaussian({k, n}, 9), 32);
    const at::Tensor before = y.exact(), product = at::matmul(p.exact(), before), exact = 3.5 * before + product;
    Buffer<Bf16> panels(k * n);
    kernels_->apply(p.memory.data(), k, 3.5F, y.memory.data(), y.stride, n, panels.data());
    const at::Tensor sums = 2 * kSingle * static_cast<double>(k) * at::matmul(p.exact().abs(), before.abs());
    EXPECT_LE(worst(y.exact(), exact, kHalf * exact.abs() * 1.01 + 1.01 * sums + kSingle * 3.5 * before.abs()), 1);
    const at::Tensor beyond =
        at::from_blob(y.memory.data() + n, {k - 1, y.stride - n}, {y.stride, 1}, at::kBFloat16).to(at::kDouble);
    EXPECT_EQ(norm_of(beyond), 0);
  }
}

}  // namespace test_bf16_quintic
}  // namespace equisweep
