// Shapes: K width of the rows that come in, N_i of those that go out by weight i.
#include "models/blocks/tile_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/blocks/weight_gradients.inc"

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Int = std::int64_t;

/// One of the turned products: the rows before, the norm's scale and factors.
struct Turned {
  at::Tensor raw, scale, r;  ///< scale and r: undefined without a norm

  Int width() const { return scale.defined() ? scale.size(0) : 0; }
};

/// The dimensions of x with another width.
std::vector<Int> shape_with(const at::Tensor& x, Int width) {
  auto shape = x.sizes().vec();
  shape.back() = width;
  return shape;
}

template <class T>
struct TileLinear : torch::autograd::Function<TileLinear<T>> {
  /// `parameters`: `count` weights, then as many biases or none, then the gains of the heads or none.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, at::TensorList parameters, Int count, Int biased,
                               const std::optional<at::Tensor>& gain, double eps, double offset,
                               const std::optional<at::Tensor>& residual_or, const TurnedHeads& heads) {
    const InputRows<T> in(x, scale_of(gain, offset), eps);
    Int residual_stride = 0;
    const at::Tensor residual = residual_or ? uniform_rows(*residual_or, residual_stride) : at::Tensor();
    const auto weights = static_cast<std::size_t>(count), after = weights + static_cast<std::size_t>(biased);
    std::vector<Panels<T>> panels;
    std::vector<Turned> turned(heads.cos.defined() ? 2 : 0);
    Int widest = in.width;
    variable_list biases, saved = {in.x, in.scale, heads.cos, heads.sin}, products, ys;
    for (std::size_t i = 0; i < weights; ++i) {
      const Int N = parameters[i].size(0);
      widest = std::max(widest, N);
      saved.push_back(parameters[i].contiguous());
      panels.emplace_back(saved.back(), true);
      products.push_back(at::empty(shape_with(x, N), x.options()));
      ys.push_back(products[i]);
      if (biased > 0) biases.push_back(parameters[weights + i].to(at::kFloat).contiguous());
      if (i >= turned.size()) continue;
      if (parameters.size() > after) {
        turned[i].scale = scale_of(parameters[after + i], heads.offset);
        turned[i].r = at::empty({in.rows * (N / turned[i].width())}, heads.cos.options());
      }
      ys[i] = at::empty({x.size(0), x.size(1), N / heads.C, heads.C}, x.options());
    }
    over_row_blocks(in.rows, block_rows<T>(widest), [&](Int begin, Int n) {
      float r[kBlockRows];
      std::optional<Scratch<T>> spare;
      const Rows<T> rows = in.block(begin, n, spare, r);
      const LeftFactor<T> factor(rows.data, rows.stride, n, in.width);
      for (std::size_t i = 0; i < weights; ++i) {
        const Int N = products[i].size(-1);
        const TileTerm term = factor.times(panels[i].get());
        const T* const add = residual.defined() ? elements<const T>(residual) + begin * residual_stride : nullptr;
        tile_kernels<T>()->rows(n, N, &term, 1,
                                {elements<T>(products[i]) + begin * N, N,
                                 biases.empty() ? nullptr : elements<float>(biases[i]), add, residual_stride});
        if (i >= turned.size()) continue;
        const Rotation<float> rotation{elements<float>(heads.cos), elements<float>(heads.sin), x.size(1), N / heads.C,
                                       heads.C};
        row_kernels<T>().rotate(elements<T>(products[i]), N, elements<float>(turned[i].scale), turned[i].width(),
                                static_cast<float>(heads.eps), rotation, elements<T>(ys[i]), elements<float>(turned[i].r),
                                begin, n);
      }
    });
    for (std::size_t i = 0; i < turned.size(); ++i)
      saved.insert(saved.end(), {turned[i].scale.defined() ? products[i] : at::Tensor(), turned[i].scale, turned[i].r});
    ctx->save_for_backward(saved);
    ctx->saved_data["count"] = count;
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["heads_C"] = heads.C;
    if (gain) ctx->saved_data["gain_type"] = gain->scalar_type();
    if (biased > 0) ctx->saved_data["bias_type"] = parameters[weights].scalar_type();
    if (parameters.size() > after) ctx->saved_data["head_gain_type"] = parameters[after].scalar_type();
    ctx->saved_data["residual"] = residual.defined();
    return ys;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& dys_any) {
    const auto saved = ctx->get_saved_variables();
    const InputRows<T> in(saved[0], saved[1], ctx->saved_data["eps"].toDouble());
    const at::Tensor &cos = saved[2], &sin = saved[3];
    const auto weights = static_cast<std::size_t>(ctx->saved_data["count"].toInt());
    const bool biased = ctx->saved_data.count("bias_type") > 0, normed = in.scale.defined();
    const Int K = in.width, C = ctx->saved_data["heads_C"].toInt();
    std::vector<Turned> turned;
    for (std::size_t i = 4 + weights; i < saved.size(); i += 3) turned.push_back({saved[i], saved[i + 1], saved[i + 2]});
    std::vector<Panels<T>> panels;
    variable_list dys, dproducts;
    std::vector<Int> begins = {0};
    for (std::size_t i = 0; i < weights; ++i) {
      const Int N = saved[4 + i].size(0);
      dys.push_back(dys_any[i].contiguous());
      dproducts.push_back(i < turned.size() ? at::empty({in.rows, N}, in.x.options()) : dys[i]);
      panels.emplace_back(saved[4 + i], false);
      begins.push_back(begins.back() + N);
    }
    // The narrower side is the one to transpose.
    const Int all = begins.back();
    const bool turn_x = K <= all;
    std::vector<typename WeightGradients<T>::Product> products;
    std::vector<Int> widths;
    for (std::size_t i = 0; i < weights; ++i) {
      products.push_back({at::empty_like(saved[4 + i]), turn_x, 0, i});
      widths.push_back(begins[i + 1] - begins[i]);
    }
    const RowPieces pieces(in.rows);
    const WeightGradients<T> sums(pieces, {K}, widths, turn_x, products);
    // Of the biases, of the gain before the products, of the gains behind them.
    std::vector<Int> vectors = {0, biased ? all : 0};
    vectors.push_back(vectors.back() + (normed ? K : 0));
    for (const auto& t : turned) vectors.push_back(vectors.back() + t.width());
    const at::Tensor vector_sums = at::zeros({pieces.count, vectors.back()}, in.x.options().dtype(at::kFloat));
    const at::Tensor dx = at::empty(in.x.sizes(), in.x.options());
    pieces.over_blocks(block_rows<T>(std::max(K, all)), [&](const RowBlock& block) {
      const Int begin = block.begin, n = block.rows;
      float r[kBlockRows];
      std::optional<Scratch<T>> spare_x;
      std::vector<LeftFactor<T>> factors;
      std::vector<TileTerm> terms;
      const Scratch<T> dnormed(normed ? n * K : 0);
      float* const vector = elements<float>(vector_sums) + block.piece * vectors.back();
      const Rows<T> rows = in.block(begin, n, spare_x, r);
      const auto operands = sums.operands(block);
      operands.hold(0, rows.data, rows.stride);
      for (std::size_t i = 0; i < weights; ++i) {
        const Int N = dproducts[i].size(-1);
        if (i < turned.size()) {
          const Scratch<float> scratch(N);
          const Rotation<float> rotation{elements<float>(cos), elements<float>(sin), in.x.size(1), N / C, C};
          row_kernels<T>().rotate_backward(elements<T>(turned[i].raw), N, elements<float>(turned[i].scale),
                                           turned[i].width(), elements<float>(turned[i].r), rotation, elements<T>(dys[i]),
                                           elements<T>(dproducts[i]), vector + vectors[2 + i], scratch.get(), begin, n);
        }
        const T* const dy = elements<const T>(dproducts[i]) + begin * N;
        factors.emplace_back(dy, N, n, N);
        terms.push_back(factors.back().times(panels[i].get()));
        operands.pass(i, dy, N);
        if (biased) row_kernels<T>().add_rows(dy, n, N, vector + begins[i]);
      }
      T* const dx_rows = elements<T>(dx) + begin * K;
      T* const dblock = normed ? dnormed.get() : dx_rows;
      tile_kernels<T>()->rows(n, K, terms.data(), static_cast<Int>(weights), {dblock, K, nullptr, nullptr, 0});
      in.backward(begin, n, r, dblock, nullptr, dx_rows, vector + vectors[1]);
    });
    sums.finish();
    const at::Tensor summed = vector_sums.sum(0);
    const auto part_of = [&](Int begin, Int width, const char* type) {
      return summed.narrow(0, begin, width).to(ctx->saved_data[type].toScalarType());
    };
    const at::Tensor none;
    variable_list gradients = {dx};
    for (const auto& product : products) gradients.push_back(product.w);
    for (std::size_t i = 0; biased && i < weights; ++i)
      gradients.push_back(part_of(begins[i], begins[i + 1] - begins[i], "bias_type"));
    for (std::size_t i = 0; i < turned.size() && turned[i].width() > 0; ++i)
      gradients.push_back(part_of(vectors[2 + i], turned[i].width(), "head_gain_type"));
    gradients.insert(gradients.end(), {none, none, normed ? part_of(vectors[1], K, "gain_type") : none, none, none,
                                       ctx->saved_data["residual"].toBool() ? dys[0] : none, none});
    return gradients;
  }
};

}  // namespace

bool tile_linear_serves(const at::Tensor& x, at::TensorList weights) { return tiles_serve(x, weights); }

std::vector<at::Tensor> tile_linear(const at::Tensor& x, at::TensorList weights, at::TensorList biases, const Around& around,
                                    const TurnedHeads& heads) {
  TORCH_CHECK(biases.empty() || biases.size() == weights.size(), "as many biases as weights, or none");
  TORCH_CHECK(!around.residual.defined() || weights.size() == 1, "a residual has one product");
  TORCH_CHECK(!heads.cos.defined() || (weights.size() == 3 && x.dim() == 3), "queries, keys and values of [B, T, K]");
  std::vector<at::Tensor> parameters(weights.begin(), weights.end());
  parameters.insert(parameters.end(), biases.begin(), biases.end());
  parameters.insert(parameters.end(), heads.gains.begin(), heads.gains.end());
  const RmsNorm* const norm = around.norm;
  return with_tile_element(x, [&]<class T>() {
    return TileLinear<T>::apply(x, at::TensorList(parameters), static_cast<Int>(weights.size()),
                                static_cast<Int>(biases.size()), norm ? optional(norm->gain()) : std::nullopt,
                                norm ? norm->eps() : 0.0, norm ? norm->offset() : 0.0, optional(around.residual), heads);
  });
}

}  // namespace equisweep
