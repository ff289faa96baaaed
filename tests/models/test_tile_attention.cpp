// The attention kernels, each called directly, against softmax attention in
// fp64: those that this machine does not choose, too.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/kernels.h"
#include "models/kernels/gemm.h"
#include "tests/models/compare_kernels.inc"

namespace equisweep::test_tile_attention {
namespace {

using fused_tests::normal;

struct Case {
  std::int64_t T, heads, C, window;
  bool sinks;
};
// One block of queries and several, whole and not; windows within a block of 32
// keys, at its edge and over several.
constexpr Case kCases[] = {{1, 1, 32, 0, false},  {17, 2, 64, 0, true},   {32, 1, 32, 0, false},
                           {64, 2, 32, 32, true}, {97, 3, 32, 7, true},   {130, 2, 96, 33, false},
                           {160, 1, 64, 0, true}, {200, 2, 32, 65, true}, {256, 1, 128, 0, false}};

/// y, dq, dk, dv and dsinks of softmax attention: q, dy [T, heads, C], k, v [T,
/// C].
std::vector<at::Tensor> expected(const Case& c, double scale, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& sinks, const at::Tensor& dy) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& x : {q, k, v, sinks}) leaves.push_back(x.to(at::kDouble).detach().requires_grad_(true));
  const at::Tensor t = at::arange(c.T),
                   age = t.unsqueeze(1) - t;  // of query and key
  const at::Tensor hidden = c.window > 0 ? (age < 0).logical_or(age >= c.window) : age < 0;
  const at::Tensor logits_HTS = (at::einsum("thc,sc->hts", {leaves[0], leaves[1]}) * scale)
                                    .masked_fill(hidden, -std::numeric_limits<double>::infinity());
  const at::Tensor sink_HT1 = leaves[3].view({c.heads, 1, 1}).expand({c.heads, c.T, 1});
  const at::Tensor p_HTS =
      c.sinks ? at::cat({logits_HTS, sink_HT1}, -1).softmax(-1).narrow(-1, 0, c.T) : logits_HTS.softmax(-1);
  const at::Tensor y = at::einsum("hts,sc->thc", {p_HTS, leaves[2]});
  y.backward(dy.to(at::kDouble));
  std::vector<at::Tensor> results = {y.detach()};
  for (std::size_t i = 0; i < (c.sinks ? 4 : 3); ++i) results.push_back(leaves[i].grad());
  return results;
}

template <class T>
HeadRows<T> rows_of(const at::Tensor& x_THC) {
  return {static_cast<T*>(x_THC.mutable_data_ptr()), x_THC.stride(0), x_THC.stride(1)};
}

/// Every result within `bound` of 1 + its largest entry, in views whose other
/// elements stay.
template <class T>
void expect_attention(const char* name, const TileAttentionKernels<T>& kernels, double bound) {
  const auto type = std::is_same_v<T, float> ? at::kFloat : at::kBFloat16;
  for (const Case& c : kCases) {
    const auto random = [&](std::int64_t heads, std::uint64_t seed) {
      return normal({c.T, heads, c.C + 3}, seed).to(type).narrow(2, 1, c.C);
    };
    const at::Tensor q = random(c.heads, 1), k = random(1, 2), v = random(1, 3), dy = random(c.heads, 4);
    const at::Tensor sinks = normal({c.heads}, 5).to(at::kFloat), dsinks = at::full({c.heads}, NAN, at::kFloat),
                     peak_and_share = at::full({2, c.heads, c.T}, NAN, at::kFloat);
    const auto output = [&](std::int64_t heads) { return at::full({c.T, heads, c.C + 2}, 9, type); };
    const at::Tensor y = output(c.heads), dq = output(c.heads), dk = output(1), dv = output(1);
    const auto inner = [&](const at::Tensor& x) { return x.narrow(2, 1, c.C); };
    const double scale = 0.3;
    float* const peak = static_cast<float*>(peak_and_share.mutable_data_ptr());
    const TileAttention<T> task = {c.T,
                                   c.C,
                                   c.heads,
                                   c.window,
                                   static_cast<float>(scale),
                                   rows_of<const T>(q),
                                   rows_of<const T>(k),
                                   rows_of<const T>(v),
                                   c.sinks ? static_cast<const float*>(sinks.const_data_ptr()) : nullptr,
                                   peak,
                                   peak + c.heads * c.T};
    const std::int64_t bytes = kernels.scratch_bytes(c.T, c.C);
    const at::Tensor memory = at::full({bytes + 128}, -1,
                                       at::kChar);  // NaN where it is read before it is written
    const auto begin = (reinterpret_cast<std::uintptr_t>(memory.data_ptr()) + 63) / 64 * 64;
    void* const scratch = reinterpret_cast<void*>(begin);
    const at::Tensor behind =
        memory.narrow(0, static_cast<std::int64_t>(begin - reinterpret_cast<std::uintptr_t>(memory.data_ptr())) + bytes, 64);
    kernels.forward(task, rows_of<T>(inner(y)), scratch);
    memory.narrow(0, 0, memory.size(0)).fill_(-1);
    kernels.backward(task, rows_of<const T>(dy), rows_of<T>(inner(dq)), rows_of<T>(inner(dk)), rows_of<T>(inner(dv)),
                     c.sinks ? static_cast<float*>(dsinks.mutable_data_ptr()) : nullptr, scratch);
    EXPECT_TRUE(at::equal(behind, at::full({64}, -1, at::kChar))) << name << ": wrote behind its memory";
    const std::vector<at::Tensor> right = expected(c, scale, q, k.squeeze(1), v.squeeze(1), sinks, dy);
    const std::vector<at::Tensor> found = {inner(y), inner(dq), inner(dk).squeeze(1), inner(dv).squeeze(1), dsinks};
    for (std::size_t i = 0; i < right.size(); ++i) {
      const double error = at::max(at::abs(found[i].to(at::kDouble) - right[i])).item().toDouble();
      EXPECT_LE(error, bound * (1 + right[i].abs().max().item().toDouble()))
          << name << fmt::format(" T {} heads {} C {} window {} result {}", c.T, c.heads, c.C, c.window, i);
    }
    for (const at::Tensor& x : {y, dq, dk, dv})
      for (const std::int64_t column : {std::int64_t{0}, c.C + 1})
        EXPECT_TRUE((x.select(2, column) == 9).all().item().toBool());
  }
}

// Some ten roundings of fp32; twice as many where up to 256 products are added one at a time.
TEST(TileAttention, OnVectors) {
  if (instruction_set() != InstructionSet::avx512 || !avx512_attention_kernels()) GTEST_SKIP() << "no AVX-512";
  expect_attention("AVX-512", *avx512_attention_kernels(), 2e-6);
}
TEST(TileAttention, InParts) {
  if (!has_tile_registers() || !amx_parts_attention_kernels()) GTEST_SKIP() << "no AMX";
  expect_attention("AMX in parts", *amx_parts_attention_kernels(), 1e-6);
}
// Some ten roundings of bf16.
TEST(TileAttention, InBf16) {
  if (!has_tile_registers() || !amx_attention_kernels()) GTEST_SKIP() << "no AMX";
  expect_attention("AMX", *amx_attention_kernels(), 4e-2);
}
TEST(TileAttention, InBf16OnVectors) {
  if (!has_bf16_vectors() || !avx512_bf16_attention_kernels()) GTEST_SKIP() << "no AVX512-BF16";
  expect_attention("AVX512-BF16", *avx512_bf16_attention_kernels(), 4e-2);
}

}  // namespace
}  // namespace equisweep::test_tile_attention
