// Shapes: N tokens, D width, V vocabulary.
#include "models/blocks/fused_embedding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Int = std::int64_t;

/// Rows of the table a task: frequent tokens stand together, and a task has to be small beside all of them.
constexpr Int kTableRows = 8;

struct FusedEmbedding : torch::autograd::Function<FusedEmbedding> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& table_any, const at::Tensor& tokens_any,
                            at::ScalarType dtype, double scale) {
    const at::Tensor table = table_any.contiguous(), tokens = tokens_any.contiguous();
    const Int N = tokens.numel(), V = table.size(0), D = table.size(1);
    const Int* const token = tokens.const_data_ptr<Int>();
    for (Int n = 0; n < N; ++n)
      TORCH_CHECK_INDEX(token[n] >= 0 && token[n] < V, "token ", token[n], " at ", n, " is not below the vocabulary ", V);
    auto shape = tokens.sizes().vec();
    shape.push_back(D);
    const at::Tensor y = at::empty(shape, table.options().dtype(dtype));
    const double factor = at::scalar_tensor(scale, at::TensorOptions().dtype(dtype)).item<double>();
    with_element(dtype, [&]<class T>() {
      over_rows(N, D, [&](Int begin, Int end) {
        for (Int n = begin; n < end; ++n) {
          T* const row = elements<T>(y) + n * D;
          row_kernels<T>().round(elements<Wide<T>>(table) + token[n] * D, row, D);
          if (factor != 1) row_kernels<T>().scale_row(row, static_cast<Wide<T>>(factor), nullptr, row, D);
        }
      });
    });
    ctx->save_for_backward({tokens});
    ctx->saved_data["V"] = V;
    ctx->saved_data["factor"] = factor;
    ctx->saved_data["table_type"] = table.scalar_type();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys) {
    const at::Tensor tokens = ctx->get_saved_variables()[0], dy = dys[0].contiguous();
    const Int N = tokens.numel(), V = ctx->saved_data["V"].toInt(), D = dy.size(-1);
    const double factor = ctx->saved_data["factor"].toDouble();
    const Int* const token = tokens.const_data_ptr<Int>();
    // A counting sort.
    std::vector<Int> begins(static_cast<std::size_t>(V) + 1, 0), places(static_cast<std::size_t>(N));
    for (Int n = 0; n < N; ++n) ++begins[static_cast<std::size_t>(token[n]) + 1];
    for (std::size_t v = 0; v < static_cast<std::size_t>(V); ++v) begins[v + 1] += begins[v];
    std::vector<Int> next(begins.begin(), begins.end() - 1);
    for (Int n = 0; n < N; ++n) places[static_cast<std::size_t>(next[static_cast<std::size_t>(token[n])]++)] = n;

    const at::Tensor dtable = at::empty({V, D}, dy.options().dtype(ctx->saved_data["table_type"].toScalarType()));
    with_element(dy.scalar_type(), [&]<class T>() {
      using W = Wide<T>;
      over_tasks((V + kTableRows - 1) / kTableRows, [&](Int task) {
        for (Int v = task * kTableRows; v < std::min(V, (task + 1) * kTableRows); ++v) {
          W* const row = elements<W>(dtable) + v * D;
          std::fill_n(row, D, W(0));
          for (Int i = begins[static_cast<std::size_t>(v)]; i < begins[static_cast<std::size_t>(v) + 1]; ++i)
            row_kernels<T>().add_rows(elements<T>(dy) + places[static_cast<std::size_t>(i)] * D, 1, D, row);
          if (factor != 1) std::transform(row, row + D, row, [by = static_cast<W>(factor)](W x) { return x * by; });
        }
      });
    });
    return {dtable, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool fused_embedding_serves(const at::Tensor& table_VD, const at::Tensor& tokens, at::ScalarType dtype) {
  return fusable(table_VD) && tokens.numel() > 0 && tokens.scalar_type() == at::kLong &&
         (dtype == at::kBFloat16 || dtype == at::kFloat || dtype == at::kDouble) &&
         table_VD.scalar_type() == at_least_float(dtype);
}

at::Tensor fused_embedding(const at::Tensor& table_VD, const at::Tensor& tokens, at::ScalarType dtype, double scale) {
  return FusedEmbedding::apply(table_VD, tokens, dtype, scale);
}

}  // namespace equisweep
