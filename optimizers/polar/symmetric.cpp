// The quintics of polynomial.cpp and gram.cpp in fp32 and fp64 on the CPU, matrix by matrix on one thread each, or piece by
// piece and block by block where there are fewer matrices than threads. Every Gram matrix and every polynomial of it is
// symmetric: of a product that is known to be, only the blocks up to the diagonal are computed.
//
//   on X:     5 ((2 l/k + 2) s + 2 l/k) k^3 flops for five steps on k x l, s the share of the blocks
//   by Gram:  (4 l/k + 4 s l/k + 28 s) k^3, with one restart after two steps
//
// In fp32 on a machine with AVX-512, matrices of which both sides are multiples of 32 are multiplied by kernels of our own,
// in blocks of 32 (kernels/packed_products.h), which are faster than MKL on matrices as small as these. Everything else goes
// to the BLAS in blocks of 64, s = 5/8 from k = 256 up.
//
// Pieces depend on the shape alone, and so does the order of sums: each product is computed on one thread (core/blas.inc),
// and the bits are the same on any number of them.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/blas.inc"
#include "core/kernels.h"
#include "optimizers/kernels/loops.h"
#include "optimizers/kernels/packed_products.h"
#include "optimizers/kernels/streams.inc"
#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

using Int = std::int64_t;

/// A matrix by rows, transposed in the product where the flag is set.
template <class T>
struct Operand {
  const T* data;
  Int stride;
  bool transposed = false;
};

/// C [M, N] <- A [M, K] B [K, N] + keep C, by rows.
template <class T>
void multiply_into(Int M, Int N, Int K, const Operand<T>& a, const Operand<T>& b, T keep, T* c, Int stride) {
  blas_multiply(a.transposed, b.transposed, M, N, K, a.data, a.stride, b.data, b.stride, keep, c, stride);
}

/// A batch [B, m, n] of adjacent matrices, k the shorter side and l the longer one.
class Shape {
 public:
  explicit Shape(const at::Tensor& y)
      : count(y.size(0)), k(std::min(y.size(1), y.size(2))), l(std::max(y.size(1), y.size(2))), tall(y.size(1) > y.size(2)) {
    constexpr Int kWorthThreads = Int{1} << 16;
    pieces_ = std::clamp<Int>(k * l >> 18, 1, 16);
    parts_ = std::max(pieces_, std::clamp<Int>(k * l / kWorthThreads, 1, 8));
    alone_ = count < at::get_num_threads() && k * l >= kWorthThreads;
  }
  const Int count, k, l;
  const bool tall;

  /// Of Y in a Gram matrix, each of which has a sum of its own, and of Y in products with the BLAS, which have none.
  Int pieces() const { return pieces_; }
  Int parts() const { return parts_; }
  /// Where piece i of n begins on the longer side: at a multiple of 32, but for the end.
  Int begin(Int i, Int n) const { return i == n ? l : l * i / n / 32 * 32; }
  bool alone() const { return alone_; }
  /// f(i) for i = 0 .. n - 1, on all threads if there is but this matrix for them.
  template <class F>
  void each(Int n, const F& f) const {
    at::parallel_for(0, n, alone_ ? 1 : n, [&](Int first, Int end) {
      for (Int i = first; i < end; ++i) f(i);
    });
  }

 private:
  Int pieces_, parts_;
  bool alone_;
};

/// Up to which shorter side our kernels serve. Beyond 512 panels leave the first cache, and the BLAS is as fast on Intel's
/// processors. On others MKL has no kernels for AVX-512: on Zen 5 ours take less than half its time, up to 2,048 at least.
Int largest_side() {
#if defined(__x86_64__)
  if (!__builtin_cpu_is("intel")) return 4096;
#endif
  return 512;
}

/// The kernels for matrices of this shape; null where the BLAS serves them.
template <class T>
const PackedProducts<T>* packed_products(const Shape& shape) {
  if (shape.k % 32 != 0 || shape.l % 32 != 0 || shape.k > largest_side()) return nullptr;
  return instruction_set() == InstructionSet::avx512 ? packed_products_avx512<T>() : nullptr;
}

/// One matrix and what is derived from it.
template <class T>
class Iteration {
 public:
  explicit Iteration(const Shape& shape)
      : shape_(shape),
        k_(shape.k),
        packed_(packed_products<T>(shape)),
        block_(block_size()),
        loops_(step_loops<T>()),
        panels_(packed_ ? (shape.alone() ? shape.pieces() : 1) * k_ * std::max(k_, kChunk) : 0),
        sums_(shape.pieces() > 1 ? shape.pieces() * k_ * k_ : 0),
        r_(k_ * k_),
        s_(k_ * k_),
        p_(k_ * k_),
        q_(k_ * k_),
        t_(k_ * k_) {}

  /// X <- a X + b (X X^T) X + c (X X^T)^2 X for each step; returns where the result is.
  T* on_x(T* y, T* next, std::span<const Quintic> steps) {
    for (const auto& [a, b, c] : steps) {
      gram(y, r_.data());
      symmetric(r_.data(), r_.data(), s_.data());
      loops_.combine(static_cast<T>(b), r_.data(), static_cast<T>(c), s_.data(), p_.data(), k_ * k_);
      add_to_diagonal(p_.data(), static_cast<T>(a));
      apply(p_.data(), y, next);
      std::swap(y, next);
    }
    return y;
  }

  /// The same by way of R = X X^T, with a restart after two steps.
  T* by_gram(T* y, T* next, std::span<const Quintic> steps) {
    constexpr std::size_t kRestart = 2;
    T *r = r_.data(), *s = s_.data(), *p = p_.data(), *q = q_.data(), *t = t_.data();
    bool fresh = true;  // Q is I
    for (std::size_t step = 0; step < steps.size(); ++step) {
      if (step == 0 || step == kRestart) {
        if (step > 0) apply(q, y, next), std::swap(y, next);
        gram(y, r);
        fresh = true;
      }
      const auto& [a, b, c] = steps[step];
      symmetric(r, r, s);
      loops_.combine(static_cast<T>(b), r, static_cast<T>(c), s, p, k_ * k_);
      add_to_diagonal(p, static_cast<T>(a));
      if (step + 1 < steps.size() && step + 1 != kRestart) {
        symmetric(p, r, t);
        symmetric(t, p, r);
      }
      if (fresh) {
        std::swap(p, q);
      } else {
        symmetric(p, q, t);
        std::swap(t, q);
      }
      fresh = false;
    }
    apply(q, y, next);
    return next;
  }

 private:
  Int block_size() const {
    if (packed_) return 32;
    return k_ < 128 ? k_ : 64;
  }
  Int blocks() const { return (k_ + block_ - 1) / block_; }
  void add_to_diagonal(T* x, T value) {
    for (Int i = 0; i < k_; ++i) x[i * k_ + i] += value;
  }

  /// Scratch memory of the thread that does `piece`.
  T* panels(Int piece) const { return panels_.data() + (shape_.alone() ? piece * k_ * std::max(k_, kChunk) : 0); }

  /// f(row, end) for each block of rows; short products up to the diagonal and long ones take turns.
  template <class F>
  void each_block(const F& f) const {
    shape_.each(blocks(), [&](Int i) {
      const Int row = (i % 2 == 0 ? i / 2 : blocks() - 1 - i / 2) * block_;
      f(row, std::min(k_, row + block_));
    });
  }

  /// The blocks above the diagonal from those below.
  void mirror(T* x) const {
    if (packed_) return packed_->mirror(x, k_);
    constexpr Int kTile = 16;
    for (Int row = block_; row < k_; row += block_)
      for (Int i = row; i < std::min(k_, row + block_); i += kTile)
        for (Int j = 0; j < row; j += kTile)
          for (Int a = i; a < std::min({k_, row + block_, i + kTile}); ++a)
            for (Int b = j; b < std::min(row, j + kTile); ++b) x[b * k_ + a] = x[a * k_ + b];
  }

  /// C = A B for symmetric A and B that commute.
  void symmetric(const T* a, const T* b, T* c) const {
    if (packed_) packed_->pack(b, k_, false, k_, k_, panels(0));
    each_block([&](Int row, Int end) {
      if (packed_) return packed_->multiply(a + row * k_, k_, panels(0), end - row, end, k_, c + row * k_, k_);
      multiply_into<T>(end - row, end, k_, {a + row * k_, k_}, {b, k_}, 0, c + row * k_, k_);
    });
    mirror(c);
  }

  /// The blocks up to the diagonal of what a piece of Y adds to R.
  void gram_of_piece(const T* y, Int piece, T* to) const {
    const Int first = shape_.begin(piece, shape_.pieces()), length = shape_.begin(piece + 1, shape_.pieces()) - first;
    for (Int done = 0; done < length; done += kChunk) {
      const Int some = std::min(kChunk, length - done), at = first + done;
      packed_->pack(y + (shape_.tall ? at * k_ : at), shape_.tall ? k_ : shape_.l, !shape_.tall, some, k_, panels(piece));
      packed_->gram(panels(piece), some, k_, done > 0, to);
    }
  }
  /// One block of rows of the same, by the BLAS.
  void gram_of_piece(const T* y, Int piece, Int row, T* to) const {
    const Int first = shape_.begin(piece, shape_.pieces()), length = shape_.begin(piece + 1, shape_.pieces()) - first;
    const Int end = std::min(k_, row + block_);
    if (shape_.tall)
      multiply_into<T>(end - row, end, length, {y + first * k_ + row, k_, true}, {y + first * k_, k_}, 0, to + row * k_, k_);
    else
      multiply_into<T>(end - row, end, length, {y + row * shape_.l + first, shape_.l}, {y + first, shape_.l, true}, 0,
                       to + row * k_, k_);
  }

  /// R = Y Y^T or Y^T Y, whichever is small.
  void gram(const T* y, T* r) {
    const Int pieces = shape_.pieces();
    const auto sum = [&](Int piece) { return pieces > 1 ? sums_.data() + piece * k_ * k_ : r; };
    if (packed_)
      shape_.each(pieces, [&](Int piece) { gram_of_piece(y, piece, sum(piece)); });
    else
      shape_.each(pieces * blocks(),
                  [&](Int i) { gram_of_piece(y, i / blocks(), i % blocks() * block_, sum(i / blocks())); });
    if (pieces > 1) {  // what lies above the diagonal blocks is not set, and not read
      for (Int row = 0; row < k_; row += block_)
        for (Int i = row; i < std::min(k_, row + block_); ++i) {
          const Int width = std::min(k_, row + block_);
          std::copy_n(sums_.data() + i * k_, width, r + i * k_);
          for (Int piece = 1; piece < pieces; ++piece)
            loops_.apply(r + i * k_, sums_.data() + (piece * k_ + i) * k_, T(1), T(-1), width);
        }
    }
    mirror(r);
  }

  /// next = P Y or Y P
  void apply(const T* p, const T* y, T* next) const {
    const Int l = shape_.l, parts = packed_ ? shape_.pieces() : shape_.parts();
    shape_.each(parts, [&](Int part) {
      const Int first = shape_.begin(part, parts), length = shape_.begin(part + 1, parts) - first;
      if (packed_) {
        if (shape_.tall) {
          packed_->pack(p, k_, false, k_, k_, panels(part));
          return packed_->multiply(y + first * k_, k_, panels(part), length, k_, k_, next + first * k_, k_);
        }
        for (Int done = 0; done < length; done += kChunk) {
          const Int some = std::min(kChunk, length - done), at = first + done;
          packed_->pack(y + at, l, false, k_, some, panels(part));
          packed_->multiply(p, k_, panels(part), k_, some, k_, next + at, l);
        }
        return;
      }
      if (shape_.tall)
        multiply_into<T>(length, k_, k_, {y + first * k_, k_}, {p, k_}, 0, next + first * k_, k_);
      else
        multiply_into<T>(k_, length, k_, {p, k_}, {y + first, l}, 0, next + first, l);
    });
  }

  static constexpr Int kChunk = 256;  ///< columns or rows of Y in panels at a time

  const Shape& shape_;
  Int k_;
  const PackedProducts<T>* packed_;
  Int block_;
  const StepLoops<T>& loops_;
  Buffer<T> panels_, sums_, r_, s_, p_, q_, t_;
};

template <class T>
at::Tensor iterate(const at::Tensor& y, std::span<const Quintic> steps, bool by_gram) {
  const Shape shape(y);
  const at::Tensor next = at::empty_like(y);
  T *given = elements<T>(y), *other = elements<T>(next);
  const Int size = shape.k * shape.l;
  // Where matrices do not all begin alike, the BLAS would round each as its place in the batch has it.
  const bool aligned = size % (64 / static_cast<Int>(sizeof(T))) == 0;
  bool in_next = false;
  const auto run = [&](Int begin, Int end) {
    Iteration<T> iteration(shape);
    const Buffer<T> x(aligned ? 0 : size), spare(aligned ? 0 : size);
    for (Int i = begin; i < end; ++i) {
      T* from = aligned ? given + i * size : std::copy_n(given + i * size, size, x.data()) - size;
      T* to = aligned ? other + i * size : spare.data();
      const T* result = by_gram ? iteration.by_gram(from, to, steps) : iteration.on_x(from, to, steps);
      if (!aligned)
        std::copy_n(result, size, given + i * size);
      else if (i == 0)
        in_next = result == to;
    }
  };
  if (shape.alone())
    run(0, shape.count);
  else
    at::parallel_for(0, shape.count, grain_of(size * 16), run);
  return in_next ? next : y;
}

}  // namespace

at::Tensor iterate_by_blas(const at::Tensor& y, std::span<const Quintic> steps, bool by_gram) {
  const bool turned = !y.is_contiguous() && y.mT().is_contiguous();
  const at::Tensor dense = turned ? y.mT() : y.contiguous();
  const at::Tensor result =
      y.scalar_type() == at::kDouble ? iterate<double>(dense, steps, by_gram) : iterate<float>(dense, steps, by_gram);
  return turned ? result.mT() : result;
}

}  // namespace equisweep
