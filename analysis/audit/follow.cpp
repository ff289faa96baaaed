#include "analysis/audit/follow.h"

#include <ATen/ATen.h>

#include "analysis/audit/statistic.h"
#include "core/rng.h"

namespace equisweep {
namespace {

RuleState copy_of(const RuleState& state) {
  RuleState copy;
  copy.step = state.step;
  for (const at::Tensor& slot : state.slots) copy.slots.push_back(slot.clone());
  return copy;
}

// `draws` copies of x, each entry multiplied by 1 + u r. In double, so that the factor is not lost where u is that of x.
at::Tensor perturbed(const at::Tensor& x, double u, std::int64_t draws, std::uint64_t seed, std::uint64_t index) {
  auto generator = make_generator(seed, "floor", index);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), draws);
  const at::Tensor r = at::rand(shape, generator, at::kDouble).mul_(2).sub_(1);
  const at::Tensor wide = x.to(at::kDouble);
  return (wide + wide * r.mul_(u)).to(x.scalar_type());
}

}  // namespace

Trajectory follow(const UpdateRule& rule, const std::vector<at::Tensor>& gradients, const BlockInfo& block) {
  TORCH_CHECK(!gradients.empty(), "a rule is followed along at least one gradient");
  Trajectory result;
  result.before = make_state(rule, gradients[0].sizes(), gradients[0].options());
  for (std::size_t t = 0; t + 1 < gradients.size(); ++t) rule.direction(gradients[t], result.before, block);
  result.gradient = gradients.back();
  result.direction = step_once(rule, result.before, result.gradient, block);
  return result;
}

at::Tensor step_once(const UpdateRule& rule, const RuleState& state, const at::Tensor& gradient, const BlockInfo& block) {
  RuleState copy = copy_of(state);
  return rule.direction(gradient, copy, block);
}

at::Tensor rounding_floor(const UpdateRule& rule, const Trajectory& trajectory, const BlockInfo& block, double u,
                          std::int64_t draws, std::int64_t axes, std::uint64_t seed) {
  const at::ScalarType narrow = trajectory.gradient.scalar_type(), wide = at::promote_types(narrow, at::kFloat);
  at::Tensor floor;
  // A bf16 gradient perturbed by less than half a step would be rounded back to itself, so it is handed in as fp32; and once
  // more as bf16, for rules that compute in the dtype of the gradient.
  for (const at::ScalarType dtype : {wide, narrow}) {
    if (floor.defined() && narrow == wide) break;
    RuleState state;
    state.step = trajectory.before.step;
    for (std::size_t i = 0; i < trajectory.before.slots.size(); ++i)
      state.slots.push_back(perturbed(trajectory.before.slots[i], u, draws, seed, i + 1));
    const at::Tensor gradient = perturbed(trajectory.gradient.to(dtype), u, draws, seed, 0);
    const at::Tensor direction = rule.direction(gradient, state, block).to(narrow);
    const at::Tensor worst =
        relative_errors(direction, trajectory.direction.unsqueeze(0).expand_as(direction), axes).amax(0);
    floor = floor.defined() ? at::maximum(floor, worst) : worst;
  }
  return floor.clamp_min_(u / 2);
}

}  // namespace equisweep
