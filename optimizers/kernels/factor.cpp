// What comes before and after the products of a polar factor. B matrices; lines are rows or columns, whichever are adjacent
// in memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "optimizers/kernels/layout.h"
#include "optimizers/kernels/step_cuda.h"
#include "optimizers/kernels/streams.inc"

namespace equisweep {
namespace {

using Int = std::int64_t;

/// f.template operator()<Y>() with the element type of a factor: Bf16 or T.
template <class T, class F>
void with_factor(const at::Tensor& y, const F& f) {
  if (y.scalar_type() == at::kBFloat16) return f.template operator()<Bf16>();
  TORCH_CHECK(y.scalar_type() == (sizeof(T) == 8 ? at::kDouble : at::kFloat), "no loops for a factor in ", y.scalar_type());
  f.template operator()<T>();
}

/// Y [B, m, n] with the lines of `lines` one after the other.
at::Tensor in_lines(const Lines& lines, const at::Tensor& y) { return lines.rows ? y.contiguous() : y.mT().contiguous(); }

double dot(const StepLoops<float>& loops, const float* s, const Bf16* y, Int n) { return loops.dot_bf16(s, y, n); }
double dot(const StepLoops<double>& loops, const double* s, const Bf16* y, Int n) { return loops.dot_bf16(s, y, n); }
template <class T>
double dot(const StepLoops<T>& loops, const T* s, const T* y, Int n) {
  return loops.dot(s, y, n);
}

}  // namespace

bool factor_fits(const FusedStep& step, bool project) {
  if (step.gradient.is_cuda()) return !project && cuda_matrices(step.gradient);
  return Lines::fits(step.gradient) && (!project || Lines(step.gradient).rows);
}

at::Tensor factor_input(const FusedStep& step, const FusedMomentum& momentum, double safety, at::ScalarType dtype) {
  if (step.gradient.is_cuda()) return cuda_factor_input(step, momentum, safety, dtype);
  const Lines lines(step.gradient);
  const Pieces pieces(lines.batch.count(), lines.lines, lines.length);
  const at::Tensor y = at::empty({lines.batch.count(), lines.lines, lines.length}, at::TensorOptions().dtype(dtype));
  with_dtype(step.gradient, [&]<class T>() {
    const Source<T> source(step, momentum);
    const Sink<T> sink(step);
    const auto& loops = step_loops<T>();
    const double smallest =
        sizeof(T) == 8 ? std::numeric_limits<double>::min() : static_cast<double>(std::numeric_limits<float>::min());
    std::vector<double> squares(static_cast<std::size_t>(pieces.matrices() * pieces.per_matrix()));
    const auto fold = [&](Int k, Int piece, Int begin, Int end) {
      Buffer<T> buffer(lines.length);
      double sum = 0;
      for (Int i = begin; i < end; ++i) {
        const Int at = lines.batch.offset(k) + i * lines.stride;
        source.fold(at, lines.length);
        sum += loops.squares(source.get(at, buffer.data(), lines.length), lines.length);
      }
      squares[static_cast<std::size_t>(k * pieces.per_matrix() + piece)] = sum;
    };
    const auto divide = [&](Int k, Int, Int begin, Int end) {
      double sum = 0;
      for (Int piece = 0; piece < pieces.per_matrix(); ++piece)
        sum += squares[static_cast<std::size_t>(k * pieces.per_matrix() + piece)];
      const T divisor = static_cast<T>(std::max(safety * std::sqrt(sum), smallest));
      Buffer<T> buffer(lines.length);
      for (Int i = begin; i < end; ++i) {
        const Int at = lines.batch.offset(k) + i * lines.stride, to = (k * lines.lines + i) * lines.length;
        const T* s = source.get(at, buffer.data(), lines.length);
        if (dtype == at::kBFloat16)
          loops.narrow(s, divisor, elements<Bf16>(y) + to, lines.length);
        else
          loops.divide(s, divisor, T(1), elements<T>(y) + to, lines.length);
        sink.clear(at, lines.length);
      }
    };
    if (pieces.per_matrix() == 1) {  // what one loop has read is in the cache of the other
      pieces.run([&](Int k, Int piece, Int begin, Int end) {
        fold(k, piece, begin, end);
        divide(k, piece, begin, end);
      });
    } else {
      pieces.run(fold);
      pieces.run(divide);
    }
  });
  return lines.rows ? y : y.mT();
}

std::vector<double> factor_nu(const FusedStep& step, const FusedMomentum& momentum, const at::Tensor& x,
                              const at::Tensor& given_y) {
  const Lines lines(step.gradient);
  const Pieces pieces(lines.batch.count(), lines.lines, lines.length);
  const at::Tensor y = in_lines(lines, given_y);
  TORCH_CHECK(!x.defined() || same_layout(x, step.gradient), "X must lie as the gradient does");
  std::vector<double> parts(static_cast<std::size_t>(pieces.matrices() * pieces.per_matrix()));
  with_dtype(step.gradient, [&]<class T>() {
    with_factor<T>(y, [&]<class Y>() {
      const Source<T> source(step, momentum);
      pieces.run([&](Int k, Int piece, Int begin, Int end) {
        Buffer<T> buffer(lines.length);
        double sum = 0;
        for (Int i = begin; i < end; ++i) {
          const Int at = lines.batch.offset(k) + i * lines.stride;
          const T* s = x.defined() ? elements<T>(x) + at : source.get(at, buffer.data(), lines.length);
          sum += dot(step_loops<T>(), s, elements<Y>(y) + (k * lines.lines + i) * lines.length, lines.length);
        }
        parts[static_cast<std::size_t>(k * pieces.per_matrix() + piece)] = sum;
      });
    });
  });
  std::vector<double> nu;
  for (Int k = 0; k < pieces.matrices(); ++k) {
    double sum = 0;
    for (Int piece = 0; piece < pieces.per_matrix(); ++piece)
      sum += parts[static_cast<std::size_t>(k * pieces.per_matrix() + piece)];
    nu.push_back(sum < 0 ? 0 : sum);  // NaN stays
  }
  return nu;
}

void factor_step(const FusedStep& step, const at::Tensor& given_y, const std::vector<double>& gain, bool project) {
  if (step.gradient.is_cuda()) return cuda_factor_step(step, given_y, gain.front());
  const Lines lines(step.gradient);
  const Pieces pieces(lines.batch.count(), lines.lines, lines.length);
  const at::Tensor y = in_lines(lines, given_y);
  TORCH_CHECK(!project || lines.rows, "the mean row needs rows of adjacent elements");
  with_dtype(step.gradient, [&]<class T>() {
    with_factor<T>(y, [&]<class Y>() {
      const Sink<T> sink(step);
      const auto line = [&](Int k, Int i) { return elements<Y>(y) + (k * lines.lines + i) * lines.length; };
      const auto gain_of = [&](Int k) { return static_cast<T>(gain[static_cast<std::size_t>(k)]); };
      ColumnMeans<T> means(pieces, project ? lines.length : 0);
      if (project) {
        pieces.run([&](Int k, Int piece, Int begin, Int end) {
          for (Int i = begin; i < end; ++i) {
            if constexpr (std::is_same_v<Y, Bf16>)
              step_loops<T>().add_factor_bf16(line(k, i), gain_of(k), means.sum(k, piece), lines.length);
            else
              step_loops<T>().add_factor(line(k, i), gain_of(k), means.sum(k, piece), lines.length);
          }
        });
        means.finish(lines.lines);
      }
      pieces.run([&](Int k, Int, Int begin, Int end) {
        for (Int i = begin; i < end; ++i)
          sink.put_factor(lines.batch.offset(k) + i * lines.stride, line(k, i), gain_of(k),
                          project ? means.mean(k) : nullptr, lines.length);
      });
    });
  });
}

}  // namespace equisweep
