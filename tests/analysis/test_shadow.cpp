// Shadow states against a rule that is followed by hand along every transformed gradient.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "analysis/audit/statistic.h"
#include "analysis/diagnostics/shadow.h"
#include "audit_rules.h"
#include "core/rng.h"

namespace equisweep {
namespace test_shadow {

/// AdamW's direction without bias correction: a state that is not linear in the gradient.
struct SecondMoment : UpdateRule {
  std::vector<std::string> slots() const override { return {"m", "v"}; }
  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    ++state.step;
    const at::Tensor g = gradient.to(state.slots[0].scalar_type());
    state.slots[0].mul_(0.9).add_(g, 0.1);
    state.slots[1].mul_(0.99).addcmul_(g, g, 0.01);
    return (state.slots[0] / state.slots[1].sqrt()).to(gradient.scalar_type());
  }
  Symmetry symmetry() const override { return {Group::signed_permutation, Group::signed_permutation, false}; }
};

std::vector<at::Tensor> gradients(std::int64_t steps, at::IntArrayRef shape, at::ScalarType dtype) {
  auto generator = make_generator(3, "test");
  std::vector<at::Tensor> result;
  // A part that stays, and noise ten times as large, which cancels in a momentum.
  const at::Tensor mean = at::randn(shape, generator, at::kDouble);
  for (std::int64_t t = 0; t < steps; ++t)
    result.push_back((mean + 10 * at::randn(shape, generator, at::kDouble)).to(dtype));
  return result;
}

Shadow::Options options_for(std::vector<BlockElement> elements, at::ScalarType dtype, bool with_shift = false) {
  return {
      .block = {12, 20}, .elements = std::move(elements), .with_shift = with_shift, .u = unit_roundoff(dtype), .seed = 7};
}

at::Tensor last_direction(const UpdateRule& rule, const std::vector<at::Tensor>& given) {
  RuleState state = make_state(rule, given[0].sizes(), given[0].options());
  at::Tensor direction;
  for (const at::Tensor& g : given) direction = rule.direction(g, state, {12, 20});
  return direction;
}

TEST(Shadow, EveryGradientIsTransformed) {
  const SecondMoment rule;
  const auto given = gradients(30, {12, 20}, at::kDouble);
  const BlockElement g(Group::identity, Group::orthogonal, given[0], 1);
  const BlockElement p(Group::signed_permutation, Group::permutation, given[0], 2);
  Shadow shadow(options_for({g, p}, at::kDouble, /*with_shift=*/true));
  for (const at::Tensor& x : given) shadow.receive(rule, x);
  EXPECT_EQ(shadow.gradients(), 30);
  const Shadow::Result result = shadow.judge();

  std::vector<at::Tensor> moved;
  for (const at::Tensor& x : given) moved.push_back(g.act(x));
  const at::Tensor plain = last_direction(rule, given);
  const double error = ((last_direction(rule, moved) - g.act(plain)).norm() / plain.norm()).item<double>();
  EXPECT_GT(error, 0.1);
  EXPECT_NEAR(result.error[0].item<double>(), error, 1e-12);
  // Had the first gradients come untransformed, another number would be expected.
  std::fill_n(moved.begin(), 15, given[0]);
  std::copy_n(given.begin(), 15, moved.begin());
  EXPECT_GT(std::abs(((last_direction(rule, moved) - g.act(plain)).norm() / plain.norm()).item<double>() - error), 0.01);

  EXPECT_EQ(result.error[1].item<double>(), 0);
  for (const at::Tensor& floor : result.floor) {
    EXPECT_GE(floor.item<double>(), 0x1p-54);
    EXPECT_LE(floor.item<double>(), 100 * 0x1p-53);
  }
  EXPECT_GT(result.shift.item<double>(), 0.1);
}

struct Case {
  const char* name;
  const UpdateRule* rule;
};

// What rounding does over many steps, in momenta that are a tenth of their gradients, stays below 5 floors.
TEST(Shadow, FloorsGrowWithTheNumberOfSteps) {
  const testing::RowNorm row_norm, centred(true);
  const testing::PolarRule polar;
  const SecondMoment second_moment;
  for (const Case& rule : {Case{"row_norm", &row_norm}, Case{"centred", &centred}, Case{"polar", &polar},
                           Case{"second_moment", &second_moment}}) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const Symmetry symmetry = rule.rule->symmetry();
      const auto given = gradients(20, {2, 12, 20}, dtype);
      Shadow shadow(options_for({BlockElement(symmetry.rows, symmetry.columns, given[0], 4)}, dtype));
      for (const at::Tensor& x : given) {
        shadow.receive(*rule.rule, x);
        if (shadow.gradients() % 10 != 0 && shadow.gradients() != 5) continue;
        const Shadow::Result result = shadow.judge();
        EXPECT_LT(result.error[0].item<double>(), kHoldsBelow * result.floor[0].item<double>())
            << rule.name << " " << dtype << " after " << shadow.gradients();
      }
    }
  }
}

// A rule that adds no rounding of its own shows that of the elements: the product with a large matrix in double, and the
// distance of that matrix from an orthogonal one.
TEST(Shadow, ElementsAreAsGoodAsTheFloor) {
  const testing::Average linear;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    for (const std::int64_t n : {kHaarUpToInDouble, kHaarUpToInDouble + 1, kHaarUpTo / 2}) {
      const auto given = gradients(5, {n, 24}, dtype);
      Shadow shadow(options_for({BlockElement(Group::orthogonal, Group::orthogonal, given[0], 4)}, dtype));
      for (const at::Tensor& x : given) shadow.receive(linear, x);
      const Shadow::Result result = shadow.judge();
      EXPECT_LT(result.error[0].item<double>(), kHoldsBelow * result.floor[0].item<double>()) << dtype << " " << n;
      EXPECT_GT(result.error[0].item<double>(), 0);
    }
  }
}

}  // namespace test_shadow
}  // namespace equisweep
