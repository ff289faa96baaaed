#include "analysis/audit/on_device.h"

#include <ATen/ATen.h>

namespace equisweep {

at::Tensor OnDevice::direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const {
  RuleState there;
  there.step = state.step;
  for (const at::Tensor& slot : state.slots)
    there.slots.push_back(slot.to(device_, slot.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
  const at::Tensor direction = rule_->direction(gradient.to(device_), there, block);
  state.step = there.step;
  for (std::size_t i = 0; i < state.slots.size(); ++i) state.slots[i] = there.slots[i].to(state.slots[i].device());
  return direction.to(gradient.device());
}

std::shared_ptr<const UpdateRule> on_device(std::shared_ptr<const UpdateRule> rule, at::Device device) {
  if (device.is_cpu()) return rule;
  return std::make_shared<OnDevice>(std::move(rule), device);
}

}  // namespace equisweep
