// Errors, floors, ratios and verdicts against closed forms.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <limits>
#include <string>

#include "analysis/audit/check.h"
#include "analysis/audit/controls.h"
#include "analysis/audit/follow.h"
#include "analysis/audit/groups.h"
#include "analysis/audit/inputs.h"
#include "analysis/audit/layouts.h"
#include "audit_rules.h"

namespace equisweep {
namespace test_audit_statistic {

using namespace testing;

at::Tensor numbers(std::vector<double> values) { return at::tensor(values, at::kDouble); }

Cell judge(const std::vector<double>& errors, const std::vector<double>& floors) {
  Tally tally;
  tally.add(numbers(errors), numbers(floors), [](std::int64_t i) { return "sample " + std::to_string(i); });
  return tally.judge(20);
}

TEST(AuditStatistic, Verdicts) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(judge({0, 0}, {1e-16, 1e-16}).verdict, Verdict::exact);
  EXPECT_EQ(judge({0, 4.9e-16}, {1e-16, 1e-16}).verdict, Verdict::holds);
  EXPECT_EQ(judge({0, 5.1e-16}, {1e-16, 1e-16}).verdict, Verdict::inspect);
  EXPECT_EQ(judge({30.1e-16, 0}, {1e-16, 1e-16}).verdict, Verdict::broken);
  EXPECT_EQ(judge({inf}, {1}).verdict, Verdict::broken);
  // With a floor above 1/30 an error of 100% would still be called rounding: such samples cannot acquit.
  EXPECT_EQ(judge({0.1}, {0.05}).verdict, Verdict::undecided);
  EXPECT_EQ(judge({0.9}, {0.05}).verdict, Verdict::undecided);  // nor convict
  EXPECT_EQ(judge({0.9, 1e-16, 0.9}, {0.05, 1e-16, 0.05}).verdict, Verdict::holds);
  EXPECT_EQ(judge({1e-16, 0.9}, {1e-16, 0.05}).worst, "sample 0");
  EXPECT_EQ(judge({inf, 1e-16}, {inf, 1e-16}).verdict, Verdict::broken);
  EXPECT_EQ(judge({0.1, 1e-3}, {0.05, 1e-3}).verdict, Verdict::holds);
  EXPECT_EQ(judge({0.9}, {0.01}).verdict, Verdict::broken);
  EXPECT_EQ(judge({nan}, {nan}).verdict, Verdict::undecided);
  EXPECT_EQ(judge({nan}, {nan}).samples, 0);
}

TEST(AuditStatistic, TheCellNamesItsWorstSample) {
  const Cell cell = judge({1e-3, 8e-3, 2e-3}, {1e-3, 1e-3, 1e-4});
  EXPECT_EQ(cell.worst, "sample 2");
  EXPECT_DOUBLE_EQ(cell.ratio, 20);
  EXPECT_EQ(cell.error, 2e-3);
  EXPECT_EQ(cell.floor, 1e-4);
  EXPECT_EQ(cell.least_error, 1e-3);
  EXPECT_EQ(cell.samples, 3);
  EXPECT_EQ(cell.decided, 3);
  EXPECT_EQ(cell.elements, 20);
}

TEST(AuditStatistic, RelativeErrors) {
  const at::Tensor b = numbers({3, 4, 0, 0, 1, 1}).view({3, 2}), a = numbers({3, 4.5, 0, 0, std::nan(""), 1}).view({3, 2});
  const at::Tensor error = relative_errors(a, b, 1);
  EXPECT_DOUBLE_EQ(error[0].item<double>(), 0.1);
  EXPECT_TRUE(std::isnan(error[1].item<double>()));
  EXPECT_TRUE(std::isinf(error[2].item<double>()));
  EXPECT_TRUE(std::isinf(relative_errors(b, at::zeros_like(b), 2).item<double>()));
}

// U = M after one gradient is 0.1 G, and perturbed 0.1 G o (1 + u r): the floor is the norm of G o u r, with r^2 = 1/3 on
// average, largest of the draws.
TEST(AuditStatistic, TheFloorOfALinearRule) {
  const Average rule;
  const BlockInfo block{60, 50};
  const at::Tensor gradient = at::randn({60, 50}, at::detail::createCPUGenerator(1), at::TensorOptions(at::kFloat));
  const at::Tensor direction = follow(rule, {gradient}, block).direction;
  const auto floor = [&](double u, bool directed) {
    const FloorDraws draws{.u = u, .to_nearest = directed ? 0 : 5, .upward = directed, .downward = directed, .seed = 1};
    return rounding_floor(rule, {gradient}, direction, block, draws, 2).item<double>();
  };
  constexpr double u = 0x1p-9;  // far above the rounding of fp32
  EXPECT_NEAR(floor(u, false), u / std::sqrt(3.0), 0.05 * u);
  // Without any perturbation directed rounding still moves the result, by less than a step of fp32 for each of its two
  // operations; to nearest nothing moves. Afterwards the mode is what it was.
  EXPECT_EQ(floor(0, false), 0);
  EXPECT_GT(floor(0, true), 0x1p-26);
  EXPECT_LT(floor(0, true), 0x1p-22);
  EXPECT_EQ(std::fegetround(), FE_TONEAREST);
  // Never below the rounding of the result.
  EXPECT_EQ(floor(0x1p-60, false), 0x1p-61);
}

// Two gradients: the state before the last is 0.1 G1, both are perturbed, and so is the state itself once more.
TEST(AuditStatistic, TheFloorPerturbsTheHistoryAndTheState) {
  const Average rule;
  const BlockInfo block{80, 50};
  const at::Tensor large = at::randn({80, 50}, at::detail::createCPUGenerator(1), at::TensorOptions(at::kDouble));
  const std::vector<at::Tensor> gradients = {large, -0.9 * large + 1e-3};  // they cancel but for 1e-4
  const at::Tensor direction = follow(rule, gradients, block).direction;
  constexpr double u = 1e-9;
  const double floor =
      rounding_floor(rule, gradients, direction, block, {.u = u, .to_nearest = 5, .seed = 1}, 2).item<double>();
  // 0.09 G1 (1 + u r)(1 + u r') - 0.09 G1 (1 + u r''): three independent perturbations of standard deviation u / sqrt(3)
  EXPECT_NEAR(floor, 0.09 * u * large.norm().item<double>() / direction.norm().item<double>(), 0.1 * floor);
}

// U = D M with D = diag(1, ..., m): under L on the left the error is ||(D L - L D) M|| / ||D M||, whatever the instrument.
struct Weighted : UpdateRule {
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    const at::Tensor m = average(gradient, state);
    return (m * at::arange(1, m.size(-2) + 1, m.options()).unsqueeze(1)).to(gradient.scalar_type());
  }
  Symmetry symmetry() const override { return {Group::permutation, Group::orthogonal, false}; }  // the first is a lie
};

TEST(AuditStatistic, ABrokenClaimIsFoundWithTheErrorThatItHas) {
  AuditSubject subject;
  subject.rule = std::make_shared<Weighted>();
  AuditOptions options;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    options.precisions = {dtype};
    for (const Finding& finding : audit({subject}, options)) {
      if (finding.column == "rows.permutation") {
        EXPECT_EQ(finding.cell.verdict, Verdict::broken);
        EXPECT_TRUE(finding.failed());
        // E ||(D L - L D) M||^2 / ||D M||^2 = 2 (1 - (E i)^2 / E i^2) ~ 1/2 for gaussian rows
        EXPECT_GT(finding.cell.error, 0.2);
        EXPECT_LT(finding.cell.error, 2);
      } else if (finding.column.starts_with("features.")) {
        EXPECT_FALSE(finding.failed()) << finding.column << " " << finding.cell.ratio << " " << finding.cell.worst;
      }
    }
  }
}

TEST(AuditStatistic, DeterministicWhateverTheNumberOfThreads) {
  AuditSubject subject;
  subject.rule = std::make_shared<PolarRule>();
  AuditOptions options;
  options.precisions = {at::kFloat};
  options.elements = 3;
  const std::vector<Finding> one = audit({subject, subject}, options);
  options.threads = 2;
  const std::vector<Finding> two = audit({subject, subject}, options);
  options.seed = 1;
  const std::vector<Finding> other = audit({subject, subject}, options);
  ASSERT_EQ(one.size(), two.size());
  bool differs = false;
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].cell.error, two[i].cell.error) << one[i].column;
    EXPECT_EQ(one[i].cell.floor, two[i].cell.floor) << one[i].column;
    EXPECT_EQ(one[i].cell.worst, two[i].cell.worst) << one[i].column;
    differs |= one[i].cell.error != other[i].cell.error;
  }
  EXPECT_TRUE(differs);
}

TEST(AuditInputs, AreWhatTheirNamesSay) {
  const auto names = [](std::int64_t m, std::int64_t n) {
    std::vector<std::string> result;
    for (const AuditInput& input : audit_inputs(m, n, 1)) result.push_back(input.name);
    return result;
  };
  EXPECT_THAT(names(7, 5), ::testing::ElementsAre("gaussian", "spectrum 1..1e-3", "spectrum 1..1e-6", "low rank",
                                                  "low rank + noise", "zero row", "huge row", "norm 1e-6"));
  EXPECT_THAT(names(1, 5), ::testing::ElementsAre("gaussian", "norm 1e-6"));
  EXPECT_THAT(names(5, 1), ::testing::ElementsAre("gaussian", "zero row", "huge row", "norm 1e-6"));
  for (const AuditInput& input : audit_inputs(7, 5, 1)) {
    ASSERT_EQ(input.gradients.size(), static_cast<std::size_t>(kAuditSteps)) << input.name;
    at::Tensor sum = at::zeros({7, 5}, at::kDouble);
    for (const at::Tensor& gradient : input.gradients) sum += gradient;
    const at::Tensor s = at::linalg_svdvals(input.gradients[0]), of_sum = at::linalg_svdvals(sum);
    const auto ratio = [](const at::Tensor& values, std::int64_t i) { return (values[i] / values[0]).item<double>(); };
    if (input.name == "spectrum 1..1e-3") {
      EXPECT_NEAR(ratio(s, 4), 1e-3, 1e-9);
    } else if (input.name == "spectrum 1..1e-6") {
      EXPECT_NEAR(ratio(s, 4), 1e-6, 1e-9);
    } else if (input.name == "low rank") {
      EXPECT_LT(ratio(of_sum, 2), 1e-14);  // of all steps together
      EXPECT_TRUE(at::equal(input.gradients[0].to(at::kBFloat16).to(at::kDouble), input.gradients[0]));
    } else if (input.name == "zero row") {
      EXPECT_EQ(sum[3].norm().item<double>(), 0);
    } else if (input.name == "huge row") {
      EXPECT_GT(sum[3].norm().item<double>(), 1e3 * sum[2].norm().item<double>());
    } else if (input.name == "norm 1e-6") {
      EXPECT_NEAR(input.gradients[2].norm().item<double>(), 1e-6, 1e-18);
    }
  }
}

// If a negative control passes, the audit has to say so: here every rule is the average, which nothing breaks.
TEST(AuditControls, SayWhenTheInstrumentIsBroken) {
  const auto average_rule = std::make_shared<Average>();
  AuditSubject subject;
  subject.rule = average_rule;
  AuditOptions options;
  options.precisions = {at::kDouble};
  const std::vector<Control> controls =
      run_controls({average_rule, average_rule, average_rule, average_rule}, {subject}, options);
  std::int64_t negative = 0, wrong = 0;
  for (const Control& control : controls) {
    const bool of_one_rule = control.name.find("adamw: shift") == 0 || control.name.find("row_norm: shift") == 0 ||
                             control.name.find("up x c") != std::string::npos;
    if (control.must_hold) {
      EXPECT_TRUE(control.as_it_must) << control.name;
      continue;
    }
    ++negative;
    wrong += control.as_it_must ? 0 : 1;
    EXPECT_EQ(control.as_it_must, of_one_rule) << control.name;  // no average is horizontal, and none is of degree -1
  }
  EXPECT_GT(negative, 6);
  EXPECT_EQ(wrong, negative - 3);
}

}  // namespace test_audit_statistic
}  // namespace equisweep
