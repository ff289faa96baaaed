// Shapes: N tokens, D width, V vocabulary.
#include "models/blocks/tile_loss.h"

#include <ATen/ATen.h>

#include "models/blocks/weight_gradients.inc"

namespace equisweep {
namespace {

using Int = std::int64_t;

/// Rows of logits at a time.
constexpr Int kLogitRows = 64;

template <class T>
LossWithGradients loss_on_tiles(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& targets_N,
                                bool with_gradient, Int chunk) {
  const TileKernels<T>& kernels = *tile_kernels<T>();
  Int stride = 0;
  const at::Tensor hidden = uniform_rows(hidden_ND, stride), head = head_VD.contiguous();
  const Int N = hidden.size(0), D = hidden.size(1), V = head.size(0);
  chunk = (std::min(chunk, N) + 31) / 32 * 32;
  LossWithGradients out;
  const Panels<T> to_logits(head, true);
  const std::optional<Panels<T>> to_hidden = with_gradient ? std::make_optional<Panels<T>>(head, false) : std::nullopt;
  if (with_gradient) out.dhidden_ND = at::empty(hidden.sizes(), hidden.options()), out.dhead_VD = at::empty_like(head);
  const at::Tensor losses = at::empty({N}, hidden.options().dtype(at::kFloat));
  const Packed<T> of_hidden(with_gradient ? chunk * D : 0), of_logits(with_gradient ? chunk * V : 0);
  const Scratch<float> sums(with_gradient ? V * D : 0);
  // No power of two, so that the rows of a tile do not share one place in the cache.
  const Int row = V + 32;
  for (Int begin = 0; begin < N; begin += chunk) {
    const Int rows = std::min(chunk, N - begin);
    over_tasks((rows + kLogitRows - 1) / kLogitRows, [&](Int block) {
      const Int from = block * kLogitRows, n = std::min(kLogitRows, rows - from);
      const Scratch<T> z(n * row);
      const T* const h = elements<const T>(hidden) + (begin + from) * stride;
      const LeftFactor<T> in(h, stride, n, D);
      const TileTerm logits = in.times(to_logits.get());
      kernels.rows(n, V, &logits, 1, {z.get(), row, nullptr, nullptr, 0});
      for (Int i = 0; i < n; ++i)
        row_kernels<T>().cross_entropy(z.get() + i * row, V, targets_N.const_data_ptr<Int>() + begin + from + i,
                                       with_gradient, 1 / static_cast<float>(N), elements<float>(losses) + begin + from + i,
                                       1);
      if (!with_gradient) return;
      const LeftFactor<T> dlogits(z.get(), row, n, V);
      const TileTerm gradient = dlogits.times(to_hidden->get());
      kernels.rows(n, D, &gradient, 1, {elements<T>(out.dhidden_ND) + (begin + from) * D, D, nullptr, nullptr, 0});
      kernels.left(h, stride, n, D, chunk, of_hidden.at(16 * from));
      kernels.right(z.get(), row, n, V, chunk, of_logits.at(16 * from));
    });
    if (!with_gradient) continue;
    // Each task writes 32 rows of dhead, so that no sum depends on the threads.
    over_tasks(V / 32, [&](Int task) {
      float* const sum = sums.get() + task * 32 * D;
      for (Int from = 0; from < rows; from += kSummedRows)
        kernels.add(D, 32, std::min(kSummedRows, rows - from), of_hidden.at(16 * from), chunk,
                    of_logits.at(task * 32 * chunk + 16 * from), chunk, sum, begin + from > 0);
      if (begin + rows < N) return;
      for (Int m = 0; m < D; m += 32)
        kernels.finish(sum + 32 * m, 1, 0, true, elements<float>(out.dhead_VD) + task * 32 * D + m, D);
    });
  }
  out.sum = losses.sum();
  return out;
}

}  // namespace

LossWithGradients tile_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& head_VD, const at::Tensor& targets_N,
                                     bool with_gradient, Int chunk) {
  return with_tile_element(hidden_ND,
                           [&]<class T>() { return loss_on_tiles<T>(hidden_ND, head_VD, targets_N, with_gradient, chunk); });
}

}  // namespace equisweep
