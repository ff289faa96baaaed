#pragma once
// What the steps of step.h share: where S comes from, where U goes, and how matrices are cut into pieces. For .cpp files.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "optimizers/kernels/loops.h"
#include "optimizers/kernels/step.h"

namespace equisweep {

inline constexpr std::int64_t kPiece = 1024;                   ///< elements: some arrays of them fit the first cache
inline constexpr std::int64_t kGrain = std::int64_t{1} << 14;  ///< elements that are worth a thread

/// Lines of `n` elements that are worth a thread.
inline std::int64_t grain_of(std::int64_t n) { return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(n, 1)); }

template <class T>
T* elements(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

/// f.template operator()<T>() with the element type of x, float or double.
template <class F>
void with_dtype(const at::Tensor& x, const F& f) {
  if (x.scalar_type() == at::kDouble) return f.template operator()<double>();
  TORCH_CHECK(x.scalar_type() == at::kFloat, "no loops for ", x.scalar_type());
  f.template operator()<float>();
}

/// `n` elements on a cache line of their own, not initialised.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::int64_t n)
      : size_(static_cast<std::size_t>(n)),
        memory_(static_cast<T*>(::operator new (std::max<std::size_t>(1, size_) * sizeof(T), std::align_val_t{64}))) {}
  T* data() const { return memory_.get(); }
  void zero() { std::fill_n(data(), size_, T(0)); }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::size_t size_;
  std::unique_ptr<T, Free> memory_;
};

/// What the rule acts on: S, made of G and M at offsets that both share.
template <class T>
class Source {
 public:
  Source(const FusedStep& step, const FusedMomentum& momentum)
      : g_(elements<T>(step.gradient)),
        m_(elements<T>(momentum.m)),
        form_{.keep = static_cast<T>(momentum.m.defined() ? momentum.keep : 0),
              .take = static_cast<T>(momentum.m.defined() ? momentum.take : 1),
              .clip = static_cast<T>(step.gradient_factor),
              .nesterov = momentum.nesterov || !momentum.m.defined()} {}

  void fold(std::int64_t at, std::int64_t n) const {
    if (m_) step_loops<T>().fold(form_, g_ + at, m_ + at, n);
  }
  /// S after fold(), in `buffer` or where it is.
  const T* get(std::int64_t at, T* buffer, std::int64_t n) const {
    if (!form_.nesterov) return m_ + at;
    step_loops<T>().ahead(form_, g_ + at, (m_ ? m_ : g_) + at, buffer, n);
    return buffer;
  }

 private:
  const T* g_;
  T* m_;
  MomentumLoop<T> form_;
};

/// Where U goes, and the end of the gradient.
template <class T>
class Sink {
 public:
  explicit Sink(const FusedStep& step)
      : w_(elements<T>(step.weight)),
        u_(elements<T>(step.direction)),
        g_(step.zero_gradient ? elements<T>(step.gradient) : nullptr),
        retained_(static_cast<T>(step.retained)),
        lr_(static_cast<T>(step.lr)) {}

  /// Where to write U: its own place, or a buffer.
  T* place(std::int64_t at, T* buffer) const { return w_ ? buffer : u_ + at; }
  void put(std::int64_t at, const T* u, std::int64_t n) const {
    if (w_)
      step_loops<T>().apply(w_ + at, u, retained_, lr_, n);
    else if (u != u_ + at)
      std::copy_n(u, n, u_ + at);
    clear(at, n);
  }
  /// The same for U = gain Y - mean.
  void put_factor(std::int64_t at, const T* y, T gain, const T* mean, std::int64_t n) const {
    if (w_)
      step_loops<T>().apply_factor(w_ + at, y, gain, mean, retained_, lr_, n);
    else
      step_loops<T>().factor(y, gain, mean, u_ + at, n);
    clear(at, n);
  }
  void put_factor(std::int64_t at, const Bf16* y, T gain, const T* mean, std::int64_t n) const {
    if (w_)
      step_loops<T>().apply_bf16(w_ + at, y, gain, mean, retained_, lr_, n);
    else
      step_loops<T>().factor_bf16(y, gain, mean, u_ + at, n);
    clear(at, n);
  }
  void clear(std::int64_t at, std::int64_t n) const {
    if (g_) std::fill_n(g_ + at, n, T(0));
  }

 private:
  T *w_, *u_, *g_;
  T retained_, lr_;
};

/// Each matrix of a batch cut into pieces of whole lines, whose number depends on the shape alone: so do sums over pieces.
class Pieces {
 public:
  Pieces(std::int64_t matrices, std::int64_t lines, std::int64_t length)
      : matrices_(matrices), lines_(lines), length_(length) {
    pieces_ = std::clamp<std::int64_t>(std::min(lines / 64, lines * length >> 16), 1, 16);
  }

  std::int64_t matrices() const { return matrices_; }
  std::int64_t per_matrix() const { return pieces_; }

  /// f(matrix, piece, first line, end) for all of them.
  template <class F>
  void run(const F& f) const {
    at::parallel_for(0, matrices_ * pieces_, grain_of(lines_ / pieces_ * length_),
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t task = begin; task < end; ++task) {
                         const std::int64_t piece = task % pieces_;
                         f(task / pieces_, piece, lines_ * piece / pieces_, lines_ * (piece + 1) / pieces_);
                       }
                     });
  }

 private:
  std::int64_t matrices_, lines_, length_, pieces_ = 1;
};

/// The mean row of each matrix, from sums of its pieces.
template <class T>
class ColumnMeans {
 public:
  ColumnMeans(const Pieces& pieces, std::int64_t n)
      : pieces_(pieces.per_matrix()),
        n_(n),
        sums_(static_cast<std::size_t>(pieces.matrices() * pieces_ * n)),
        means_(static_cast<std::size_t>(pieces.matrices() * n)) {}

  double* sum(std::int64_t matrix, std::int64_t piece) { return sums_.data() + (matrix * pieces_ + piece) * n_; }
  void finish(std::int64_t lines) {
    for (std::size_t at = 0; at < means_.size(); ++at) {
      const auto matrix = static_cast<std::int64_t>(at) / n_, i = static_cast<std::int64_t>(at) % n_;
      double total = 0;
      for (std::int64_t piece = 0; piece < pieces_; ++piece) total += sum(matrix, piece)[i];
      means_[at] = static_cast<T>(total / static_cast<double>(lines));
    }
  }
  const T* mean(std::int64_t matrix) const { return means_.data() + matrix * n_; }

 private:
  std::int64_t pieces_, n_;
  std::vector<double> sums_;
  std::vector<T> means_;
};

}  // namespace equisweep
