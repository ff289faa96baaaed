#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "analysis/audit/gtest.h"

namespace {

using namespace equisweep;

// Every unit's gradient divided by the largest norm of all units: a rule made up for this page.
class LoudestUnit : public UpdateRule {
 public:
  std::vector<std::string> slots() const override { return {}; }

  at::Tensor direction(const at::Tensor& gradient, RuleState& state, const BlockInfo&) const override {
    ++state.step;
    const at::Tensor norms = at::linalg_vector_norm(gradient, 2, at::IntArrayRef{-1}, /*keepdim=*/true);
    return gradient / norms.amax(-2, /*keepdim=*/true).clamp_min(1e-30);
  }

  Symmetry symmetry() const override { return {Group::signed_permutation, Group::orthogonal, false}; }
};

TEST(LoudestUnit, KeepsTheSymmetryOfAnEmbedding) {
  EXPECT_EQUIVARIANT(LoudestUnit(), {Group::signed_permutation, Group::orthogonal, false});
  EXPECT_NOT_EQUIVARIANT(LoudestUnit(), {Group::orthogonal, Group::identity, false});
}

}  // namespace
