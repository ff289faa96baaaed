#include "models/blocks/norm.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/kernels/fused.inc"

#include "models/blocks/precision.h"

namespace equisweep {
namespace {

/// y = x r g with r = (mean(x^2) + eps)^(-1/2). With h = dy g and z = x r: dx = r (h - z mean(h z)), dg = sum over rows of
/// dy z.
struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& gain, double eps,
                            double offset) {
    const auto dtype = at_least_float(x.scalar_type());
    const at::Tensor r = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true, dtype)
                             .square_()
                             .div_(static_cast<double>(x.size(-1)))
                             .add_(eps)
                             .rsqrt_();
    ctx->save_for_backward({x, gain, r});
    ctx->saved_data["offset"] = offset;
    const at::Tensor scale = offset == 0 ? gain : gain + offset;
    return (x * r).mul_(scale).to(x.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &gain = saved[1], &r = saved[2];
    const double offset = ctx->saved_data["offset"].toDouble();
    const at::Tensor dy = dys[0].to(r.scalar_type());
    const at::Tensor scale = offset == 0 ? gain : gain + offset;
    const at::Tensor z = x * r;
    const at::Tensor dy_z = dy * z;
    at::Tensor dx = dy * scale;
    const at::Tensor mean = at::matmul(dy_z, scale.to(r.scalar_type())).div_(static_cast<double>(x.size(-1))).unsqueeze(-1);
    dx.sub_(z.mul(mean)).mul_(r);
    const at::Tensor dgain = dy_z.reshape({-1, x.size(-1)}).sum(0).to(gain.scalar_type());
    return {dx.to(x.scalar_type()), dgain, at::Tensor(), at::Tensor()};
  }
};

/// The same in one pass over the rows each way.
struct FusedRmsNorm : torch::autograd::Function<FusedRmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x_any, const at::Tensor& gain,
                            double eps, double offset) {
    std::int64_t stride = 0;
    const at::Tensor x = uniform_rows(x_any, stride);
    const at::ScalarType wide = at_least_float(x.scalar_type());
    const auto width = x.size(-1), rows = x.numel() / width;
    const at::Tensor scale = at::add(gain.to(wide), offset).contiguous(), r = at::empty({rows}, scale.options());
    const at::Tensor y = at::empty(x.sizes(), x.options());
    with_element(x.scalar_type(), [&]<class T>() {
      using W = Wide<T>;
      const T* in = elements<T>(x);
      if (x.is_cuda()) {
        cuda_row_kernels<T>()->norm(in, stride, elements<W>(scale), static_cast<W>(eps), elements<T>(y), elements<W>(r),
                                    rows, width, CudaQueue(x));
        return;
      }
      over_rows(rows, width, [&](std::int64_t begin, std::int64_t end) {
        row_kernels<T>().norm(in + begin * stride, stride, elements<W>(scale), static_cast<W>(eps),
                              elements<T>(y) + begin * width, elements<W>(r) + begin, end - begin, width);
      });
    });
    ctx->save_for_backward({x, scale, r});
    ctx->saved_data["gain_type"] = gain.scalar_type();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &scale = saved[1], &r = saved[2], dy = dys[0].contiguous();
    std::int64_t stride = 0;
    const at::Tensor x = uniform_rows(saved[0], stride), dx = at::empty(x.sizes(), x.options());
    const auto width = x.size(-1), rows = x.numel() / width;
    at::Tensor dgain;
    with_element(x.scalar_type(), [&]<class T>() {
      using W = Wide<T>;
      if (x.is_cuda()) {
        const CudaRowKernels<T>& cuda = *cuda_row_kernels<T>();
        const at::Tensor sums = at::empty({cuda.pieces(rows, width), width}, r.options());
        cuda.norm_backward(elements<T>(x), stride, elements<W>(r), elements<W>(scale), elements<T>(dy), elements<T>(dx),
                           elements<W>(sums), rows, width, CudaQueue(x));
        dgain = sums.sum(0);
        return;
      }
      dgain = sum_over_rows<W>(rows, width, r.options(), [&](std::int64_t begin, std::int64_t end, W* sum) {
        row_kernels<T>().norm_backward(elements<T>(x) + begin * stride, stride, elements<W>(r) + begin, elements<W>(scale),
                                       elements<T>(dy) + begin * width, elements<T>(dx) + begin * width, sum, end - begin,
                                       width);
      });
    });
    return {dx, dgain.to(ctx->saved_data["gain_type"].toScalarType()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

RmsNorm::RmsNorm(const Scope& scope, std::string_view name, std::int64_t width, double eps, double offset)
    : gain_(scope.vector(fmt::format("{}.weight", name), {width}, offset == 0 ? Init::ones : Init::zeros)),
      eps_(eps),
      offset_(offset) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  const bool fused = fusable(x) || (cuda_fusable(x) && x.size(-1) <= cuda_row_kernels<float>()->widest);
  return fused ? FusedRmsNorm::apply(x, *gain_, eps_, offset_) : RmsNormFunction::apply(x, *gain_, eps_, offset_);
}

}  // namespace equisweep
