// A rule that computes on another device is audited as one that does not: nothing is lost or rounded on the way.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "analysis/audit/audit.h"
#include "analysis/audit/on_device.h"
#include "tests/analysis/audit_rules.h"

namespace equisweep {
namespace test_on_device {

AuditOptions few_elements() {
  AuditOptions options;
  options.precisions = {at::kDouble, at::kFloat, at::kBFloat16};
  options.elements = 3;
  return options;
}

AuditSubject subject(std::shared_ptr<const UpdateRule> rule) {
  AuditSubject result;
  result.name = "subject";
  result.rule = std::move(rule);
  result.degree = 0;
  result.through_views = true;
  return result;
}

void expect_same(const std::vector<Finding>& a, const std::vector<Finding>& b) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_FALSE(a.empty());
  for (std::size_t i = 0; i < a.size(); ++i) {
    SCOPED_TRACE(a[i].precision + " " + a[i].column + " " + a[i].view);
    EXPECT_EQ(a[i].column, b[i].column);
    EXPECT_EQ(a[i].claimed, b[i].claimed);
    EXPECT_EQ(a[i].note, b[i].note);
    EXPECT_EQ(a[i].cell.verdict, b[i].cell.verdict);
    EXPECT_EQ(a[i].cell.error, b[i].cell.error);
    EXPECT_EQ(a[i].cell.floor, b[i].cell.floor);
    EXPECT_EQ(a[i].cell.worst, b[i].cell.worst);
  }
}

// The device is the CPU here, and yet everything goes the way to a device and back (tests/cuda has a real one).
TEST(OnDevice, HasTheCellsOfTheRuleItself) {
  const auto rule = std::make_shared<testing::RowNorm>(true);
  const auto there = std::make_shared<OnDevice>(rule, at::kCPU);
  EXPECT_EQ(there->slots(), rule->slots());
  EXPECT_EQ(there->symmetry(), rule->symmetry());
  EXPECT_EQ(there->coordinatewise(), rule->coordinatewise());
  EXPECT_EQ(there->retained(0.1, 0.2), rule->retained(0.1, 0.2));
  expect_same(audit({subject(rule)}, few_elements()), audit({subject(there)}, few_elements()));
}

TEST(OnDevice, TheCpuNeedsNoWayThere) {
  const std::shared_ptr<const UpdateRule> rule = std::make_shared<testing::RowNorm>();
  EXPECT_EQ(on_device(rule, at::kCPU), rule);
  EXPECT_NE(on_device(rule, at::kMeta), rule);
}

// A state is what it is after the step: its bits, and how many gradients it holds.
TEST(OnDevice, TheStateComesBack) {
  const auto rule = std::make_shared<testing::RowNorm>();
  const OnDevice there(rule, at::kCPU);
  const at::Tensor gradient = at::arange(12, at::kFloat).view({3, 4}) - 5;
  RuleState a = make_state(*rule, gradient.sizes(), gradient.options()),
            b = make_state(there, gradient.sizes(), gradient.options());
  for (std::int64_t step = 1; step <= 3; ++step) {
    EXPECT_TRUE(at::equal(rule->direction(gradient, a, {3, 4}), there.direction(gradient, b, {3, 4})));
    EXPECT_EQ(a.step, b.step);
    EXPECT_TRUE(at::equal(a.slots[0], b.slots[0]));
  }
  EXPECT_GT(b.slots[0].abs().max().item<float>(), 0);
}

}  // namespace test_on_device
}  // namespace equisweep
