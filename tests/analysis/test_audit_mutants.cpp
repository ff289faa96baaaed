// Six kinds of wrong rules, and the column of the audit that finds each. The right version of each passes beside it, and no
// other column complains: so each test also says what the other instruments cannot see.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "analysis/audit/check.h"
#include "analysis/audit/gtest.h"
#include "analysis/audit/layouts.h"
#include "audit_rules.h"

namespace equisweep {
namespace test_audit_mutants {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

template <typename Rule>
AuditSubject subject_of(const Rule& rule) {
  AuditSubject subject;
  subject.rule = std::make_shared<Rule>(rule);
  return subject;
}

AuditSubject polar_subject(const PolarRule& rule) {
  AuditSubject subject = subject_of(rule);
  subject.degree = 0;
  subject.scale_free = true;
  subject.fan_exponents = {0.5, -0.5};
  return subject;
}

/// The columns in which a claim fails, in fp64.
std::vector<std::string> failing(const AuditSubject& subject) {
  AuditOptions options;
  options.precisions = {at::kDouble};
  options.elements = 5;
  std::vector<std::string> columns;
  for (const Finding& finding : audit({subject}, options))
    if (finding.failed()) columns.push_back(finding.column);
  return columns;
}

TEST(AuditMutants, TheRightVersionsPass) {
  EXPECT_CLAIMS_HOLD(subject_of(RowNorm(false)));
  EXPECT_CLAIMS_HOLD(subject_of(RowNorm(true)));
  EXPECT_CLAIMS_HOLD(polar_subject(PolarRule()));
  EXPECT_CLAIMS_HOLD(subject_of(Average()));
}

TEST(AuditMutants, RowNormOverTheWrongAxis) {
  RowNorm rule;
  rule.wrong_axis = true;
  EXPECT_THAT(failing(subject_of(rule)), ElementsAre("features.orthogonal"));
}

TEST(AuditMutants, CenteredRowNormWithoutTheSecondProjection) {
  RowNorm rule(true);
  rule.no_second_projection = true;
  EXPECT_THAT(failing(subject_of(rule)), ElementsAre("shift.horizontal"));
}

TEST(AuditMutants, AnAbsoluteEpsInAGramMatrix) {
  PolarRule rule;
  rule.absolute_eps = 1e-8;  // equivariant under every rotation: no group finds it
  EXPECT_THAT(failing(polar_subject(rule)), ElementsAre("scale"));
}

TEST(AuditMutants, PolarOfTheTransposedBlockWithTheWrongScale) {
  PolarRule rule;
  rule.scale_of_transposed_block = true;  // always 1: the transposed block is never tall
  EXPECT_THAT(failing(polar_subject(rule)), ElementsAre("fans"));
  PolarRule stored;
  stored.scale_of_stored_shape = true;
  EXPECT_THAT(failing(polar_subject(stored)), UnorderedElementsAre("transpose", "fans"));
}

TEST(AuditMutants, AStateKeyedByPosition) {
  // The ladder starts from the zero state and never moves a stored one: it cannot see where things are stored.
  EXPECT_THAT(failing(subject_of(Average(Average::Store::rows_reversed))), ElementsAre("state"));
  EXPECT_THAT(failing(subject_of(Average(Average::Store::beside_state))), ::testing::IsSupersetOf({"state", "repeat"}));
  EXPECT_THAT(failing(subject_of(Average(Average::Store::beta_by_place))), ::testing::Contains("rows.permutation"));
}

TEST(AuditMutants, ANuclearNormSummedOverTheBatch) {
  PolarRule rule;
  rule.sums_nu_over_batch = true;
  AuditSubject subject = subject_of(rule);
  EXPECT_THAT(failing(subject), ::testing::Contains("batch"));
}

/// [E, d, 2r] read as gate columns, then up columns, where they alternate.
MatrixView concatenated(const LayoutCase& layout, bool pair) {
  const std::int64_t experts = layout.stored[0], residual = layout.stored[1], neurons = layout.stored[2] / 2;
  MatrixView view;
  view.stored = layout.stored;
  view.split = {experts, residual, 2, neurons};
  view.order = pair ? std::vector<std::int64_t>{0, 3, 2, 1} : std::vector<std::int64_t>{0, 2, 3, 1};
  view.blocks = pair ? std::vector<std::int64_t>{experts, neurons, 2 * residual}
                     : std::vector<std::int64_t>{experts, 2, neurons, residual};
  view.fan_out = neurons;
  view.fan_in = residual;
  return view;
}

TEST(AuditMutants, InterleavedGateAndUpReadAsConcatenated) {
  const LayoutCase* interleaved = nullptr;
  for (const LayoutCase& layout : layout_cases())
    if (layout.name == "gate_up_interleaved") interleaved = &layout;
  ASSERT_NE(interleaved, nullptr);
  AuditOptions options;
  const auto verdict = [&](const auto& rule, const MatrixView& view, LayoutAction action) {
    return audit_action(subject_of(rule), view, *interleaved, action, at::kDouble, options).verdict;
  };
  for (const bool pair : {false, true}) {
    const MatrixView right = make_view(interleaved->layout, interleaved->stored, pair ? ViewKind::pair : ViewKind::split);
    const MatrixView wrong = concatenated(*interleaved, pair);
    EXPECT_EQ(verdict(PolarRule(), right, LayoutAction::neurons), Verdict::holds);
    EXPECT_EQ(verdict(PolarRule(), wrong, LayoutAction::neurons), Verdict::broken);
    // A column is a whole unit either way, so row normalisation of single columns does not care which half it is in.
    EXPECT_EQ(verdict(RowNorm(), right, LayoutAction::neurons), Verdict::exact);
    EXPECT_EQ(verdict(RowNorm(), wrong, LayoutAction::neurons), pair ? Verdict::broken : Verdict::exact);
    // And the residual rotation sees neither.
    EXPECT_EQ(verdict(PolarRule(), wrong, LayoutAction::residual), Verdict::holds);
  }
}

}  // namespace test_audit_mutants
}  // namespace equisweep
