// What every rule must keep to, parameterised over the table of rules: a new row is tested without being named here. Each
// rule is tried with its defaults and with each of its options changed, one at a time.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/kernels.h"
#include "variants.h"

namespace equisweep {
namespace test_conformance {

using namespace testing;
using nlohmann::json;

constexpr int kSteps = 3;
const std::vector<std::vector<std::int64_t>> kShapes = {{12, 7}, {7, 12}, {8, 8}, {1, 9}, {9, 1}, {3, 5, 4}, {2, 3, 4, 6}};

/// Directions of `steps` gradients in order, from a fresh state.
std::vector<at::Tensor> directions(const UpdateRule& rule, const std::vector<at::Tensor>& gradients) {
  RuleState state = make_state(rule, gradients[0].sizes(), gradients[0].options());
  const BlockInfo block{gradients[0].size(-2), gradients[0].size(-1)};
  std::vector<at::Tensor> result;
  for (const at::Tensor& gradient : gradients) result.push_back(rule.direction(gradient, state, block));
  return result;
}

std::vector<at::Tensor> gaussians(at::IntArrayRef shape, at::ScalarType dtype, std::uint64_t seed = 1) {
  std::vector<at::Tensor> result;
  for (int t = 0; t < kSteps; ++t) result.push_back(gaussian(shape, seed * 100 + t, dtype));
  return result;
}

template <typename F>
std::vector<at::Tensor> each(const std::vector<at::Tensor>& tensors, F&& map) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(map(tensor));
  return result;
}

/// Largest relative distance between two runs, over the steps.
double distance(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double worst = 0;
  for (std::size_t t = 0; t < a.size(); ++t) worst = std::max(worst, relative_error(a[t], b[t]));
  return worst;
}

class EveryRule : public ::testing::TestWithParam<std::string> {
 protected:
  /// Calls test(rule, options) for the defaults and each option changed.
  template <typename F>
  void for_each_variant(F&& test) const {
    for (const json& variant : variants_of(GetParam())) {
      SCOPED_TRACE(variant.dump());
      test(*make_rule(variant), variant);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Table, EveryRule, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

TEST_P(EveryRule, ReturnsAFreshTensorOfTheGradientsShapeAndDtypeAndLeavesItAlone) {
  for_each_variant([](const UpdateRule& rule, const json&) {
    for (const auto& shape : kShapes)
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
        RuleState state = make_state(rule, shape, at::TensorOptions().dtype(dtype));
        ASSERT_EQ(state.slots.size(), rule.slots().size());
        for (const at::Tensor& gradient : gaussians(shape, dtype)) {
          const at::Tensor before = gradient.clone();
          const at::Tensor u = rule.direction(gradient, state, {shape.end()[-2], shape.end()[-1]});
          EXPECT_TRUE(same_bits(gradient, before));
          EXPECT_EQ(u.sizes(), gradient.sizes());
          EXPECT_EQ(u.scalar_type(), dtype);
          EXPECT_FALSE(u.is_alias_of(gradient));
          for (const at::Tensor& slot : state.slots) EXPECT_FALSE(u.is_alias_of(slot));
          EXPECT_TRUE(at::isfinite(u).all().item<bool>());
          EXPECT_EQ(norm_of(u) == 0, shape.end()[-2] == 1 && rule.symmetry().shift);
        }
        EXPECT_EQ(state.step, kSteps);
      }
  });
}

TEST_P(EveryRule, MakesNothingOfNothing) {
  for_each_variant([](const UpdateRule& rule, const json&) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      for (const auto& shape : kShapes)
        for (const at::Tensor& u : directions(rule, std::vector(kSteps, at::zeros(shape, dtype)))) EXPECT_EQ(norm_of(u), 0);
      if (rule.symmetry().shift) continue;  // the mean row moves every row
      std::vector<at::Tensor> gradients = gaussians({3, 9, 6}, dtype);
      for (at::Tensor& gradient : gradients) gradient.select(1, 4).zero_();
      for (const at::Tensor& u : directions(rule, gradients)) EXPECT_EQ(norm_of(u.select(1, 4)), 0);
    }
  });
}

TEST_P(EveryRule, MakesNothingOfAPureShiftIfItClaimsShifts) {
  for_each_variant([](const UpdateRule& rule, const json&) {
    if (!rule.symmetry().shift) return;
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const std::vector<at::Tensor> shifts = each(gaussians({2, 1, 6}, dtype), [](const at::Tensor& row) {
        return row.expand({2, 11, 6}).clone();
      });
      for (const at::Tensor& u : directions(rule, shifts)) EXPECT_EQ(norm_of(u), 0);
    }
  });
}

TEST_P(EveryRule, IsDeterministicAndTreatsEachMatrixOfABatchAlone) {
  for_each_variant([](const UpdateRule& rule, const json& options) {
    const std::vector<at::Tensor> gradients = gaussians({3, 7, 5}, at::kDouble);
    for (const at::Tensor& gradient : gradients) gradient[1].mul_(1e-3);
    const std::vector<at::Tensor> batch = directions(rule, gradients);
    EXPECT_EQ(distance(batch, directions(rule, gradients)), 0);
    const double rounding = narrowest(options) == at::kDouble ? 1e-12 : 1e-2;
    for (std::int64_t i = 0; i < 3; ++i) {
      const auto slice = [i](const at::Tensor& x) { return x[i]; };
      EXPECT_LT(distance(directions(rule, each(gradients, slice)), each(batch, slice)), rounding);
    }
  });
}

TEST_P(EveryRule, HoldsTheSymmetryThatItClaimsAndNotTheNextLargerOne) {
  for_each_variant([](const UpdateRule& rule, const json& options) {
    if (narrowest(options) != at::kDouble) return;  // rounding would hide the difference
    const std::int64_t m = 9, n = 6;
    const std::vector<at::Tensor> gradients = gaussians({2, m, n}, at::kDouble);
    const std::vector<at::Tensor> plain = directions(rule, gradients);
    const auto defect = [&](const Symmetry& group, std::uint64_t seed) {
      const GroupElement g = random_element(group, m, n, seed);
      const auto acted = [&](const at::Tensor& x) { return act(g, x); };
      return distance(directions(rule, each(gradients, acted)), each(plain, acted));
    };
    const Symmetry claimed = rule.symmetry();
    for (std::uint64_t seed = 1; seed <= 5; ++seed) EXPECT_LT(defect(claimed, seed), 1e-10) << to_string(claimed);
    const auto next = [](Group group) { return static_cast<Group>(static_cast<int>(group) + 1); };
    if (claimed.rows != Group::orthogonal) {
      EXPECT_GT(defect({next(claimed.rows), Group::identity, false}, 1), 1e-2) << "larger than claimed on rows";
    }
    if (claimed.columns != Group::orthogonal) {
      EXPECT_GT(defect({Group::identity, next(claimed.columns), false}, 1), 1e-2) << "larger than claimed on columns";
    }

    const std::vector<at::Tensor> shifted = each(gradients, [&](const at::Tensor& x) {
      return x + gaussian({2, 1, n}, 77);
    });
    double horizontality = 0;
    for (const at::Tensor& u : plain)
      horizontality = std::max(horizontality, error_of(norm_of(u.sum(1)) / (3 * norm_of(u))));
    if (claimed.shift) {
      EXPECT_LT(horizontality, 1e-14);
      EXPECT_LT(distance(directions(rule, shifted), plain), 1e-10);
    } else {
      EXPECT_GT(distance(directions(rule, shifted), plain), 1e-2) << "shift invariant without claiming it";
    }
  });
}

TEST_P(EveryRule, ScalesWithTheGradientAsItDeclares) {
  ASSERT_NE(find_rule(GetParam()).degree, nullptr);
  for (json variant : variants_of(GetParam())) {
    if (variant.contains("eps")) variant["eps"] = 1e-30;  // absolute, and so the one thing that sees the scale
    const auto rule = make_rule(variant);
    const double degree = find_rule(GetParam()).degree(variant);
    const std::vector<at::Tensor> gradients = gaussians({2, 9, 6}, at::kDouble);
    const std::vector<at::Tensor> plain = directions(*rule, gradients);
    // 1e-6: the LMOs of scion have their 1e-8 built in
    const double rounding = narrowest(variant) == at::kDouble ? 1e-6 : 2e-2;
    for (const double c : {0.25, 1024.0}) {
      const auto scaled = [c](const at::Tensor& x) { return x * c; };
      const auto expected = [&](const at::Tensor& u) { return u * std::pow(c, degree); };
      EXPECT_LT(distance(directions(*rule, each(gradients, scaled)), each(plain, expected)), rounding) << variant << c;
    }
  }
}

TEST_P(EveryRule, RoundsNarrowGradientsOnlyAtTheEnd) {
  for_each_variant([](const UpdateRule& rule, const json&) {
    const std::vector<at::Tensor> narrow = gaussians({6, 5}, at::kBFloat16);
    const auto to_wide = [](const at::Tensor& x) { return x.to(at::kFloat); };
    const auto to_narrow = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
    EXPECT_EQ(distance(directions(rule, narrow), each(directions(rule, each(narrow, to_wide)), to_narrow)), 0);
  });
}

TEST_P(EveryRule, StaysFiniteOnHardInputs) {
  for_each_variant([](const UpdateRule& rule, const json&) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      at::Tensor huge_row = gaussian({12, 7}, 5);
      huge_row[3].mul_(1e6);
      const at::Tensor low_rank = at::matmul(gaussian({12, 2}, 6).mul_(4).round_(), gaussian({2, 7}, 7).mul_(4).round_());
      for (const at::Tensor& x : {huge_row, low_rank, with_spectrum(12, 7, log_spectrum(7, 1e-6), 8),
                                  gaussian({12, 7}, 9) * 1e-7, gaussian({12, 7}, 9) * 1e-30})
        for (const at::Tensor& u : directions(rule, std::vector(kSteps, x.to(dtype))))
          EXPECT_TRUE(at::isfinite(u).all().item<bool>());
    }
  });
}

/// One number of the second of three matrices is NaN, in the first of two steps.
std::vector<at::Tensor> with_nan(at::ScalarType dtype) {
  std::vector<at::Tensor> gradients = {gaussian({3, 9, 6}, 81, dtype), gaussian({3, 9, 6}, 82, dtype)};
  gradients[0][1][4][2] = std::numeric_limits<double>::quiet_NaN();
  return gradients;
}

// A run whose gradients are not finite has to end as diverged: no rule may make zeros of NaN.
TEST_P(EveryRule, KeepsANanWhereItIsAndInNoOtherMatrix) {
  const Kernels before = kernels();
  for (const Kernels which : {Kernels::fused, Kernels::reference}) {
    set_kernels(which);
    for_each_variant([&](const UpdateRule& rule, const json&) {
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        const std::vector<at::Tensor> us = directions(rule, with_nan(dtype));
        for (std::size_t t = 0; t < us.size(); ++t) {
          const bool remembered = t == 0 || !rule.slots().empty();
          EXPECT_EQ(std::isnan(us[t][1][4][2].item<double>()), remembered)
              << (which == Kernels::fused ? "fused " : "reference ") << dtype << " step " << t;
          for (const std::int64_t other : {0, 2}) EXPECT_TRUE(at::isfinite(us[t][other]).all().item<bool>()) << t;
        }
      }
    });
  }
  set_kernels(before);
}

TEST(Oracle, WhatIsNotFiniteIsInfinitelyFarOff) {
  const at::Tensor x = gaussian({3, 2}, 1), nan = x / 0.0 * 0.0;
  EXPECT_EQ(relative_error(nan, x), HUGE_VAL);
  EXPECT_EQ(relative_error(x, nan), HUGE_VAL);
  EXPECT_EQ(distance({x, nan, x}, {x, x, x}), HUGE_VAL);
  EXPECT_EQ(distance({x}, {x}), 0);
}

}  // namespace test_conformance
}  // namespace equisweep
