// The audit during training: a right rule holds, a wrong one is found, and what is written is what its names say.
#include <ATen/ATen.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/diagnostics/diagnostics.h"
#include "analysis/diagnostics/equivariance.h"
#include "audit_rules.h"
#include "core/run_store.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_equivariance {

using testing::Average;
using testing::RowNorm;

/// A rule whose state is not linear in the gradient: sqrt of the mean of squares, row by row.
struct RowScale : UpdateRule {
  std::vector<std::string> slots() const override { return {"squares"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    ++state.step;
    at::Tensor& s = state.slots[0];
    s.mul_(0.5).add_(gradient.square().sum(-1, true).expand_as(s), 0.5);
    return gradient / s.sqrt();
  }
  Symmetry symmetry() const override { return {Group::signed_permutation, Group::orthogonal, false}; }
};

struct Row {
  std::int64_t step, block, claimed, gradients;
  std::string group, verdict;
  double error, floor, horizontality, removed;
  bool has_shift;
  double shift;
};

class EquivarianceDiagnostic : public ::testing::Test {
 protected:
  /// `steps` steps of a bank of two weights [7, 5] (blocks 4 and 5) and a vector (6), with the rows that they leave.
  std::vector<Row> observe(const UpdateRule& rule, const nlohmann::json& given, std::int64_t steps,
                           at::ScalarType dtype = at::kFloat, std::int64_t from = 1, Role role = Role::lm_head) {
    const DiagnosticInfo& info = find_diagnostic("equivariance");
    TempFolder folder;
    {
      RunStore store(folder / "run.db", "0123456789abcdef", "{}", AttemptRow{.started_at = utc_now(), .device = "cpu"});
      const auto diagnostic = info.make(complete(info.fields, given, "equivariance"),
                                        {.store = store,
                                         .blocks = {{"a", 4}, {"b", 5}, {"bias", 6}},
                                         .roles = {{"a", role}, {"b", Role::mlp_up}, {"bias", Role::vector}}});
      Param a{.name = "a", .role = role, .tensor = {}}, b{.name = "b", .role = Role::mlp_up, .tensor = {}},
          *params[] = {&a, &b};
      MatrixView view;
      view.fan_out = 7;
      view.fan_in = 5;
      RuleState state = make_state(rule, {2, 7, 5}, at::TensorOptions(dtype));
      at::Generator generator = at::detail::createCPUGenerator(3);
      for (std::int64_t step = 1; step <= steps; ++step) {
        const at::Tensor gradient = at::randn({2, 7, 5}, generator, at::TensorOptions(at::kDouble)).to(dtype);
        const at::Tensor before = gradient.clone();
        const at::Tensor direction = rule.direction(gradient, state, {7, 5});
        const at::Tensor state_before = state.slots.empty() ? at::Tensor() : state.slots[0].clone();
        if (step >= from && diagnostic->wants(step))
          diagnostic->observe({.step = step,
                               .params = params,
                               .view = view,
                               .weight = gradient,
                               .gradient = gradient,
                               .direction = direction,
                               .state = state,
                               .rule = rule,
                               .lr = 1});
        EXPECT_TRUE(at::equal(gradient, before));
        EXPECT_TRUE(!state_before.defined() || at::equal(state.slots[0], state_before));
        last_direction_ = direction, last_gradient_ = gradient;
      }
      diagnostic->flush();
      store.flush();
    }
    std::vector<Row> rows;
    const auto db = open_read_only(folder / "run.db");
    SQLite::Statement q(*db,
                        "SELECT step, block, claimed, gradients, \"group\", verdict, error, floor, horizontality, removed, "
                        "shift, seconds FROM equivariance ORDER BY step, \"group\"");
    while (q.executeStep()) {
      rows.push_back({q.getColumn(0).getInt64(), q.getColumn(1).getInt64(), q.getColumn(2).getInt64(),
                      q.getColumn(3).getInt64(), q.getColumn(4).getString(), q.getColumn(5).getString(),
                      q.getColumn(6).getDouble(), q.getColumn(7).getDouble(), q.getColumn(8).getDouble(),
                      q.getColumn(9).getDouble(), !q.getColumn(10).isNull(),
                      q.getColumn(10).isNull() ? 0 : q.getColumn(10).getDouble()});
      EXPECT_GT(q.getColumn(11).getDouble(), 0);
    }
    return rows;
  }

  at::Tensor last_direction_, last_gradient_;
};

TEST_F(EquivarianceDiagnostic, TakesBlocksInTurnAndJudgesThem) {
  const auto rows = observe(RowNorm(), {{"every", 8}}, 24);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].block, 4);
  EXPECT_EQ(rows[1].block, 5);  // the vector takes no turn
  EXPECT_EQ(rows[2].block, 4);
  for (const Row& row : rows) {
    EXPECT_EQ(row.step % 8, 0);
    EXPECT_EQ(row.gradients, 5);
    EXPECT_EQ(row.claimed, 1);
    EXPECT_EQ(row.group, to_string(RowNorm().symmetry()));
    EXPECT_EQ(row.verdict, "holds");
    EXPECT_GT(row.error, 0);
    EXPECT_LT(row.error, 5 * row.floor);
    EXPECT_LT(row.floor, 1e-5);
    EXPECT_EQ(row.has_shift, row.block == 4);  // an LM head
  }
  // Uncentred row_norm is neither horizontal nor blind to shifts, and its gradient has a common part.
  const double m = 7;
  const at::Tensor u = last_direction_[0].to(at::kDouble), g = last_gradient_[0].to(at::kDouble);
  EXPECT_NEAR(rows[2].horizontality, (u.sum(0).norm() / (u.norm() * std::sqrt(m))).item<double>(), 1e-6);
  EXPECT_NEAR(rows[2].removed, (g.sum(0).norm() / (g.norm() * std::sqrt(m))).item<double>(), 1e-6);
  EXPECT_GT(rows[2].shift, 0.1);
}

TEST_F(EquivarianceDiagnostic, FindsWhatIsNotKept) {
  const auto rows =
      observe(RowNorm(), {{"every", 6}, {"blocks", {"mlp_up"}}, {"groups", {"rows.orthogonal", "features.orthogonal"}}}, 6);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].group, "features.orthogonal");
  EXPECT_EQ(rows[0].verdict, "holds");
  EXPECT_EQ(rows[1].group, "rows.orthogonal");
  EXPECT_EQ(rows[1].claimed, 0);
  EXPECT_EQ(rows[1].verdict, "broken");
  EXPECT_GT(rows[1].error, 0.1);
  EXPECT_EQ(rows[0].block, 5);
}

TEST_F(EquivarianceDiagnostic, FindsAStateThatIsKeptByPosition) {
  Average wrong(Average::Store::beta_by_place);
  const auto rows = observe(wrong, {{"every", 5}, {"groups", {"rows.permutation"}}}, 5);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].verdict, "broken");
  EXPECT_EQ(observe(Average(), {{"every", 5}, {"groups", {"rows.permutation"}}}, 5)[0].verdict, "exact");
}

TEST_F(EquivarianceDiagnostic, AStateThatIsNotLinearInTheGradientIsJudgedFairly) {
  for (const char* precision : {"run", "fp64", "fp32", "bf16"}) {
    const auto rows = observe(RowScale(), {{"every", 5}, {"precision", precision}}, 5);
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].verdict, "holds") << precision << " " << rows[0].error << " " << rows[0].floor;
  }
}

TEST_F(EquivarianceDiagnostic, CentredRulesAreHorizontalAndBlindToShifts) {
  const auto rows = observe(RowNorm(/*is_centered=*/true), {{"every", 5}}, 5, at::kDouble);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_LT(rows[0].horizontality, 1e-15);
  EXPECT_LT(rows[0].shift, 1e-14);
  RowNorm half(/*is_centered=*/true);
  half.no_second_projection = true;
  EXPECT_GT(observe(half, {{"every", 5}}, 5, at::kDouble)[0].horizontality, 1e-3);
}

TEST_F(EquivarianceDiagnostic, BeginsAnewAfterAResume) {
  const auto rows = observe(RowNorm(), {{"every", 8}}, 16, at::kFloat, /*from=*/7);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].gradients, 2);  // steps 7 and 8
  EXPECT_EQ(rows[0].verdict, "holds");
  const auto whole = observe(RowNorm(), {{"every", 8}}, 16);
  EXPECT_EQ(rows[1].block, whole[1].block);
  EXPECT_EQ(rows[1].error, whole[1].error);
}

TEST_F(EquivarianceDiagnostic, FollowsTheLastGradientsOfAnIntervalOrAllOfThem) {
  const auto gradients = [&](const nlohmann::json& given) {
    std::vector<std::int64_t> result;
    for (const Row& row : observe(RowNorm(), given, 24)) {
      EXPECT_EQ(row.verdict, "holds");
      result.push_back(row.gradients);
    }
    return result;
  };
  using ::testing::ElementsAre;
  EXPECT_THAT(gradients({{"every", 8}, {"gradients", 0}}), ElementsAre(8, 8, 8));
  EXPECT_THAT(gradients({{"every", 8}, {"gradients", 3}}), ElementsAre(3, 3, 3));
  EXPECT_THAT(gradients({{"every", 8}, {"gradients", 100}}), ElementsAre(8, 8, 8));
  EXPECT_THAT(gradients({{"every", 1}, {"gradients", 0}}), ::testing::SizeIs(24));
}

TEST_F(EquivarianceDiagnostic, TheFirstRowAfterAResumeSaysWhatItRestsOn) {
  const auto rows = observe(RowNorm(), {{"every", 8}, {"gradients", 0}}, 16, at::kFloat, /*from=*/4);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].gradients, 5);  // steps 4 to 8
  EXPECT_EQ(rows[1].gradients, 8);
  const auto whole = observe(RowNorm(), {{"every", 8}, {"gradients", 0}}, 16);
  EXPECT_EQ(rows[1].error, whole[1].error);
  EXPECT_NE(rows[0].error, whole[0].error);
}

}  // namespace test_equivariance
}  // namespace equisweep
