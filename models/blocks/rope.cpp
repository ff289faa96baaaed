#include "models/blocks/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numbers>

#include "models/kernels/fused.inc"

namespace equisweep {
namespace {

struct Tables {
  Rope rope;
  std::int64_t T;
  at::ScalarType dtype;
  at::Device device;
  at::Tensor cos, sin;            ///< [T, 1, head_dim]; sin carries the sign of the rotation: (-s, s)
  at::Tensor half_cos, half_sin;  ///< [T, head_dim/2], fp32 where dtype is narrower
};

Tables make_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device) {
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor frequency = at::tensor(rope.inverse_frequencies(), f64);
  const at::Tensor angle = at::arange(T, f64).unsqueeze(1) * frequency;
  const at::Tensor c = angle.cos() * rope.attention_factor(), s = angle.sin() * rope.attention_factor();
  const auto finish = [&](const at::Tensor& t) { return t.unsqueeze(1).to(device, dtype).contiguous(); };
  const auto half = [&](const at::Tensor& t) { return t.to(device, at_least_float(dtype)).contiguous(); };
  return {rope, T, dtype, device, finish(at::cat({c, c}, 1)), finish(at::cat({-s, s}, 1)), half(c), half(s)};
}

/// Sequence lengths are few; the bound only keeps a caller with many from growing the list for ever.
constexpr std::size_t kMaxTables = 32;

Tables cached_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device) {
  static std::mutex mutex;
  static std::vector<Tables> tables;
  const std::lock_guard lock(mutex);
  for (const auto& t : tables) {
    if (t.T == T && t.dtype == dtype && t.device == device && t.rope == rope) return t;
  }
  if (tables.size() == kMaxTables) tables.erase(tables.begin());
  return tables.emplace_back(make_tables(rope, T, dtype, device));
}

/// The norm, if there is a gain, and the rotation. x [B, T, heads * head_dim].
struct NormAndRotate : torch::autograd::Function<NormAndRotate> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x_any,
                            const std::optional<at::Tensor>& gain_or, double eps, double offset, std::int64_t C,
                            const at::Tensor& cos, const at::Tensor& sin) {
    std::int64_t stride = 0;
    at::Tensor x = uniform_rows(x_any, stride);
    if (x.is_cuda() && (reinterpret_cast<std::uintptr_t>(x.data_ptr()) % 16 != 0 || stride % 4 != 0)) {
      x = x.clone(at::MemoryFormat::Contiguous);  // wide loads, see turns() of cuda_rows.h
      stride = x.size(2);
    }
    const at::Tensor gain = gain_or.value_or(at::Tensor());
    const auto B = x.size(0), T = x.size(1), D = x.size(2), width = gain.defined() ? gain.size(0) : 0;
    const at::Tensor y = at::empty({B, T, D / C, C}, x.options());
    const at::Tensor scale = width > 0 ? at::add(gain.to(cos.scalar_type()), offset).contiguous() : at::Tensor();
    const at::Tensor r = at::empty({width > 0 ? B * T * (D / width) : 0}, cos.options());
    with_element(x.scalar_type(), [&]<class E>() {
      using W = Wide<E>;
      const Rotation<W> rotation{elements<W>(cos), elements<W>(sin), T, D / C, C};
      if (x.is_cuda()) {
        cuda_row_kernels<E>()->rotate(elements<E>(x), stride, elements<W>(scale), static_cast<W>(eps), rotation,
                                      elements<E>(y), elements<W>(r), B * T, CudaQueue(x));
        return;
      }
      over_rows(B * T, D, [&](std::int64_t begin, std::int64_t end) {
        row_kernels<E>().rotate(elements<E>(x), stride, elements<W>(scale), width, static_cast<W>(eps), rotation,
                                elements<E>(y), elements<W>(r), begin, end - begin);
      });
    });
    ctx->save_for_backward({width > 0 ? x : at::Tensor(), scale, r, cos, sin});
    if (width > 0) ctx->saved_data["gain_type"] = gain.scalar_type();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& dys) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &scale = saved[1], &r = saved[2], &cos = saved[3], &sin = saved[4],
                     dy = dys[0].is_cuda() ? for_wide_loads(dys[0]) : dys[0].contiguous();
    std::int64_t stride = 0;
    const at::Tensor x = saved[0].defined() ? uniform_rows(saved[0], stride) : at::Tensor();
    const auto B = dy.size(0), T = dy.size(1), H = dy.size(2), C = dy.size(3), D = H * C;
    const auto width = scale.defined() ? scale.size(0) : 0;
    const at::Tensor dx = at::empty({B, T, D}, dy.options());
    at::Tensor dgain;
    with_element(dy.scalar_type(), [&]<class E>() {
      using W = Wide<E>;
      const Rotation<W> rotation{elements<W>(cos), elements<W>(sin), T, H, C};
      if (dy.is_cuda()) {
        const CudaRowKernels<E>& cuda = *cuda_row_kernels<E>();
        const at::Tensor sums = at::empty({width > 0 ? cuda.pieces(B * T * H, C) : 0, C}, cos.options());
        cuda.rotate_backward(elements<E>(x), stride, elements<W>(scale), elements<W>(r), rotation, elements<E>(dy),
                             elements<E>(dx), elements<W>(sums), B * T, CudaQueue(dy));
        if (width > 0) dgain = sums.sum(0).to(ctx->saved_data["gain_type"].toScalarType());
        return;
      }
      // The sums are followed by D elements of scratch memory.
      const at::Tensor sums =
          sum_over_rows<W>(B * T, width + D, cos.options(), [&](std::int64_t begin, std::int64_t end, W* sum) {
            row_kernels<E>().rotate_backward(elements<E>(x), stride, elements<W>(scale), width, elements<W>(r), rotation,
                                             elements<E>(dy), elements<E>(dx), sum, sum + width, begin, end - begin);
          });
      if (width > 0) dgain = sums.narrow(0, 0, width).to(ctx->saved_data["gain_type"].toScalarType());
    });
    return {dx, dgain, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

/// A GPU turns heads of widths that suit it, after a norm over each of them; not after one over all of them.
bool rotation_fusable(const at::Tensor& x, std::int64_t C, const RmsNorm& norm) {
  return fusable(x) || (cuda_fusable(x) && cuda_row_kernels<float>()->turns(C, C) && (!norm || norm.gain().size(0) == C));
}

}  // namespace

std::vector<double> Rope::inverse_frequencies() const {
  const auto dim = static_cast<double>(head_dim);
  std::vector<double> f(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < f.size(); ++i) f[i] = std::pow(base, -2.0 * static_cast<double>(i) / dim);
  if (!scaling) return f;
  if (scaling->kind == RopeScaling::Kind::linear) {
    for (double& x : f) x /= scaling->factor;
    return f;
  }
  // The dimension that makes r turns within the original context.
  const auto dimension_of = [&](double r) {
    return dim * std::log(scaling->original_context / (2 * std::numbers::pi * r)) / (2 * std::log(base));
  };
  double low = dimension_of(scaling->beta_fast), high = dimension_of(scaling->beta_slow);
  if (scaling->truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] *= (1 - ramp) + ramp / scaling->factor;
  }
  return f;
}

double Rope::attention_factor() const {
  if (!scaling || scaling->kind != RopeScaling::Kind::yarn) return 1;
  return scaling->attention_factor.value_or(scaling->factor <= 1 ? 1.0 : 0.1 * std::log(scaling->factor) + 1);
}

at::Tensor rotate(const Rope& rope, const at::Tensor& x_BTHC) {
  if (rotation_fusable(x_BTHC, rope.head_dim, {})) return normalize_and_rotate(rope, {}, x_BTHC.flatten(2));
  const Tables t = cached_tables(rope, x_BTHC.size(1), x_BTHC.scalar_type(), x_BTHC.device());
  const auto halves = x_BTHC.chunk(2, -1);
  return at::addcmul(x_BTHC * t.cos, at::cat({halves[1], halves[0]}, -1), t.sin);
}

RotationTables rotation_tables(const Rope& rope, std::int64_t T, at::ScalarType dtype, at::Device device) {
  const Tables t = cached_tables(rope, T, dtype, device);
  return {t.half_cos, t.half_sin};
}

at::Tensor normalize_and_rotate(const Rope& rope, const RmsNorm& norm, const at::Tensor& x_BTD) {
  if (rotation_fusable(x_BTD, rope.head_dim, norm)) {
    const Tables t = cached_tables(rope, x_BTD.size(1), x_BTD.scalar_type(), x_BTD.device());
    return NormAndRotate::apply(x_BTD, optional(norm ? norm.gain() : at::Tensor()), norm.eps(), norm.offset(), rope.head_dim,
                                t.half_cos, t.half_sin);
  }
  const bool by_head = norm && norm.gain().size(0) == rope.head_dim;
  const at::Tensor x = norm && !by_head ? norm(x_BTD) : x_BTD;
  const at::Tensor heads = x.view({x.size(0), x.size(1), -1, rope.head_dim});
  return rotate(rope, by_head ? norm(heads) : heads);
}

}  // namespace equisweep
