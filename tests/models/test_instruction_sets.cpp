// The loops compiled for each instruction set that this machine has, against those for any machine.
#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "core/kernels.h"
#include "models/kernels/gemm.h"
#include "models/kernels/rows.h"

namespace equisweep::instruction_set_tests {
namespace {

template <class T>
std::vector<const RowKernels<T>*> sets() {
  std::vector<const RowKernels<T>*> found = {row_kernels_default<T>()};
  const std::string capability = at::get_cpu_capability();
  if (capability != "DEFAULT" && capability != "NO AVX") found.push_back(row_kernels_avx2<T>());
  if (capability == "AVX512") found.push_back(row_kernels_avx512<T>());
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_bf16_vectors()) found.push_back(row_kernels_avx512_bf16());
  }
  std::erase(found, nullptr);
  return found;
}

TEST(InstructionSets, AgreeUpToTheOrderOfSums) {
  const std::int64_t rows = 5, width = 77;
  const at::Tensor x = at::randn({rows, width}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{1})) * 4;
  std::vector<at::Tensor> norms, losses, gates;
  for (const auto* set : sets<float>()) {
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

/// What functions read and write, in fp64: rows, which are rounded to T, and what has the type of sums.
struct Results {
  at::Tensor rows, sums;
};

/// Rows of one element type with their sums in another, each followed by elements that nobody may write.
template <class T>
class Buffers {
 public:
  using W = Wide<T>;

  T* rows(const at::Tensor& x) { return keep<T>(rows_, x, std::is_same_v<T, Bf16> ? at::kBFloat16 : at::kDouble); }
  W* sums(const at::Tensor& x) { return keep<W>(sums_, x, std::is_same_v<T, Bf16> ? at::kFloat : at::kDouble); }
  /// Everything that was kept; fails where something was written behind.
  Results all() const { return {joined(rows_), joined(sums_)}; }

 private:
  static constexpr std::int64_t kSpare = 40;
  using Kept = std::vector<std::pair<at::Tensor, std::int64_t>>;

  template <class E>
  static E* keep(Kept& kept, const at::Tensor& x, at::ScalarType type) {
    const at::Tensor copy = at::full({x.numel() + kSpare}, 7, at::TensorOptions(type));
    copy.narrow(0, 0, x.numel()).copy_(x.reshape({-1}));
    kept.emplace_back(copy, x.numel());
    return static_cast<E*>(copy.data_ptr());
  }
  static at::Tensor joined(const Kept& kept) {
    std::vector<at::Tensor> parts;
    for (const auto& [x, count] : kept) {
      parts.push_back(x.narrow(0, 0, count).to(at::kDouble));
      EXPECT_TRUE(at::equal(x.narrow(0, count, kSpare), at::full({kSpare}, 7, x.options()))) << parts.size();
    }
    return at::cat(parts);
  }

  Kept rows_, sums_;
};

/// All that the functions of `set` make of the same numbers, rows of `width`.
template <class T>
Results results_of_rows(const RowKernels<T>& set, std::int64_t width) {
  using W = Wide<T>;
  const std::int64_t rows = 3;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(width));
  const auto random = [&](std::int64_t n) { return at::randn({n}, generator, at::kBFloat16); };
  Buffers<T> of;
  const auto zeros = [&](std::int64_t n) { return of.rows(at::zeros({n})); };
  const auto zero_sums = [&](std::int64_t n) { return of.sums(at::zeros({n})); };
  {
    const W* const gain = of.sums(random(width) + 1);
    const T *const x = of.rows(random(rows * (width + 2))), *const dy = of.rows(random(rows * width));
    W* const r = zero_sums(rows);
    set.norm(x, width + 2, gain, W(1e-5), zeros(rows * width), r, rows, width);
    set.norm_backward(x, width + 2, r, gain, dy, zeros(rows * width), of.sums(random(width)), rows, width);
    T* const in_place = of.rows(random(rows * width));
    set.sum(in_place, dy, in_place, rows * width);
  }
  for (const std::int64_t heads : {1, 2}) {
    if (width % 2 != 0) continue;
    const std::int64_t C = width, all = heads * C, stride = all + 6;
    const at::Tensor angle = random(2 * C / 2).to(at::kDouble);  // two positions
    const W* const c = of.sums(angle.cos().to(at::kBFloat16));
    const W* const s = of.sums(angle.sin().to(at::kBFloat16));
    const Rotation<W> rotation{c, s, 2, heads, C};
    for (const std::int64_t normed : {std::int64_t{0}, C, all}) {
      const T *const x = of.rows(random(rows * stride)), *const dy = of.rows(random(rows * all));
      const W* const gain = normed > 0 ? of.sums(random(all) + 1) : nullptr;
      W* const r = normed > 0 ? zero_sums(rows * heads) : nullptr;
      W* const dgain = normed > 0 ? zero_sums(all) : nullptr;
      const std::unique_ptr<W[]> scratch(new W[static_cast<std::size_t>(all)]);
      set.rotate(x, stride, gain, normed, W(1e-5), rotation, zeros(rows * all), r, 1, rows - 1);
      set.rotate_backward(x, stride, gain, normed, r, rotation, dy, zeros(rows * all), dgain, scratch.get(), 1, rows - 1);
    }
  }
  for (const Gate kind : {Gate::silu, Gate::gelu_tanh, Gate::clamped}) {
    for (const std::int64_t step : {1, 2}) {
      for (const bool biased : {false, true}) {
        const GateForm form{kind, 1.5, 2};
        const std::int64_t apart = step == 1 ? width : 1, stride = 2 * width + 2;
        const T* const joint = of.rows(random(rows * 2 * width) * 3);
        const GateRows<const T> in{joint, joint + apart, 2 * width, step, width};
        T* const out = zeros(rows * stride);
        const W* const bias = biased ? of.sums(random(2 * width)) : nullptr;
        const W* const bias_up = biased ? bias + apart : nullptr;
        const W* const scale = biased ? of.sums(random(rows)) : nullptr;
        set.gate(form, in, bias, bias_up, zeros(rows * width), rows);
        set.gate_backward(form, in, bias, bias_up, of.rows(random(rows * width)), scale,
                          {out, out + apart, stride, step, width}, biased ? zeros(rows * width) : nullptr,
                          biased ? zero_sums(rows) : nullptr, rows);
      }
    }
  }
  const std::vector<std::int64_t> targets = {0, width - 1, width / 2};
  for (const bool gradient : {false, true})
    set.cross_entropy(of.rows(random(rows * width) * 4), width, targets.data(), gradient, W(1), zero_sums(rows), rows);
  return of.all();
}

// Sums and intermediate results in fp32, and one rounding: no more than half a unit of bf16's last place from fp64, but for
// what fp32 loses. Nothing beyond the rows is written.
TEST(InstructionSets, RowsOfBf16AreRoundedOnce) {
  const auto excess = [](const at::Tensor& ours, const at::Tensor& exact, double relative) {
    return ((ours - exact).abs() - exact.abs() * relative).max().template item<double>();
  };
  for (const std::int64_t width : {1, 2, 15, 16, 18, 31, 32, 64, 78, 96, 160}) {
    const Results exact = results_of_rows(*row_kernels_default<double>(), width);
    const auto found = sets<Bf16>();
    for (std::size_t i = 0; i < found.size(); ++i) {
      const Results ours = results_of_rows(*found[i], width);
      EXPECT_LE(excess(ours.rows, exact.rows, 0x1p-8), 2e-5) << "width " << width << ", set " << i;
      EXPECT_LE(excess(ours.sums, exact.sums, 0x1p-20), 2e-5) << "width " << width << ", set " << i;
    }
  }
  if (has_bf16_vectors() && row_kernels_avx512_bf16()) {
    EXPECT_EQ(&row_kernels<Bf16>(), row_kernels_avx512_bf16());
  }
}

// Far out a sigmoid is 0 or 1, and what is not a number stays none.
TEST(InstructionSets, GatesOfBf16AtTheEndsOfTheRange) {
  const at::Tensor gate = at::tensor({100.0F, -100.0F, 1e4F, -1e4F, NAN, 0.0F}).to(at::kBFloat16);
  const at::Tensor up = at::full({6}, 1.5, at::kBFloat16);
  const auto data = [](const at::Tensor& x) { return static_cast<Bf16*>(x.data_ptr()); };
  for (const auto* const set : sets<Bf16>()) {
    for (const Gate kind : {Gate::silu, Gate::gelu_tanh}) {
      const at::Tensor h = at::empty_like(gate), dgate = at::empty_like(gate), dup = at::empty_like(gate);
      const at::Tensor dh = at::ones({6}, at::kBFloat16);
      set->gate({kind}, {data(gate), data(up), 6, 1, 6}, nullptr, nullptr, data(h), 1);
      set->gate_backward({kind}, {data(gate), data(up), 6, 1, 6}, nullptr, nullptr, data(dh), nullptr,
                         {data(dgate), data(dup), 6, 1, 6}, nullptr, nullptr, 1);
      const at::Tensor wide = gate.to(at::kFloat);
      for (const std::int64_t i : {0, 2, 5}) EXPECT_EQ(dup[i].item<float>(), wide[i].item<float>()) << i;
      for (const std::int64_t i : {1, 3}) {  // the least sigmoid, some 1e-38, times g^3
        EXPECT_LE(std::abs(dup[i].item<float>()), 1e-20) << i;
        EXPECT_LE(std::abs(dgate[i].item<float>()), 1e-20) << i;
      }
      for (const std::int64_t i : {0, 2}) EXPECT_EQ(dgate[i].item<float>(), 1.5F) << i;
      EXPECT_EQ(dgate[5].item<float>(), 0.75F);
      for (const at::Tensor& x : {h, dgate, dup}) EXPECT_TRUE(std::isnan(x[4].item<float>()));
    }
  }
}

TEST(InstructionSets, LossesOfBf16RowsWithInfinities) {
  for (const auto* const set : sets<Bf16>()) {
    const at::Tensor z = at::tensor({-INFINITY, 0.0F, 1.0F, -INFINITY, -300.0F}).to(at::kBFloat16).repeat({8});
    const std::int64_t target = 1;
    float loss = 0;
    set->cross_entropy(static_cast<Bf16*>(z.data_ptr()), 40, &target, true, 1, &loss, 1);
    const double sum = 8 * (1 + std::exp(-1.0));
    EXPECT_NEAR(loss, 1 + std::log(sum), 1e-5);
    const at::Tensor p = z.to(at::kDouble);
    for (const std::int64_t i : {0, 3, 4, 39}) EXPECT_EQ(p[i].item<double>(), 0) << i;
    EXPECT_NEAR(p[2].item<double>(), 1 / sum, 0.004 / sum);
    EXPECT_NEAR(p[1].item<double>(), std::exp(-1.0) / sum - 1, 0.004);
    // Where one logit dominates, its loss is 0, and so is its gradient.
    const at::Tensor sure = at::full({40}, -1e3, at::kBFloat16);
    sure[target] = 199;
    set->cross_entropy(static_cast<Bf16*>(sure.data_ptr()), 40, &target, true, 1, &loss, 1);
    EXPECT_EQ(loss, 0);
    EXPECT_EQ(sure[target].item<float>(), 0);
    // What is not finite is not hidden.
    const at::Tensor bad = at::full({40}, 1.0, at::kBFloat16);
    bad[35] = NAN;
    set->cross_entropy(static_cast<Bf16*>(bad.data_ptr()), 40, &target, true, 1, &loss, 1);
    EXPECT_TRUE(std::isnan(loss));
    EXPECT_TRUE(at::isnan(bad).all().item<bool>());
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
