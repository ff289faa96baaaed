// Elementwise and row-wise steps. K weights of a bank; blocks [K, ..., m, n].
#include "optimizers/kernels/step.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "core/kernels.h"
#include "optimizers/kernels/layout.h"
#include "optimizers/kernels/step_cuda.h"
#include "optimizers/kernels/streams.inc"

namespace equisweep {

template <class T>
const StepLoops<T>& step_loops() {
  static const StepLoops<T>& best = best_loops(step_loops_default<T>(), step_loops_avx2<T>(), step_loops_avx512<T>());
  return best;
}
template const StepLoops<float>& step_loops<float>();
template const StepLoops<double>& step_loops<double>();

namespace {

using Int = std::int64_t;

bool loops_serve(const at::Tensor& x) {
  return kernels() == Kernels::fused && x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) &&
         x.numel() > 0 && x.is_non_overlapping_and_dense();
}

/// f(begin, count) over pieces of n elements that stay in the first cache while several loops run over them.
template <class F>
void over_pieces(Int n, const F& f) {
  at::parallel_for(0, n, kGrain, [&](Int begin, Int end) {
    for (Int i = begin; i < end; i += kPiece) f(i, std::min(kPiece, end - i));
  });
}

template <class T>
void rows_by_row(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form) {
  const Source<T> source(step, momentum);
  const Sink<T> sink(step);
  const auto& loops = step_loops<T>();
  const Int n = step.gradient.size(-1);
  Lattice rows(step.gradient, 0, step.gradient.dim() - 1);
  rows.order_by_memory();
  const T factor = static_cast<T>(form.factor), eps = static_cast<T>(form.eps), gain = static_cast<T>(form.gain);
  at::parallel_for(0, rows.count(), grain_of(n), [&](Int begin, Int end) {
    Buffer<T> s_buffer(n), u_buffer(n);
    for (Int i = begin; i < end; ++i) {
      const Int at = rows.offset(i);
      source.fold(at, n);
      const T* s = source.get(at, s_buffer.data(), n);
      T* u = sink.place(at, u_buffer.data());
      loops.divide(s, static_cast<T>(std::sqrt(loops.squares(s, n))) * factor + eps, gain, u, n);
      sink.put(at, u, n);
    }
  });
}

/// Rows whose elements lie far apart while neighbours in memory belong to other rows: panels of such rows, as wide as the
/// second cache holds.
template <class T>
void rows_by_column(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form, Lattice panels, Int run) {
  const Source<T> source(step, momentum);
  const Sink<T> sink(step);
  const auto& loops = step_loops<T>();
  const Int n = step.gradient.size(-1), stride = step.gradient.stride(-1);
  constexpr Int kPanelBytes = 1 << 19;
  const Int width = std::clamp<Int>(kPanelBytes / (3 * static_cast<Int>(sizeof(T)) * n) / 16 * 16, 16, 512);
  const Int pieces = (run + width - 1) / width;
  const T factor = static_cast<T>(form.factor), eps = static_cast<T>(form.eps), gain = static_cast<T>(form.gain);
  at::parallel_for(0, panels.count() * pieces, grain_of(n * width), [&](Int begin, Int end) {
    Buffer<T> s_buffer(width), u_buffer(width), divisor(width);
    Buffer<double> squares(width);
    for (Int task = begin; task < end; ++task) {
      const Int first = task % pieces * width, count = std::min(width, run - first);
      const Int corner = panels.offset(task / pieces) + first;
      squares.zero();
      for (Int j = 0; j < n; ++j) {
        source.fold(corner + j * stride, count);
        loops.add_squares(source.get(corner + j * stride, s_buffer.data(), count), squares.data(), count);
      }
      for (Int i = 0; i < count; ++i) divisor.data()[i] = static_cast<T>(std::sqrt(squares.data()[i])) * factor + eps;
      for (Int j = 0; j < n; ++j) {
        const Int at = corner + j * stride;
        T* u = sink.place(at, u_buffer.data());
        loops.divide_each(source.get(at, s_buffer.data(), count), divisor.data(), gain, u, count);
        sink.put(at, u, count);
      }
    }
  });
}

/// Three passes: the mean of S; the norms of the rows of Pi S, and the mean of the result; the result. A matrix is cut into
/// pieces whose number does not depend on the threads.
template <class T>
void rows_centered(const FusedStep& step, const FusedMomentum& momentum, const RowForm& form) {
  const Source<T> source(step, momentum);
  const Sink<T> sink(step);
  const auto& loops = step_loops<T>();
  const Int m = step.gradient.size(-2), n = step.gradient.size(-1), stride = step.gradient.stride(-2);
  const Lattice batch(step.gradient, 0, step.gradient.dim() - 2);
  const Pieces pieces(batch.count(), m, n);
  const T factor = static_cast<T>(form.factor), eps = static_cast<T>(form.eps), gain = static_cast<T>(form.gain);
  const double noise = static_cast<double>(m) * (sizeof(T) == 8 ? 0x1p-53 : 0x1p-24);
  ColumnMeans<T> means(pieces, n);

  pieces.run([&](Int k, Int piece, Int begin, Int end) {
    Buffer<T> s_buffer(n);
    double* sum = means.sum(k, piece);
    for (Int i = begin; i < end; ++i) {
      const Int at = batch.offset(k) + i * stride;
      source.fold(at, n);
      loops.add(source.get(at, s_buffer.data(), n), sum, n);
    }
  });
  means.finish(m);

  ColumnMeans<T> result_means(pieces, n);
  std::vector<T> divisors(static_cast<std::size_t>(batch.count() * m));  // 0: nothing but noise is left of the row
  pieces.run([&](Int k, Int piece, Int begin, Int end) {
    Buffer<T> s_buffer(n), x_buffer(n), u_buffer(n);
    for (Int i = begin; i < end; ++i) {
      const T* s = source.get(batch.offset(k) + i * stride, s_buffer.data(), n);
      loops.subtract(s, means.mean(k), x_buffer.data(), n);
      const double norm = std::sqrt(loops.squares(x_buffer.data(), n));
      if (norm <= std::sqrt(loops.squares(s, n)) * noise) continue;  // not so NaN, which stays
      const T divisor = form.normalize ? static_cast<T>(norm) * factor + eps : T(1);
      divisors[static_cast<std::size_t>(k * m + i)] = divisor;
      if (!form.project) continue;
      loops.divide(x_buffer.data(), divisor, gain, u_buffer.data(), n);
      loops.add(u_buffer.data(), result_means.sum(k, piece), n);
    }
  });
  if (form.project) result_means.finish(m);

  pieces.run([&](Int k, Int, Int begin, Int end) {
    Buffer<T> s_buffer(n), x_buffer(n), u_buffer(n);
    for (Int i = begin; i < end; ++i) {
      const Int at = batch.offset(k) + i * stride;
      const T divisor = divisors[static_cast<std::size_t>(k * m + i)];
      T* u = sink.place(at, u_buffer.data());
      T* before_projection = form.project ? s_buffer.data() : u;
      if (divisor == 0) {
        std::fill_n(before_projection, n, T(0));
      } else {
        loops.subtract(source.get(at, s_buffer.data(), n), means.mean(k), x_buffer.data(), n);
        loops.divide(x_buffer.data(), divisor, gain, before_projection, n);
      }
      if (form.project) loops.subtract(before_projection, result_means.mean(k), u, n);
      sink.put(at, u, n);
    }
  });
}

FusedStep transposed(FusedStep step) {
  for (at::Tensor* x : {&step.gradient, &step.weight, &step.direction})
    if (x->defined()) *x = x->mT();
  return step;
}

}  // namespace

std::optional<FusedStep> fused_direction(const at::Tensor& gradient, const at::Tensor& like) {
  if (!loops_serve(like) && !cuda_steps_serve(like)) return std::nullopt;
  FusedStep step;
  step.gradient = gradient;
  if (gradient.scalar_type() != like.scalar_type() || gradient.device() != like.device() || !same_layout(gradient, like))
    step.gradient = at::empty_like(like).copy_(gradient);
  step.direction = at::empty_like(like);
  return step;
}

std::optional<FusedStep> fused_update(const BankUpdate& bank, const at::Tensor& like) {
  for (const at::Tensor* x : {&bank.weight, &bank.gradient})
    if (x->device() != like.device() || x->scalar_type() != like.scalar_type() || !same_layout(*x, like))
      return std::nullopt;
  if (!loops_serve(like) && !cuda_steps_serve(like)) return std::nullopt;
  return FusedStep{.gradient = bank.gradient,
                   .weight = bank.weight,
                   .direction = {},
                   .gradient_factor = bank.gradient_factor,
                   .clip = bank.clip,
                   .zero_gradient = bank.zero_gradient,
                   .retained = bank.retained,
                   .lr = bank.lr};
}

void adam_step(const FusedStep& step, const at::Tensor& m, const at::Tensor& v, const AdamCoefficients& c) {
  if (step.gradient.is_cuda()) return cuda_adam_step(step, m, v, c);
  with_dtype(step.gradient, [&]<class T>() {
    const auto form = adam_loop<T>(c, step.gradient_factor);
    const Sink<T> sink(step);
    const T* g = elements<T>(step.gradient);
    T *first = elements<T>(m), *second = elements<T>(v);
    over_pieces(step.gradient.numel(), [&](Int i, Int n) {
      alignas(64) T buffer[kPiece];
      T* u = sink.place(i, buffer);
      step_loops<T>().adam(form, g + i, first + i, second + i, u, n);
      sink.put(i, u, n);
    });
  });
}

void momentum_step(const FusedStep& step, const FusedMomentum& momentum) {
  if (step.gradient.is_cuda()) return cuda_momentum_step(step, momentum);
  with_dtype(step.gradient, [&]<class T>() {
    const Source<T> source(step, momentum);
    const Sink<T> sink(step);
    over_pieces(step.gradient.numel(), [&](Int i, Int n) {
      alignas(64) T buffer[kPiece];
      source.fold(i, n);
      sink.put(i, source.get(i, sink.place(i, buffer), n), n);
    });
  });
}

void sign_step(const FusedStep& step, const FusedMomentum& momentum, double size) {
  if (step.gradient.is_cuda()) return cuda_momentum_step(step, momentum, size);
  with_dtype(step.gradient, [&]<class T>() {
    const Source<T> source(step, momentum);
    const Sink<T> sink(step);
    over_pieces(step.gradient.numel(), [&](Int i, Int n) {
      alignas(64) T s_buffer[kPiece];
      alignas(64) T u_buffer[kPiece];
      source.fold(i, n);
      T* u = sink.place(i, u_buffer);
      step_loops<T>().sign(source.get(i, s_buffer, n), static_cast<T>(size), u, n);
      sink.put(i, u, n);
    });
  });
}

bool rows_step(const FusedStep& given, const FusedMomentum& given_momentum, const RowForm& form, bool columns) {
  if (given.gradient.is_cuda()) return cuda_rows_step(given, given_momentum, form, columns);
  const FusedStep step = columns ? transposed(given) : given;
  FusedMomentum momentum = given_momentum;
  if (columns && momentum.m.defined()) momentum.m = momentum.m.mT();
  const at::Tensor& x = step.gradient;
  const bool adjacent = x.stride(-1) == 1 || x.size(-1) == 1;
  if (form.center) {
    if (!adjacent) return false;
    with_dtype(x, [&]<class T>() { rows_centered<T>(step, momentum, form); });
  } else if (adjacent) {
    with_dtype(x, [&]<class T>() { rows_by_row<T>(step, momentum, form); });
  } else {
    Lattice panels(x, 0, x.dim() - 1);
    panels.order_by_memory();
    const Int run = panels.take_run();
    if (run == 1) return false;
    with_dtype(x, [&]<class T>() { rows_by_column<T>(step, momentum, form, panels, run); });
  }
  return true;
}

bool fused_apply(const at::Tensor& weight, const at::Tensor& update, double retained, double lr) {
  if (!loops_serve(weight) && !cuda_steps_serve(weight)) return false;
  if (update.device() != weight.device() || update.scalar_type() != weight.scalar_type()) return false;
  const at::Tensor u = same_layout(update, weight) ? update : at::empty_like(weight).copy_(update);
  if (weight.is_cuda()) {
    cuda_apply(weight, u, retained, lr);
    return true;
  }
  with_dtype(weight, [&]<class T>() {
    T* w = elements<T>(weight);
    const T* from = elements<T>(u);
    over_pieces(weight.numel(), [&](Int i, Int n) {
      step_loops<T>().apply(w + i, from + i, static_cast<T>(retained), static_cast<T>(lr), n);
    });
  });
  return true;
}

std::optional<double> fused_squares(const at::Tensor& x) {
  if (!loops_serve(x)) return std::nullopt;
  constexpr Int kPart = Int{1} << 16;
  const Int parts = (x.numel() + kPart - 1) / kPart;
  std::vector<double> sums(static_cast<std::size_t>(parts));
  with_dtype(x, [&]<class T>() {
    const T* from = elements<T>(x);
    at::parallel_for(0, parts, 1, [&](Int begin, Int end) {
      for (Int part = begin; part < end; ++part)
        sums[static_cast<std::size_t>(part)] =
            step_loops<T>().squares(from + part * kPart, std::min(kPart, x.numel() - part * kPart));
    });
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace equisweep
