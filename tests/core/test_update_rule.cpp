#include "core/update_rule.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace equisweep {
namespace test_update_rule {

class TwoSlots : public UpdateRule {
 public:
  std::vector<std::string> slots() const override { return {"m", "v"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState&, const BlockInfo&) const override { return gradient.clone(); }
  Symmetry symmetry() const override { return {}; }
};

TEST(UpdateRule, StateIsZeroAndAtLeastSinglePrecision) {
  const std::vector<std::pair<at::ScalarType, at::ScalarType>> widened = {
      {at::kBFloat16, at::kFloat}, {at::kHalf, at::kFloat}, {at::kFloat, at::kFloat}, {at::kDouble, at::kDouble}};
  for (const auto& [given, expected] : widened) {
    const auto state = make_state(TwoSlots(), {3, 4, 5}, at::TensorOptions(given).requires_grad(true));
    ASSERT_EQ(state.slots.size(), 2U);
    EXPECT_EQ(state.step, 0);
    for (const auto& slot : state.slots) {
      EXPECT_EQ(slot.scalar_type(), expected);
      EXPECT_EQ(slot.sizes().vec(), (std::vector<std::int64_t>{3, 4, 5}));
      EXPECT_EQ(slot.abs().sum().item<double>(), 0);
      EXPECT_FALSE(slot.requires_grad());
    }
    EXPECT_FALSE(state.slots[0].is_alias_of(state.slots[1]));
  }
  EXPECT_THROW(make_state(TwoSlots(), {3}, at::kLong), c10::Error);
}

TEST(UpdateRule, TheWeightKeepsOneMinusLrTimesDecay) {
  EXPECT_EQ(TwoSlots().retained(0.5, 0.25), 0.875);
  EXPECT_EQ(TwoSlots().retained(0.5, 0), 1);
}

}  // namespace test_update_rule
}  // namespace equisweep
