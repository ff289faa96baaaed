#include "analysis/audit/follow.h"

#include <ATen/ATen.h>

#include <cfenv>

#include "analysis/audit/on_device.h"
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

/// The rounding of this thread's floating-point operations for as long as it lives.
class RoundingMode {
 public:
  explicit RoundingMode(int mode) : before_(std::fegetround()) { std::fesetround(mode); }
  ~RoundingMode() { std::fesetround(before_); }
  RoundingMode(const RoundingMode&) = delete;
  RoundingMode& operator=(const RoundingMode&) = delete;

 private:
  int before_;
};

at::Tensor perturbed_direction(const UpdateRule& rule, const std::vector<at::Tensor>& gradients, const BlockInfo& block,
                               double u, std::int64_t draws, std::uint64_t seed, at::ScalarType dtype, int mode) {
  std::vector<at::Tensor> given;
  for (std::size_t t = 0; t < gradients.size(); ++t)
    given.push_back(perturbed(gradients[t].to(dtype), u, draws, derive_seed(seed, "gradient", t), 0));
  RuleState state = make_state(rule, given[0].sizes(), gradients[0].options());
  {
    const RoundingMode rounding(mode);
    for (std::size_t t = 0; t + 1 < given.size(); ++t) rule.direction(given[t], state, block);
  }
  for (std::size_t i = 0; i < state.slots.size(); ++i)
    state.slots[i] = perturbed(state.slots[i], u, 1, derive_seed(seed, "state"), i).squeeze(0);
  const RoundingMode rounding(mode);
  return rule.direction(given.back(), state, block);
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

at::Tensor rounding_floor(const UpdateRule& rule, const std::vector<at::Tensor>& gradients, const at::Tensor& direction,
                          const BlockInfo& block, const FloorDraws& draws, std::int64_t axes) {
  const at::ScalarType narrow = direction.scalar_type(), wide = at::promote_types(narrow, at::kFloat);
  const auto* const elsewhere = dynamic_cast<const OnDevice*>(&rule);
  const UpdateRule& directed = elsewhere != nullptr ? elsewhere->rule() : rule;
  const at::Tensor plain = elsewhere != nullptr ? follow(directed, gradients, block).direction : direction;
  at::Tensor floor;
  const auto run = [&](at::ScalarType dtype, std::int64_t count, int mode, std::uint64_t seed) {
    const bool nearest = mode == FE_TONEAREST;
    const at::Tensor result =
        perturbed_direction(nearest ? rule : directed, gradients, block, draws.u, count, seed, dtype, mode).to(narrow);
    const at::Tensor worst =
        relative_errors(result, (nearest ? direction : plain).unsqueeze(0).expand_as(result), axes).amax(0);
    floor = floor.defined() ? at::maximum(floor, worst) : worst;
  };
  // A bf16 gradient perturbed by less than half a step would be rounded back to itself, so it is handed in as fp32; and once
  // more as bf16, for rules that compute in the dtype of the gradient.
  if (draws.to_nearest > 0) run(wide, draws.to_nearest, FE_TONEAREST, derive_seed(draws.seed, "nearest"));
  if (draws.to_nearest > 0 && narrow != wide) run(narrow, draws.to_nearest, FE_TONEAREST, derive_seed(draws.seed, "narrow"));
  if (draws.upward) run(wide, 1, FE_UPWARD, derive_seed(draws.seed, "upward"));
  if (draws.downward) run(wide, 1, FE_DOWNWARD, derive_seed(draws.seed, "downward"));
  return floor.clamp_min_(draws.u / 2);
}

}  // namespace equisweep
