// A rule that says nothing, and numbers that are none: neither may pass for a claim that holds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cctype>
#include <limits>
#include <memory>

#include "analysis/audit/controls.h"
#include "analysis/audit/shown.h"
#include "audit_rules.h"

namespace equisweep {
namespace test_audit_silence {

using testing::Average;
using testing::average;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinite = std::numeric_limits<double>::infinity();

/// Claims everything and returns one number, whatever the gradient.
struct Constant : UpdateRule {
  double value;
  explicit Constant(double number) : value(number) {}
  std::vector<std::string> slots() const override { return {"momentum"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    average(gradient, state);
    return at::full_like(gradient, value);
  }
  Symmetry symmetry() const override { return {Group::orthogonal, Group::orthogonal, true}; }
};

/// The average, and nothing finite where the gradient comes in fp32: as the perturbed draws of an audit in bf16 do.
struct OnlyNarrow : Average {
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo& block) const override {
    const at::Tensor u = Average::direction(gradient, state, block);
    return gradient.scalar_type() == at::kFloat ? at::full_like(u, kNan) : u;
  }
};

AuditSubject subject_of(std::shared_ptr<const UpdateRule> rule) {
  AuditSubject subject;
  subject.rule = std::move(rule);
  subject.degree = 0;
  subject.scale_free = true;
  subject.fan_exponents = {0, 0};
  subject.through_views = true;
  return subject;
}

std::vector<Finding> audited(std::shared_ptr<const UpdateRule> rule, at::ScalarType dtype) {
  AuditOptions options;
  options.precisions = {dtype};
  options.elements = 2;
  return audit({subject_of(std::move(rule))}, options);
}

TEST(AuditSilence, ARuleThatReturnsZerosHoldsNoClaim) {
  for (const at::ScalarType dtype : {at::kDouble, at::kBFloat16}) {
    std::int64_t claims = 0;
    for (const Finding& finding : audited(std::make_shared<Constant>(0), dtype)) {
      if (!finding.claimed) continue;
      ++claims;
      EXPECT_TRUE(finding.failed()) << finding.precision << " " << finding.view << " " << finding.column;
      const std::string text = cell_text(finding);
      EXPECT_TRUE(!text.empty() && std::isupper(static_cast<unsigned char>(text[0])) != 0)
          << finding.column << " is shown as " << text;
    }
    EXPECT_GT(claims, 20);
  }
}

TEST(AuditSilence, ARuleThatReturnsNoNumbersHoldsNoClaim) {
  for (const Finding& finding : audited(std::make_shared<Constant>(kNan), at::kDouble)) {
    if (!finding.claimed) continue;
    EXPECT_TRUE(finding.failed()) << finding.view << " " << finding.column;
    EXPECT_EQ(finding.cell.verdict, Verdict::broken) << finding.view << " " << finding.column;
  }
}

// In bf16 a floor that is too high acquits, since rounding may decide every sample. One that is no number must not.
TEST(AuditSilence, ARuleThatIsNotFiniteOnAPerturbedGradientHoldsNoClaim) {
  std::int64_t claims = 0;
  for (const Finding& finding : audited(std::make_shared<OnlyNarrow>(), at::kBFloat16)) {
    const bool has_floor = finding.column != "repeat" && finding.column != "scale" && finding.column != "fans";
    if (!finding.claimed || !has_floor) continue;
    ++claims;
    EXPECT_TRUE(finding.failed()) << finding.view << " " << finding.column;
    EXPECT_EQ(finding.cell.verdict, Verdict::broken) << finding.view << " " << finding.column;
  }
  EXPECT_GT(claims, 20);
}

TEST(AuditSilence, WhatIsNotFiniteConvicts) {
  const auto judge = [](double error, double floor) {
    Tally tally;
    tally.add(at::tensor(std::vector<double>{1e-16, error}, at::kDouble),
              at::tensor(std::vector<double>{1e-16, floor}, at::kDouble), [](std::int64_t i) { return std::to_string(i); });
    return tally.judge(1);
  };
  for (const double error : {0.0, 1e-16, kInfinite})
    for (const double floor : {kNan, kInfinite, 1e-16}) {
      if (error != kInfinite && floor == 1e-16) continue;  // all is finite
      const Cell cell = judge(error, floor);
      EXPECT_EQ(cell.verdict, Verdict::broken) << error << " " << floor;
      EXPECT_EQ(cell.worst, "1") << error << " " << floor;
      EXPECT_EQ(cell.decided, 2) << error << " " << floor;
    }
  EXPECT_EQ(judge(kNan, kNan).samples, 1) << "0 / 0 is no sample";
}

TEST(AuditSilence, TheControlOfAllSubjectsMissesOneThatSaysNothing) {
  const auto right = std::make_shared<Average>();
  AuditOptions options;
  options.precisions = {at::kFloat};
  options.elements = 2;
  const auto scaling = [&](const std::vector<AuditSubject>& subjects) {
    for (const Control& control : run_controls({right, right, right, right}, subjects, options))
      if (control.name.ends_with("up x c, down / c")) return control.as_it_must;
    throw std::runtime_error("no control of the scaling");
  };
  EXPECT_TRUE(scaling({subject_of(right), subject_of(right)}));
  EXPECT_FALSE(scaling({subject_of(right), subject_of(std::make_shared<Constant>(0))}));
}

}  // namespace test_audit_silence
}  // namespace equisweep
