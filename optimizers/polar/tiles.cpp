// The quintics of polynomial.cpp in bf16 on machines with AMX or AVX512-BF16: all steps of a matrix on one thread, in its
// caches, or piece by piece where there are fewer matrices than threads. A matrix is worked on with its short side as rows,
// Y [k, l]; what is tall is turned before and after, what is no multiple of 32 is padded with zeros, which stay zero.
//
//   a step:  P = b G + c G^2 for G = Y Y^T; then for each piece of columns Y <- a Y + P Y and its part of the next G
//
// 5 ((1 + 2 l/k) k^3 + l/k k^3) flops for five steps, near half of them saved where G and G^2 are symmetric. G is fp32; it
// is rounded to bf16 to be multiplied, and P is. Pieces depend on the shape alone, and so does the order of sums.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/kernels.h"
#include "optimizers/kernels/bf16_quintic.h"
#include "optimizers/kernels/streams.inc"
#include "optimizers/polar/methods.h"

namespace equisweep {
namespace {

using Int = std::int64_t;

constexpr Int to_32(Int n) { return (n + 31) / 32 * 32; }

/// Matrices [rows, columns], as Y [k, l] in pieces of `width` columns.
struct TileShape {
  TileShape(Int given_rows, Int given_columns)
      : rows(given_rows),
        columns(given_columns),
        tall(rows > columns),
        k(to_32(std::min(rows, columns))),
        l(to_32(std::max(rows, columns))),
        width(std::clamp<Int>((Int{1} << 17) / k / 32 * 32, 32, 512)),
        pieces((l + width - 1) / width),
        in_place(!tall && k == rows && l == columns) {}
  Int rows, columns;
  bool tall;
  Int k, l, width, pieces;
  bool in_place;
};

/// All steps of one matrix after the other.
class TileIteration {
 public:
  TileIteration(const Bf16Quintic& kernels, const TileShape& shape, bool parallel)
      : kernels_(kernels),
        shape_(shape),
        parallel_(parallel),
        y_(shape.in_place ? 0 : shape.k * shape.l),
        r_(square()),
        p_(square()),
        square_panels_(square()),
        panels_((parallel ? shape.pieces : 1) * shape.k * shape.width),
        g_(shape.pieces * square()) {}

  void run(Bf16* x, std::span<const Quintic> steps) {
    Bf16* y = shape_.in_place ? x : y_.data();
    if (!shape_.in_place) bring(x, y);
    each_piece([&](Int piece) { gram(y, piece); });
    for (std::size_t step = 0; step < steps.size(); ++step) {
      const auto& [a, b, c] = steps[step];
      add_pieces();
      kernels_.polynomial(g_.data(), shape_.k, static_cast<float>(b), static_cast<float>(c), r_.data(),
                          square_panels_.data(), p_.data());
      each_piece([&](Int piece) {
        kernels_.apply(p_.data(), shape_.k, static_cast<float>(a), y + begin(piece), shape_.l, length(piece), panels(piece));
        if (step + 1 < steps.size()) gram(y, piece);
      });
    }
    if (!shape_.in_place) take_back(y, x);
  }

 private:
  Int square() const { return shape_.k * shape_.k; }
  Int begin(Int piece) const { return piece * shape_.width; }
  Int length(Int piece) const { return std::min(shape_.width, shape_.l - begin(piece)); }
  Bf16* panels(Int piece) const { return panels_.data() + (parallel_ ? piece * shape_.k * shape_.width : 0); }

  template <class F>
  void each_piece(const F& f) const {
    at::parallel_for(0, shape_.pieces, parallel_ ? 1 : shape_.pieces, [&](Int first, Int end) {
      for (Int piece = first; piece < end; ++piece) f(piece);
    });
  }
  void gram(const Bf16* y, Int piece) const {
    kernels_.gram(y + begin(piece), shape_.l, shape_.k, length(piece), panels(piece), g_.data() + piece * square());
  }
  void add_pieces() const {
    for (Int piece = 1; piece < shape_.pieces; ++piece)
      for (Int i = 0; i < shape_.k; ++i) {
        float* to = g_.data() + i * shape_.k;
        step_loops<float>().apply(to, to + piece * square(), 1, -1, (i / 32 + 1) * 32);
      }
  }
  bool whole() const {
    return std::min(shape_.rows, shape_.columns) == shape_.k && std::max(shape_.rows, shape_.columns) == shape_.l;
  }
  void bring(const Bf16* x, Bf16* y) {
    if (whole())
      return each_piece([&](Int piece) {
        kernels_.turn(x + begin(piece) * shape_.k, length(piece), shape_.k, shape_.k, y + begin(piece), shape_.l);
      });
    std::fill_n(y, shape_.k * shape_.l, Bf16{});
    for (Int i = 0; i < shape_.rows; ++i)
      for (Int j = 0; j < shape_.columns; ++j)
        y[shape_.tall ? j * shape_.l + i : i * shape_.l + j] = x[i * shape_.columns + j];
  }
  void take_back(const Bf16* y, Bf16* x) const {
    if (whole())
      return each_piece([&](Int piece) {
        kernels_.turn(y + begin(piece), shape_.k, length(piece), shape_.l, x + begin(piece) * shape_.k, shape_.k);
      });
    for (Int i = 0; i < shape_.rows; ++i)
      for (Int j = 0; j < shape_.columns; ++j)
        x[i * shape_.columns + j] = y[shape_.tall ? j * shape_.l + i : i * shape_.l + j];
  }

  const Bf16Quintic& kernels_;
  const TileShape& shape_;
  bool parallel_;
  Buffer<Bf16> y_, r_, p_, square_panels_, panels_;
  Buffer<float> g_;
};

}  // namespace

std::optional<at::Tensor> iterate_on_tiles(const at::Tensor& y, std::span<const Quintic> steps) {
  constexpr Int kLargestSide = 512;  // of the shorter one: beyond it, G and P leave the second cache
  const Bf16Quintic* const quintic = best_bf16(amx_quintic(), avx512_bf16_quintic());
  if (!quintic || !y.is_cpu() || y.scalar_type() != at::kBFloat16 || y.numel() == 0 ||
      std::min(y.size(1), y.size(2)) > kLargestSide)
    return std::nullopt;
  const bool turned = !y.is_contiguous() && y.mT().is_contiguous();
  const at::Tensor dense = turned ? y.mT() : y.contiguous();
  const TileShape shape(dense.size(1), dense.size(2));
  const Int count = dense.size(0), size = shape.rows * shape.columns;
  const bool parallel = count < at::get_num_threads() && shape.pieces > 1;
  const auto run = [&](Int begin, Int end) {
    TileIteration iteration(*quintic, shape, parallel);
    for (Int i = begin; i < end; ++i) iteration.run(elements<Bf16>(dense) + i * size, steps);
  };
  if (parallel)
    run(0, count);
  else
    at::parallel_for(0, count, grain_of(size), run);
  return turned ? dense.mT() : dense;
}

}  // namespace equisweep
