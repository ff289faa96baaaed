// fp32 products in parts of bf16 (core/amx_parts.inc) against fp64: that they lose nothing which fp32 has.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "models/kernels/gemm.h"
#include "tests/models/compare_kernels.inc"

namespace equisweep::test_parts {
namespace {

using fused_tests::normal;
using Int = std::int64_t;

float* floats(const at::Tensor& x) { return static_cast<float*>(x.mutable_data_ptr()); }

struct Parts : ::testing::Test {
  void SetUp() override {
    if (!has_tile_registers() || !amx_parts_kernels()) GTEST_SKIP() << "this machine has no AMX, or it is forbidden";
  }
};

/// A B, A [M, K], B [K, N], by the kernels of a table.
at::Tensor product(const TileKernels<float>& kernels, const at::Tensor& a, const at::Tensor& b) {
  const Int M = a.size(0), K = a.size(1), N = b.size(1);
  const at::Tensor rows = at::empty({(M + 31) / 32 * 32 * K * kernels.bytes}, at::kChar),
                   panels = at::empty({K * N * kernels.bytes}, at::kChar), c = at::empty({M, N});
  kernels.pack(floats(b), N, false, K, N, panels.mutable_data_ptr());
  TileTerm term{a.const_data_ptr(), K, panels.const_data_ptr(), K};
  if (kernels.arrange) {
    kernels.arrange(floats(a), K, M, K, rows.mutable_data_ptr());
    term.a = rows.const_data_ptr();
  }
  kernels.rows(M, N, &term, 1, {floats(c), N, nullptr, nullptr, 0});
  return c;
}

/// X^T Y by the kernels of a table.
at::Tensor product_over_rows(const TileKernels<float>& kernels, const at::Tensor& x, const at::Tensor& y) {
  const Int rows = x.size(0), M = x.size(1), N = y.size(1);
  const at::Tensor left = at::empty({rows * M * kernels.bytes}, at::kChar),
                   right = at::empty({rows * N * kernels.bytes}, at::kChar), sums = at::empty({M * N}),
                   w = at::empty({M, N});
  kernels.left(floats(x), M, rows, M, rows, left.mutable_data_ptr());
  kernels.right(floats(y), N, rows, N, rows, right.mutable_data_ptr());
  kernels.add(M, N, rows, left.const_data_ptr(), rows, right.const_data_ptr(), rows, floats(sums), false);
  for (Int i = 0; i < M * N / 1024; ++i)
    kernels.finish(floats(sums) + 1024 * i, 1, 0, false, floats(w) + i / (N / 32) * 32 * N + i % (N / 32) * 32, N);
  return w;
}

/// The largest error of c, each as a share of the sum of the terms' sizes.
double error(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide_a = a.to(at::kDouble), wide_b = b.to(at::kDouble);
  const at::Tensor off = (c.to(at::kDouble) - at::mm(wide_a, wide_b)).abs() / at::mm(wide_a.abs(), wide_b.abs());
  return off.max().item<double>();
}

// The three parts of a number are that number: with the identity on either side nothing is rounded.
TEST_F(Parts, TimesTheIdentityIsExact) {
  at::Tensor x = normal({64, 96}, 1).to(at::kFloat);
  // All bits of the significand, exponents from 2^-90 to 2^90.
  x = at::ldexp(x, at::arange(96).sub(48).mul(15).div(8, "floor").expand({64, 96})).contiguous();
  EXPECT_TRUE(at::equal(product(*amx_parts_kernels(), x, at::eye(96)), x));
  EXPECT_TRUE(at::equal(product(*amx_parts_kernels(), at::eye(64), x), x));
  EXPECT_TRUE(at::equal(product_over_rows(*amx_parts_kernels(), at::eye(64), x), x));
  EXPECT_TRUE(at::equal(product_over_rows(*amx_parts_kernels(), x, at::eye(64)), x.t()));
}

// Closer to the exact product than the same sums in fp32 on vectors, which the largest error of any element shows; also
// where the sizes of the terms differ by orders.
TEST_F(Parts, AreAsExactAsFloat) {
  for (const Int K : {32, 160, 1056}) {
    for (const double spread : {0.0, 3.0}) {  // of the logarithms of sizes
      const auto random = [&](at::IntArrayRef shape, std::uint64_t seed) {
        return normal(shape, seed).mul(normal(shape, seed + 1).mul(spread).exp()).to(at::kFloat);
      };
      const at::Tensor a = random({64, K}, 2), b = random({K, 64}, 4);
      const double in_parts = error(product(*amx_parts_kernels(), a, b), a, b),
                   over_rows = error(product_over_rows(*amx_parts_kernels(), a.t().contiguous(), b), a, b),
                   in_floats = error(product(*avx512_tile_kernels(), a, b), a, b);
      EXPECT_LT(in_parts, in_floats) << K << " " << spread;
      EXPECT_LT(over_rows, in_floats) << K << " " << spread;
    }
  }
}

// What is not finite shows in every sum that it is part of, and in no other.
TEST_F(Parts, KeepWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), std::nextafterf(INFINITY, 0.0F)}) {
    at::Tensor a = normal({32, 64}, 6).to(at::kFloat);
    const at::Tensor b = normal({64, 32}, 7).to(at::kFloat), before = product(*amx_parts_kernels(), a, b);
    floats(a)[5 * 64 + 40] = bad;
    const at::Tensor after = product(*amx_parts_kernels(), a, b);
    for (Int row = 0; row < 32; ++row) {
      if (row == 5)
        EXPECT_FALSE(after[row].isfinite().any().item<bool>()) << bad;
      else
        EXPECT_TRUE(at::equal(after[row], before[row])) << bad << " " << row;
    }
  }
  // All bits set is a NaN whose rounding could wrap around.
  at::Tensor a = at::ones({32, 32});
  const std::uint32_t bits = 0x7fffffffU;
  std::memcpy(floats(a), &bits, sizeof bits);
  EXPECT_TRUE(product(*amx_parts_kernels(), a, at::ones({32, 32}))[0].isnan().all().item<bool>());
}

}  // namespace
}  // namespace equisweep::test_parts
