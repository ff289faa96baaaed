#include "analysis/diagnostics/shadow.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include <numbers>
#include <utility>

#include "core/rng.h"

namespace equisweep {
namespace {

constexpr std::size_t kDrawsAtPlain = 2;
// Draws are windows of one long sequence, so far apart that none meets another for this many steps.
constexpr std::int64_t kOffsets = 8192, kStride = 127;

at::Tensor length_of(const at::Tensor& x) { return at::linalg_vector_norm(x.to(at::kDouble)); }

at::Tensor distance_of(const at::Tensor& a, const at::Tensor& b) { return length_of(a.to(at::kDouble) - b.to(at::kDouble)); }

/// frac(i^2 phi) scaled to [-1, 1): no generator of the host and no transfer. i frac(i phi) has the same fraction as i^2 phi
/// and keeps its digits where i^2 would have none left.
at::Tensor scattered_numbers(std::int64_t count, const at::TensorOptions& options, std::uint64_t seed) {
  const auto first = static_cast<std::int64_t>(SplitMix64(seed).below(1U << 20));
  const at::Tensor i = at::arange(first, first + count, options.dtype(at::kDouble));
  return i.mul(std::numbers::phi).frac_().mul_(i).frac_().mul_(2).sub_(1).to(at::kFloat);
}

}  // namespace

Shadow::Shadow(Options options)
    : options_(std::move(options)),
      draws_(kDrawsAtPlain),
      moved_(options_.elements.size()),
      moved_draws_(options_.elements.size()) {}

void Shadow::Follower::receive(const UpdateRule& rule, const at::Tensor& gradient, const BlockInfo& block) {
  if (state.slots.empty() && state.step == 0) state = make_state(rule, gradient.sizes(), gradient.options());
  direction = rule.direction(gradient, state, block);
}

at::Tensor Shadow::noise(at::IntArrayRef shape, const at::TensorOptions& options) {
  const std::int64_t count = c10::multiply_integers(shape);
  if (!noise_.defined()) noise_ = scattered_numbers(count + kOffsets, options, derive_seed(options_.seed, "noise"));
  return noise_.narrow(0, drawn_++ * kStride % kOffsets, count).view(shape);
}

at::Tensor Shadow::perturbed(const at::Tensor& gradient) {
  const at::Tensor wide = gradient.to(at::kDouble);
  // A bf16 gradient perturbed by less than half a step would be rounded back to itself.
  return (wide + wide * noise(gradient.sizes(), gradient.options()) * options_.u)
      .to(at::promote_types(gradient.scalar_type(), at::kFloat));
}

at::Tensor Shadow::shifted(const at::Tensor& gradient) {
  const at::Tensor wide = gradient.to(at::kDouble);
  const at::Tensor c = scattered_numbers(gradient.size(-1), gradient.options(),
                                         derive_seed(options_.seed, "shift", static_cast<std::uint64_t>(gradients_)));
  return (wide + c * (wide.square().mean() * 3).sqrt()).to(gradient.scalar_type());
}

void Shadow::receive(const UpdateRule& rule, const at::Tensor& gradient) {
  const BlockInfo& block = options_.block;
  plain_.receive(rule, gradient, block);
  for (Follower& draw : draws_) draw.receive(rule, perturbed(gradient), block);
  for (std::size_t i = 0; i < options_.elements.size(); ++i) {
    const at::Tensor moved = options_.elements[i].act(gradient);
    moved_[i].receive(rule, moved, block);
    moved_draws_[i].receive(rule, perturbed(moved), block);
  }
  if (options_.with_shift) shifted_.receive(rule, shifted(gradient), block);
  ++gradients_;
}

Shadow::Result Shadow::judge() const {
  const at::Tensor& phi = plain_.direction;
  const at::Tensor size = length_of(phi);
  at::Tensor floor = at::full({}, options_.u / 2, size.options());
  for (const Follower& draw : draws_) floor = at::maximum(floor, distance_of(draw.direction, phi) / size);
  Result result;
  for (std::size_t i = 0; i < options_.elements.size(); ++i) {
    const at::Tensor& moved = moved_[i].direction;
    result.error.push_back(distance_of(moved, options_.elements[i].act(phi.to(at::kDouble))) / size);
    result.floor.push_back(at::maximum(floor, distance_of(moved_draws_[i].direction, moved) / size));
  }
  if (options_.with_shift) result.shift = distance_of(shifted_.direction, phi) / size;
  return result;
}

}  // namespace equisweep
