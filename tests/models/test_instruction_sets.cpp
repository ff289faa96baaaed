// The loops compiled for each instruction set that this machine has, against those for any machine.
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <gtest/gtest.h>

#include "core/kernels.h"
#include "models/kernels/gemm.h"
#include "models/kernels/rows.h"

namespace equisweep::instruction_set_tests {
namespace {

std::vector<const RowKernels<float>*> sets() {
  std::vector<const RowKernels<float>*> found = {row_kernels_default<float>()};
  const std::string capability = at::get_cpu_capability();
  if (capability != "DEFAULT" && capability != "NO AVX") found.push_back(row_kernels_avx2<float>());
  if (capability == "AVX512") found.push_back(row_kernels_avx512<float>());
  return found;
}

TEST(InstructionSets, AgreeUpToTheOrderOfSums) {
  const std::int64_t rows = 5, width = 77;
  const at::Tensor x = at::randn({rows, width}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{1})) * 4;
  std::vector<at::Tensor> norms, losses, gates;
  for (const auto* set : sets()) {
    const at::Tensor gain = at::linspace(0.5, 2, width), r = at::empty({rows});
    norms.push_back(at::empty_like(x));
    set->norm(x.data_ptr<float>(), width, gain.data_ptr<float>(), 1e-5F, norms.back().data_ptr<float>(), r.data_ptr<float>(),
              rows, width);
    const std::vector<std::int64_t> targets = {0, 76, 3, 3, 50};
    at::Tensor z = x.clone(), loss = at::empty({rows});
    set->cross_entropy(z.data_ptr<float>(), width, targets.data(), true, 1.0F, loss.data_ptr<float>(), rows);
    losses.push_back(at::cat({z.view({-1}), loss}));
    gates.push_back(at::empty_like(x));
    set->gate({Gate::clamped}, {x.data_ptr<float>(), x.data_ptr<float>(), width, 1, width}, nullptr, nullptr,
              gates.back().data_ptr<float>(), rows);
  }
  for (std::size_t i = 1; i < norms.size(); ++i) {
    EXPECT_TRUE(at::allclose(norms[i], norms[0], 1e-6, 1e-6)) << i;
    EXPECT_TRUE(at::allclose(losses[i], losses[0], 1e-5, 1e-6)) << i;
    EXPECT_TRUE(at::allclose(gates[i], gates[0], 1e-5, 1e-6)) << i;
  }
}

TEST(InstructionSets, Bf16RoundsAsATenDoes) {
  at::Tensor x =
      at::randn({1001}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{2})) * at::linspace(-60, 60, 1001).exp();
  x[0] = NAN, x[1] = INFINITY, x[2] = -INFINITY, x[3] = 3.3895e38, x[4] = -0.0, x[5] = 1e-42;
  const at::Tensor ours = at::empty({1001}, at::kBFloat16);
  row_kernels<Bf16>().round(x.data_ptr<float>(), static_cast<Bf16*>(ours.data_ptr()), 1001);
  EXPECT_TRUE(at::allclose(ours.to(at::kFloat), x.to(at::kBFloat16).to(at::kFloat), 0, 0, /*equal_nan=*/true));
}

/// The products of bf16 that this machine has, those that it does not choose, too.
std::vector<const Bf16Products*> all_bf16_products() {
  std::vector<const Bf16Products*> found;
  if (has_tile_registers()) found.push_back(amx_products());
  if (has_bf16_vectors()) found.push_back(avx512_bf16_products());
  std::erase(found, nullptr);
  return found;
}

void multiply_by(const Bf16Products& products, const Bf16Product& product) {
  const at::Tensor memory = at::full({products.scratch_bytes(product) + 64}, -1, at::kChar);
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory.data_ptr()) + 63) / 64 * 64;
  products.multiply(product, reinterpret_cast<void*>(begin));
}

// Every combination of transposition, of sizes that fill no tile, and of what happens to C.
TEST(SmallProducts, EqualTheProductInFp64) {
  for (const std::int64_t M : {1, 16, 33}) {
    for (const std::int64_t N : {1, 31, 48}) {
      for (const std::int64_t K : {1, 2, 31, 64, 65}) {
        for (int flags = 0; flags < 8; ++flags) {
          const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0, add = (flags & 4) != 0;
          auto generator = at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{3});
          const auto random = [&](std::int64_t m, std::int64_t n) {
            return at::randn({m, n + 3}, generator, at::kBFloat16);
          };
          const at::Tensor a = ta ? random(K, M) : random(M, K), b = tb ? random(N, K) : random(K, N);
          const auto exact = [&](const at::Tensor& x, bool transposed) {
            const at::Tensor y = x.narrow(1, 0, x.size(1) - 3).to(at::kDouble);
            return transposed ? y.t() : y;
          };
          const at::Tensor product = at::mm(exact(a, ta), exact(b, tb));
          const at::Tensor c = at::ones({M, N + 2}), c16 = at::ones({M, N + 2}, at::kBFloat16);
          const auto* A = static_cast<const Bf16*>(a.const_data_ptr());
          const auto* B = static_cast<const Bf16*>(b.const_data_ptr());
          multiply(ta, tb, M, N, K, A, a.size(1), B, b.size(1), c.data_ptr<float>(), N + 2, add);
          multiply(ta, tb, M, N, K, A, a.size(1), B, b.size(1), static_cast<Bf16*>(c16.data_ptr()), N + 2);
          const at::Tensor expected = at::ones({M, N + 2}, at::kDouble), expected16 = expected.clone();
          expected.narrow(1, 0, N).copy_(add ? product + 1 : product);
          expected16.narrow(1, 0, N).copy_(product);
          EXPECT_TRUE(at::allclose(c.to(at::kDouble), expected, 1e-5, 1e-4)) << M << " " << N << " " << K << " " << flags;
          EXPECT_TRUE(at::allclose(c16.to(at::kDouble), expected16, 1e-2, 1e-2))
              << M << " " << N << " " << K << " " << flags;
          for (const Bf16Products* const products : all_bf16_products()) {
            c.fill_(1), c16.fill_(1);
            auto* const C = c.data_ptr<float>();
            auto* const C16 = static_cast<Bf16*>(c16.data_ptr());
            multiply_by(*products, {ta, tb, M, N, K, A, a.size(1), B, b.size(1), C, nullptr, N + 2, add});
            multiply_by(*products, {ta, tb, M, N, K, A, a.size(1), B, b.size(1), nullptr, C16, N + 2, false});
            EXPECT_TRUE(at::allclose(c.to(at::kDouble), expected, 1e-5, 1e-4)) << M << " " << N << " " << K << " " << flags;
            EXPECT_TRUE(at::allclose(c16.to(at::kDouble), expected16, 1e-2, 1e-2))
                << M << " " << N << " " << K << " " << flags;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace equisweep::instruction_set_tests
