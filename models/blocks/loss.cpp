// Shapes: N tokens, D width, V vocabulary.
#include "models/blocks/loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "models/blocks/device_linear.h"
#include "models/blocks/precision.h"
#include "models/blocks/tile_linear.h"
#include "models/blocks/tile_loss.h"
#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The losses of the rows z [n, V] and, with `gradient`, z <- (softmax(z) - onehot(target)) / N, in place.
at::Tensor row_losses(const at::Tensor& z, const at::Tensor& targets, bool gradient, std::int64_t N) {
  const auto n = z.size(0), V = z.size(1);
  const auto* target = targets.const_data_ptr<std::int64_t>();
  const at::Tensor losses = at::empty({n}, z.options().dtype(at_least_float(z.scalar_type())));
  with_element(z.scalar_type(), [&]<class T>() {
    using W = Wide<T>;
    if (z.is_cuda()) {
      TORCH_CHECK(targets.device() == z.device(), "targets on ", targets.device(), ", logits on ", z.device());
      cuda_row_kernels<T>()->cross_entropy(elements<T>(z), V, target, gradient, W(1) / static_cast<W>(N),
                                           elements<W>(losses), n, CudaQueue(z));
      return;
    }
    over_rows(n, V, [&](std::int64_t begin, std::int64_t end) {
      row_kernels<T>().cross_entropy(elements<T>(z) + begin * V, V, target + begin, gradient, W(1) / static_cast<W>(N),
                                     elements<W>(losses) + begin, end - begin);
    });
  });
  return losses;
}

void check_targets(const at::Tensor& targets_N, std::int64_t V) {
  const auto* target = targets_N.const_data_ptr<std::int64_t>();
  for (std::int64_t n = 0; n < targets_N.numel(); ++n)
    TORCH_CHECK_INDEX(target[n] >= 0 && target[n] < V, "target ", target[n], " at ", n, " is not below the vocabulary ", V);
}

struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden_ND, const at::Tensor& head_VD,
                            const at::Tensor& targets_N, double softcap, std::int64_t chunk, bool with_gradient) {
    const auto N = hidden_ND.size(0);
    const auto compute = hidden_ND.scalar_type(), wide = at_least_float(compute);
    const bool fused = fusable(hidden_ND) || cuda_fusable(hidden_ND);
    const at::Tensor targets = fused ? targets_N.contiguous() : targets_N;
    if (fused && targets.is_cpu()) check_targets(targets, head_VD.size(0));
    if (softcap == 0 && tile_linear_serves(hidden_ND, head_VD)) {
      const LossWithGradients out = tile_cross_entropy(hidden_ND, head_VD, targets, with_gradient, chunk);
      if (with_gradient) ctx->save_for_backward({out.dhidden_ND, out.dhead_VD});
      return out.sum / static_cast<double>(N);
    }
    const at::Tensor head = head_VD.to(compute);
    at::Tensor loss = at::zeros({}, hidden_ND.options().dtype(wide));
    at::Tensor dhidden_ND, dhead_VD;
    if (with_gradient) dhidden_ND = at::empty_like(hidden_ND);
    for (std::int64_t begin = 0; begin < N; begin += chunk) {
      const auto n = std::min(chunk, N - begin);
      const at::Tensor h = hidden_ND.narrow(0, begin, n), target = targets.narrow(0, begin, n).unsqueeze(1);
      at::Tensor z = at::mm(h, head.t()), slope, dz;
      if (!fused || softcap > 0) z = z.to(wide);
      if (softcap > 0) {
        z = z.div_(softcap).tanh_();
        if (with_gradient) slope = z.square().neg_().add_(1);
        z.mul_(softcap);
      }
      if (fused) {
        loss.add_(row_losses(z, targets.narrow(0, begin, n), with_gradient, N).sum());
        dz = std::move(z);
      } else {
        const at::Tensor log_p = at::log_softmax(z, -1);
        loss.sub_(log_p.gather(1, target).sum());
        z.reset();
        if (with_gradient) {
          dz = log_p.exp_().scatter_add_(1, target, at::full({n, 1}, -1.0, log_p.options()));
          dz.div_(static_cast<double>(N));
        }
      }
      if (!with_gradient) continue;
      if (slope.defined()) dz.mul_(slope);
      dz = dz.to(compute);
      at::Tensor dh = dhidden_ND.narrow(0, begin, n);
      at::mm_out(dh, dz, head);
      // Chunks are summed in the dtype of the weight: bf16 sums would lose the small ones.
      if (device_linear_serves(h, head_VD)) {
        add_product(dhead_VD, dz.t(), h);
      } else if (!dhead_VD.defined()) {
        dhead_VD = at::mm(dz.t(), h).to(head_VD.scalar_type());
      } else if (compute == head_VD.scalar_type()) {
        dhead_VD.addmm_(dz.t(), h);
      } else {
        dhead_VD.add_(at::mm(dz.t(), h));
      }
    }
    if (with_gradient) ctx->save_for_backward({dhidden_ND, dhead_VD});
    return loss.div_(static_cast<double>(N));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dloss) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor none;
    // Reading a scalar of the CPU costs nothing, and the loss is most often the root of the graph.
    if (dloss[0].is_cpu() && dloss[0].item<double>() == 1) return {saved[0], saved[1], none, none, none, none};
    const auto scaled = [&](const at::Tensor& gradient) { return gradient * dloss[0].to(gradient.scalar_type()); };
    return {scaled(saved[0]), scaled(saved[1]), none, none, none, none};
  }
};

}  // namespace

at::Tensor head_logits(const at::Tensor& hidden, const at::Tensor& head_VD, double softcap) {
  const at::Tensor z = at::linear(hidden, head_VD.to(hidden.scalar_type())).to(at_least_float(hidden.scalar_type()));
  return softcap > 0 ? (z / softcap).tanh() * softcap : z;
}

std::int64_t loss_chunk(std::int64_t tokens, std::int64_t vocabulary, bool on_gpu) {
  const std::int64_t budget = (std::int64_t{1} << (on_gpu ? 29 : 24)) / vocabulary;
  return std::min(tokens, std::max<std::int64_t>(budget, 64));
}

at::Tensor cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& targets_N, double softcap,
                         std::int64_t chunk) {
  if (chunk <= 0) chunk = loss_chunk(hidden_ND.size(0), head_VD.size(0), hidden_ND.is_cuda());
  // forward() cannot tell: the mode is off there, and weights want a gradient whether or not somebody will ask for one.
  const bool with_gradient = at::GradMode::is_enabled() && (hidden_ND.requires_grad() || head_VD.requires_grad());
  return CrossEntropyFunction::apply(hidden_ND, head_VD, targets_N, softcap, chunk, with_gradient);
}

}  // namespace equisweep
