// The kernels of cuda_rows.h, flash attention and grouped products against the plain ATen form in fp64 on the CPU.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/cuda.h"
#include "models/blocks/attention.h"
#include "models/blocks/device_linear.h"
#include "models/blocks/loss.h"
#include "models/blocks/mlp.h"
#include "models/blocks/moe.h"
#include "models/blocks/norm.h"
#include "models/blocks/rope.h"
#include "models/kernels/fused.inc"
#include "tests/cuda/gpu.h"
#include "tests/models/compare_kernels.inc"

namespace equisweep::test_cuda_kernels {
namespace {

using fused_tests::normal, fused_tests::NormOf, fused_tests::Operation, fused_tests::outcome, fused_tests::Tensors;

class CudaKernels : public testing::OnGpu {};

/// Values and gradients of f on the GPU, with our kernels, against those of the plain form in fp64 on the CPU, of the same
/// rounded inputs. `narrow` and the bounds as in compare_kernels.inc. `repeats`: whether sums have one order.
void compare(const std::string& what, const Operation& f, const Tensors& inputs, std::size_t narrow, bool repeats = true,
             std::initializer_list<const char*> only = {"fp64", "fp32", "bf16"}) {
  for (const auto& [name, dtype, bound] : fused_tests::kPrecisions) {
    if (std::find(only.begin(), only.end(), std::string_view(name)) == only.end()) continue;
    Tensors given, exact;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool rounded = inputs[i].is_floating_point();
      const auto type = i < narrow ? dtype : at::promote_types(dtype, at::kFloat);
      given.push_back(
          at::empty_strided(inputs[i].sizes(), inputs[i].strides(),
                            inputs[i].options().dtype(rounded ? type : inputs[i].scalar_type()).device(at::kCUDA)));
      given.back().copy_(inputs[i]);
      exact.push_back(rounded ? given.back().cpu().to(at::kDouble) : given.back().cpu());
    }
    const Tensors expected = outcome(f, exact, Kernels::reference);
    const Tensors ours = outcome(f, given, Kernels::fused), again = outcome(f, given, Kernels::fused);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(ours[i].is_cuda());
      const double error = (ours[i].cpu().to(at::kDouble) - expected[i]).abs().max().item<double>();
      EXPECT_LE(error, bound * (1 + expected[i].abs().max().item<double>())) << what << " " << name << " result " << i;
      if (repeats) {
        EXPECT_TRUE(at::equal(ours[i], again[i])) << what << " " << name << " result " << i << ": not the same twice";
      }
    }
  }
}

TEST_F(CudaKernels, AreThere) {
  EXPECT_NE(cuda_row_kernels<float>(), nullptr);
  EXPECT_FALSE(cuda_device_names().empty());
}

TEST_F(CudaKernels, RmsNorm) {
  for (const std::int64_t width : {1, 7, 33, 64, 130, 1024, 1152, 2056, 5000}) {
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

TEST_F(CudaKernels, NormAndRotation) {
  for (const std::int64_t C : {2, 6, 32, 34, 64, 96, 128, 256, 320}) {
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

TEST_F(CudaKernels, Gates) {
  for (const auto kind : {Gate::silu, Gate::gelu_tanh, Gate::clamped}) {
    for (const std::int64_t width : {1, 7, 33, 200, 4096}) {
      if (kind != Gate::clamped) {
        const Operation f = [&](const Tensors& in) { return gated(in[0], in[1], kind); };
        compare("gate", f, {normal({3, 11, width}, 9) * 3, normal({3, 11, width}, 10)}, 2);
      }
      for (const bool interleaved : {false, true})
        compare(
            fmt::format("joint gate {} {}", width, interleaved),
            // A limit beyond all entries: the slope jumps there, and in bf16 some would round to its other side.
            [&](const Tensors& in) {
              return gated_joint(in[0], {kind, 1.3, 20.0}, interleaved);
            },
            {normal({33, 2 * width}, 11)}, 1);
    }
  }
  const at::Tensor gate = at::tensor({-1e30, -1e4, -90.0, -1e-30, 0.0, 90.0, 1e4}, at::kDouble).to(at::kCUDA, at::kFloat);
  const at::Tensor expected = at::tensor({0.0, 0.0, 0.0, 0.0, 0.0, 90.0, 1e4}, at::kDouble);
  for (const auto kind : {Gate::silu, Gate::gelu_tanh}) {
    const at::Tensor h = gated(gate, at::ones_like(gate), kind).cpu().to(at::kDouble);
    EXPECT_TRUE(at::allclose(h, expected, 1e-6, 1e-6)) << h;
  }
}

TEST_F(CudaKernels, ClampedGateBeyondItsLimit) {
  const at::Tensor joint = at::tensor({9.0, 2.0, 1.0, -9.0, 1.0, 9.0}, at::kDouble).to(at::kCUDA).requires_grad_();
  const at::Tensor h = gated_joint(joint, {Gate::clamped, 1.7, 7.0}, true);
  h.sum().backward();
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-1.7 * x)); };
  const at::Tensor expected = at::tensor({3 * 7 * sigmoid(7), -6 * sigmoid(1), 8 * sigmoid(1)}, at::kDouble);
  EXPECT_TRUE(at::allclose(h.detach().cpu(), expected, 1e-14, 1e-14));
  const at::Tensor gradient = joint.grad().cpu();
  EXPECT_EQ(gradient[0].item<double>(), 0);  // gate beyond the limit
  EXPECT_EQ(gradient[3].item<double>(), 0);  // up below
  EXPECT_EQ(gradient[5].item<double>(), 0);  // up beyond
  EXPECT_NE(gradient[1].item<double>(), 0);
}

TEST_F(CudaKernels, CrossEntropy) {
  for (const std::int64_t V : {1, 7, 33, 300, 4096, 50001}) {
    for (const double softcap : {0.0, 2.5}) {
      const at::Tensor targets = at::arange(33, at::kLong).mul(7).remainder(V);
      compare(
          fmt::format("cross entropy V {}", V),
          [&](const Tensors& in) { return cross_entropy(in[0], in[1], in[2], softcap, 10) * 33; },
          {normal({33, 7}, 23), normal({V, 7}, 24), targets}, 1);
    }
  }
}

TEST_F(CudaKernels, CrossEntropyOfLargeLogits) {
  const at::Tensor z = at::tensor({100.0, -100.0, 3e4, -3e4}, at::kDouble).view({4, 1});
  const at::Tensor one = at::ones({2, 1}, at::kDouble), targets = at::tensor({std::int64_t{2}, std::int64_t{0}});
  const at::Tensor loss = cross_entropy(one.to(at::kCUDA), z.to(at::kCUDA), targets.to(at::kCUDA), 0);
  EXPECT_DOUBLE_EQ(loss.item<double>(), (3e4 - 100) / 2);
}

TEST_F(CudaKernels, FlashAttention) {
  struct Case {
    std::int64_t B, T, H, G, C, window;
  };
  for (const auto& [B, T, H, G, C, window] :
       {Case{2, 33, 4, 2, 8, 0}, Case{1, 1, 2, 1, 8, 0}, Case{2, 130, 2, 2, 32, 0}, Case{1, 150, 3, 1, 16, 32},
        Case{2, 97, 3, 3, 32, 7}, Case{1, 200, 2, 1, 96, 50}, Case{2, 300, 4, 1, 256, 64}, Case{1, 257, 8, 2, 128, 1}}) {
    const at::Tensor q = normal({B, T, H, C}, 12), k = normal({B, T, G, C}, 13),
                     v = normal({B, G, T, C}, 14).transpose(1, 2);
    const std::string what = fmt::format("attention T {} C {} window {}", T, C, window);
    const double scale = 1 / std::sqrt(static_cast<double>(C));
    const auto w = window;
    compare(
        what, [&](const Tensors& in) { return attend(in[0], in[1], in[2], scale, w); }, {q, k, v}, 3, /*repeats=*/false);
    compare(
        what + " with sinks", [&](const Tensors& in) { return attend(in[0], in[1], in[2], scale, w, in[3]); },
        {q, k, v, normal({H}, 15)}, 3, /*repeats=*/false);
  }
}

TEST_F(CudaKernels, LinearMapsOfOneInput) {
  const at::Tensor x = normal({3, 50, 24}, 70), first = normal({40, 24}, 71), second = normal({8, 24}, 72),
                   b1 = normal({40}, 73), b2 = normal({8}, 74), residual = normal({3, 50, 40}, 75);
  const auto plain = [](const at::Tensor& in, const at::Tensor& w, const at::Tensor& b) { return at::linear(in, w, b); };
  compare("two maps",
          [&](const Tensors& in) {
            if (device_linear_serves(in[0], {in[1], in[2]})) return device_linear(in[0], {in[1], in[2]});
            return at::cat({at::linear(in[0], in[1]), at::linear(in[0], in[2])}, -1);
          },
          {x, first, second}, 1, true, {"bf16"});
  compare("two maps with biases",
          [&](const Tensors& in) {
            if (device_linear_serves(in[0], {in[1], in[2]})) return device_linear(in[0], {in[1], in[2]}, {in[3], in[4]});
            return at::cat({plain(in[0], in[1], in[3]), plain(in[0], in[2], in[4])}, -1);
          },
          {x, first, second, b1, b2}, 1, true, {"bf16"});
  compare("a map and a residual",
          [&](const Tensors& in) {
            if (device_linear_serves(in[0], in[2])) return device_linear(in[0], in[2], {}, in[1]);
            return at::linear(in[0], in[2]) + in[1];
          },
          {x, residual, first}, 2, true, {"bf16"});
}

TEST_F(CudaKernels, GradientsOfWeightsAreSummedInFp32AndAdded) {
  const at::Tensor x = normal({500, 24}, 76).to(at::kCUDA, at::kBFloat16),
                   dy = normal({500, 40}, 77).to(at::kCUDA, at::kBFloat16);
  const at::Tensor w = normal({40, 24}, 78).to(at::kCUDA, at::kFloat).requires_grad_();
  const at::Tensor expected = at::mm(dy.to(at::kDouble).t(), x.to(at::kDouble));
  for (const double times : {1.0, 2.0}) {  // the second is added to the first
    device_linear(x, w).backward(dy);
    const double error = (w.grad().to(at::kDouble) - times * expected).norm().item<double>();
    EXPECT_LE(error, 1e-6 * times * expected.norm().item<double>()) << times;
  }
}

/// A whole mixture of experts against itself on the CPU in fp64. The router reads a logit for each of the first experts out
/// of the token, half a unit from its neighbours, so that no rounding changes who is chosen; the other experts get no token.
TEST_F(CudaKernels, MixtureOfExperts) {
  constexpr std::int64_t N = 300, D = 64, E = 24, K = 2, R = 32, kUsed = 12;
  at::Tensor x = normal({1, N, D}, 60);
  const at::Tensor order =
      at::rand({N, kUsed}, at::make_generator<at::CPUGeneratorImpl>(std::uint64_t{62})).argsort(1, false);
  x.narrow(2, 0, kUsed).copy_((order * 0.5).unsqueeze(0));
  x.select(2, D - 1).fill_(1);
  at::Tensor router = at::zeros({E, D}, at::kDouble);
  router.narrow(0, 0, kUsed).narrow(1, 0, kUsed).copy_(at::eye(kUsed, at::kDouble));
  router.narrow(0, kUsed, E - kUsed).select(1, D - 1).fill_(-20);
  for (const bool clamped : {false, true}) {
    MoeShape shape{.d = D, .experts = E, .top_k = K, .expert_ff = R};
    shape.clamped = clamped;
    shape.routing = clamped ? Routing::top_k_then_softmax : Routing::softmax_then_top_k;
    shape.limit = 20;
    const auto run = [&](at::Device device, at::ScalarType weight_type, at::ScalarType type, Kernels k) {
      const fused_tests::WithKernels mode(k);
      Weights weights(at::kCPU);
      const Moe moe(Scope(weights), shape);
      std::uint64_t seed = 40;
      for (Param& p : weights.params()) {
        at::Tensor w = (normal(p.tensor.sizes(), ++seed) * 0.3).to(at::kBFloat16);
        if (p.role == Role::router) w = router;
        if (p.name == "router.bias") w.zero_();
        p.tensor = w.to(device, weight_type).detach().clone().requires_grad_();
      }
      const at::Tensor in = x.to(at::kBFloat16).to(device, type).detach().requires_grad_();
      std::vector<at::Tensor> router_logits;
      const at::Tensor y = moe(in, router_logits);
      y.backward(normal(y.sizes(), 61).to(y.device(), y.scalar_type()));
      Tensors results = {y.detach(), in.grad()};
      for (const Param& p : weights.params()) results.push_back(p.tensor.grad());
      for (at::Tensor& t : results) t = t.cpu().to(at::kDouble);
      return results;
    };
    const Tensors expected = run(at::kCPU, at::kDouble, at::kDouble, Kernels::reference);
    for (const auto& [name, dtype, bound] : fused_tests::kPrecisions) {
      const Tensors ours = run(at::kCUDA, at::promote_types(dtype, at::kFloat), dtype, Kernels::fused);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double error = (ours[i] - expected[i]).norm().item<double>();
        EXPECT_LE(error, bound * expected[i].norm().item<double>()) << name << " clamped " << clamped << " result " << i;
      }
    }
  }
}

}  // namespace
}  // namespace equisweep::test_cuda_kernels
