#pragma once
// A rule that computes on another device than its caller. Internal to analysis/audit.

#include <memory>
#include <utility>

#include "core/update_rule.h"

namespace equisweep {

/// `rule` for a caller whose gradients and states are on the CPU: both go to `device` for each direction, and come back.
/// Bits are copied, so that the numbers are those of the device.
class OnDevice final : public UpdateRule {
 public:
  OnDevice(std::shared_ptr<const UpdateRule> rule, at::Device device) : rule_(std::move(rule)), device_(device) {}

  std::vector<std::string> slots() const override { return rule_->slots(); }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override;
  Symmetry symmetry() const override { return rule_->symmetry(); }
  double retained(double lr, double weight_decay) const override { return rule_->retained(lr, weight_decay); }
  bool coordinatewise() const override { return rule_->coordinatewise(); }

  /// The rule itself, which computes where its gradient is.
  const UpdateRule& rule() const { return *rule_; }

 private:
  std::shared_ptr<const UpdateRule> rule_;
  at::Device device_;
};

/// `rule` on `device`; `rule` itself for the CPU.
std::shared_ptr<const UpdateRule> on_device(std::shared_ptr<const UpdateRule> rule, at::Device device);

}  // namespace equisweep
