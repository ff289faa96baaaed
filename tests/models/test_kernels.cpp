// Fused operations against their plain ATen form in fp64, in every precision, on sizes that fill no vector register, on
// strided views, and for one thread and two.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "models/blocks/attention.h"
#include "models/blocks/fused_experts.h"
#include "models/blocks/linear.h"
#include "models/blocks/loss.h"
#include "models/blocks/mlp.h"
#include "models/blocks/norm.h"
#include "models/blocks/rope.h"
#include "models/kernels/fused.inc"
#include "tests/models/compare_kernels.inc"

namespace equisweep::fused_kernel_tests {
namespace {

using fused_tests::compare, fused_tests::normal, fused_tests::NormOf, fused_tests::Operation, fused_tests::outcome,
    fused_tests::Tensors;

TEST(FusedKernels, RmsNorm) {
  for (const std::int64_t width : {1, 7, 33, 64, 130}) {
    for (const double offset : {0.0, 1.0}) {
      NormOf n(width, 0.01, offset);
      const Operation f = [&](const Tensors& in) { return n.with(in[1])(in[0]); };
      compare(fmt::format("norm {}", width), f, {normal({5, 33, width}, 1), normal({width}, 2)}, 1);
      compare(fmt::format("norm of a slice {}", width), f,
              {normal({5, 33, width + 3}, 3).narrow(2, 2, width), normal({width}, 4)}, 1);
      compare(fmt::format("norm of a transposed tensor {}", width), f,
              {normal({width, 33, 5}, 5).permute({2, 1, 0}), normal({width}, 6)}, 1);
    }
  }
}

TEST(FusedKernels, NormAndRotation) {
  for (const std::int64_t C : {2, 6, 32, 34}) {
    for (const std::int64_t H : {1, 3}) {
      const Rope rope{C, 100.0, RopeScaling{.factor = 4}};
      const at::Tensor whole = normal({2, 33, H * C + 5}, 7), x = whole.narrow(2, 5, H * C);
      compare(
          fmt::format("rotation {}x{}", H, C), [&](const Tensors& in) { return normalize_and_rotate(rope, {}, in[0]); }, {x},
          1);
      for (const std::int64_t width : {C, H * C}) {
        NormOf n(width, 0.01, 1);
        compare(
            fmt::format("norm over {} and rotation {}x{}", width, H, C),
            [&](const Tensors& in) { return normalize_and_rotate(rope, n.with(in[1]), in[0].contiguous()); },
            {x, normal({width}, 8)}, 1);
      }
    }
  }
}

TEST(FusedKernels, Gates) {
  for (const auto kind : {Gate::silu, Gate::gelu_tanh}) {
    for (const std::int64_t width : {1, 7, 33, 200}) {
      const Operation f = [&](const Tensors& in) { return gated(in[0], in[1], kind); };
      compare("gate", f, {normal({3, 11, width}, 9) * 3, normal({3, 11, width}, 10)}, 2);
      const at::Tensor joint = normal({33, 2 * width}, 11);
      compare("halves", f, {joint.narrow(1, 0, width), joint.narrow(1, width, width)}, 2);
    }
  }
}

TEST(FusedKernels, GatesAtTheEndsOfTheRange) {
  for (const auto kind : {Gate::silu, Gate::gelu_tanh}) {
    const at::Tensor gate = at::tensor({-1e30, -1e4, -90.0, -1e-30, 0.0, 90.0, 1e4}, at::kDouble), up = at::ones_like(gate);
    const Operation f = [&](const Tensors& in) { return gated(in[0], in[1], kind); };
    const Tensors fused = outcome(f, {gate.to(at::kFloat), up.to(at::kFloat)}, Kernels::fused);
    const at::Tensor expected = at::tensor({0.0, 0.0, 0.0, 0.0, 0.0, 90.0, 1e4}, at::kDouble);
    EXPECT_TRUE(at::allclose(fused[0].to(at::kDouble), expected, 1e-6, 1e-6)) << fused[0];
  }
  const at::Tensor nan = at::full({3}, NAN);
  EXPECT_TRUE(at::isnan(gated(nan, nan, Gate::silu)).all().item<bool>());
  EXPECT_TRUE(at::isnan(gated(nan.to(at::kBFloat16), nan.to(at::kBFloat16), Gate::gelu_tanh)).all().item<bool>());
}

struct AttentionCase {
  std::int64_t B, T, H, G, C, window;
};

TEST(FusedKernels, Attention) {
  for (const auto& [B, T, H, G, C, window] :
       {AttentionCase{2, 33, 4, 2, 7, 0}, AttentionCase{1, 1, 2, 1, 8, 0}, AttentionCase{2, 130, 2, 2, 32, 0},
        AttentionCase{1, 150, 3, 1, 16, 32}, AttentionCase{1, 100, 2, 1, 33, 7}, AttentionCase{1, 70, 1, 1, 4, 65},
        AttentionCase{2, 1, 2, 1, 32, 0}, AttentionCase{1, 33, 4, 2, 64, 0}, AttentionCase{2, 97, 3, 3, 32, 7},
        AttentionCase{1, 200, 2, 1, 96, 50}, AttentionCase{1, 70, 2, 1, 32, 33}}) {
    const at::Tensor q = normal({B, T, H, C + 3}, 12).narrow(3, 1, C), k = normal({B, T, G, C}, 13),
                     v = normal({B, G, T, C}, 14).transpose(1, 2), sinks = normal({H}, 15);
    const std::string what = fmt::format("attention T {} C {} window {}", T, C, window);
    const auto w = window;
    compare(
        what, [&](const Tensors& in) { return attend(in[0], in[1], in[2], 0.3, w); }, {q, k, v}, 3);
    compare(
        what + " with sinks", [&](const Tensors& in) { return attend(in[0], in[1], in[2], 0.3, w, in[3]); },
        {q, k, v, sinks}, 3);
  }
}

/// Every expert's matrices for every pair of token and expert, from the definition.
at::Tensor experts_by_definition(const Tensors& in, const at::Tensor& experts_NK, bool in_out, const GateForm& form) {
  const auto chosen = [&](const at::Tensor& w) {
    auto shape = experts_NK.sizes().vec();
    shape.insert(shape.end(), w.sizes().begin() + 1, w.sizes().end());
    return w.index_select(0, experts_NK.reshape({-1})).view(shape);
  };
  const auto times = [&](const at::Tensor& x_NKi, const at::Tensor& w) {
    return at::einsum(in_out ? "nki,nkio->nko" : "nki,nkoi->nko", {x_NKi, chosen(w)});
  };
  const auto K = experts_NK.size(1), R = in[2].size(in_out ? 2 : 1) / 2;
  at::Tensor joint = times(in[0].unsqueeze(1).expand({-1, K, -1}), in[2]), inner;
  if (form.kind == Gate::clamped) {
    joint = joint + chosen(in[4]);
    const at::Tensor gate = joint.slice(-1, 0, {}, 2).clamp_max(form.limit),
                     up = joint.slice(-1, 1, {}, 2).clamp(-form.limit, form.limit);
    inner = (up + 1) * gate * at::sigmoid(gate * form.alpha);
  } else {
    inner = at::silu(joint.narrow(2, 0, R)) * joint.narrow(2, R, R);
  }
  at::Tensor y = times(inner, in[3]);
  if (form.kind == Gate::clamped) y = y + chosen(in[5]);
  return (y * in[1].unsqueeze(2)).sum(1);
}

TEST(FusedKernels, Experts) {
  struct Case {
    std::int64_t N, D, E, K, R;
  };
  for (const auto& [N, D, E, K, R] :
       {Case{1, 7, 3, 1, 5}, Case{33, 7, 5, 2, 33}, Case{600, 16, 3, 3, 8}, Case{40, 33, 70, 2, 1}, Case{1, 32, 3, 1, 32},
        Case{33, 64, 5, 2, 96}, Case{600, 32, 3, 2, 64}}) {
    for (const bool clamped : {false, true}) {
      // The slope jumps at the limit, and among many products in bf16 some round to its other side.
      const GateForm form{clamped ? Gate::clamped : Gate::silu, 1.3, N * R > 2000 ? 20.0 : 0.8};
      const at::Tensor order =
          at::rand({N, E}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{16})).argsort(1, false);
      const at::Tensor experts = order.narrow(1, 0, K).contiguous();
      Tensors inputs = {normal({N, D}, 17), normal({N, K}, 18).abs(),
                        normal(clamped ? at::IntArrayRef{E, D, 2 * R} : at::IntArrayRef{E, 2 * R, D}, 19) * 0.3,
                        normal(clamped ? at::IntArrayRef{E, R, D} : at::IntArrayRef{E, D, R}, 20) * 0.3};
      if (clamped) inputs.insert(inputs.end(), {normal({E, 2 * R}, 21) * 0.3, normal({E, D}, 22) * 0.3});
      const Operation f = [&](const Tensors& in) {
        if (kernels() == Kernels::reference) return experts_by_definition(in, experts, clamped, form);
        const auto bias = [&](std::size_t i) { return clamped ? in[i] : at::Tensor(); };
        return fused_experts(in[0], in[1], experts, {in[2], bias(4), in[3], bias(5), clamped}, form);
      };
      compare(fmt::format("experts N {} R {} clamped {}", N, R, clamped), f, inputs, 1);
    }
  }
}

TEST(FusedKernels, Embedding) {
  for (const std::int64_t N : {1, 33, 700}) {
    for (const std::int64_t D : {1, 7, 33, 64}) {
      for (const double scale : {1.0, 1.37}) {
        const std::int64_t V = 19;
        const at::Tensor tokens = at::arange(N, at::kLong).square().remainder(V).unsqueeze(0);  // some never, some often
        const Operation f = [&](const Tensors& in) {
          Weights weights(at::kCPU);
          const Embedding embedding(Scope(weights), "e", V, D);
          weights.params()[0].tensor = in[1];
          return embedding(tokens, in[0].scalar_type(), scale) + in[0];
        };
        compare(fmt::format("embedding of {} tokens, width {}, times {}", N, D, scale), f,
                {normal({1, N, D}, 26), normal({V, D}, 25)}, 1);
      }
    }
  }
}

TEST(FusedKernels, EmbeddingRefusesATokenBeyondTheTable) {
  Weights weights(at::kCPU);
  const Embedding embedding(Scope(weights), "e", 4, 3);
  weights.params()[0].tensor.detach().fill_(1);
  for (const std::int64_t bad : {-1, 4}) {
    EXPECT_THROW(embedding(at::tensor({std::int64_t{0}, bad}, at::kLong), at::kBFloat16), c10::Error);
  }
}

// A width of 7 is nothing for tiles, whose loss test_tiles.cpp holds to the same bits on every number of threads: the
// products with the head are ATen's, and MKL cuts them among the threads. With kernels for AVX2, which it takes on AMD's
// processors, what lies at the edge of a cut is summed in another order.
TEST(FusedKernels, CrossEntropy) {
  for (const std::int64_t V : {1, 7, 33, 300}) {
    for (const double softcap : {0.0, 2.5}) {
      const at::Tensor targets = at::arange(33, at::kLong).mul(7).remainder(V);
      compare(
          fmt::format("cross entropy V {}", V),
          // Times the number of tokens, else the bound, relative to one, would hide the gradients of a mean.
          [&](const Tensors& in) { return cross_entropy(in[0], in[1], targets, softcap, 10) * 33; },
          {normal({33, 7}, 23), normal({V, 7}, 24)}, 1, fused_tests::kNotOwn);
    }
  }
}

// at::parallel_for is compiled here, and is a plain loop where the compiler was not told of OpenMP.
TEST(FusedKernels, LoopsRunOnAllThreads) {
  at::set_num_threads(2);
  std::atomic<int> parallel_rows = 0, parallel_tasks = 0;
  over_rows(std::int64_t{1} << 17, 1, [&](std::int64_t, std::int64_t) { parallel_rows += at::in_parallel_region(); });
  over_tasks(8, [&](std::int64_t) { parallel_tasks += at::in_parallel_region(); });
  at::set_num_threads(1);
  EXPECT_EQ(parallel_rows, 2);
  EXPECT_EQ(parallel_tasks, 8);
}

TEST(FusedKernels, CrossEntropyRefusesATargetBeyondTheVocabulary) {
  const at::Tensor h = at::ones({2, 3}), head = at::ones({4, 3});
  for (const std::int64_t bad : {-1, 4}) {
    EXPECT_THROW(cross_entropy(h, head, at::tensor({std::int64_t{0}, bad}, at::kLong), 0), c10::Error);
  }
}

}  // namespace
}  // namespace equisweep::fused_kernel_tests
