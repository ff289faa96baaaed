#pragma once
// Assertions for GoogleTest: is this update rule equivariant? (docs/audit.md shows a whole test file)
//
//   EXPECT_EQUIVARIANT(rule, group)      every rung of the ladder up to `group` holds, in fp64 and fp32
//   EXPECT_NOT_EQUIVARIANT(rule, group)  at least one is broken
//   EXPECT_CLAIMS_HOLD(subject)          all that the rule and the AuditSubject claim
//
// `rule` is an UpdateRule, `group` a Symmetry: {Group::signed_permutation, Group::orthogonal, /*shift=*/false}. Link
// equisweep::analysis. The library itself does not use GoogleTest.

#include <gtest/gtest.h>

#include "analysis/audit/check.h"

namespace equisweep {

inline ::testing::AssertionResult equivariant(const UpdateRule& rule, const Symmetry& group) {
  const AuditCheck check = check_equivariance(rule, group);
  return (check.holds ? ::testing::AssertionSuccess() : ::testing::AssertionFailure()) << check.message;
}

inline ::testing::AssertionResult claims_hold(const AuditSubject& subject) {
  const AuditCheck check = check_claims(subject);
  return (check.holds ? ::testing::AssertionSuccess() : ::testing::AssertionFailure()) << check.message;
}

}  // namespace equisweep

// Variadic, so that a Symmetry may be written with its braces.
#define EXPECT_EQUIVARIANT(rule, ...) EXPECT_TRUE(::equisweep::equivariant(rule, ::equisweep::Symmetry(__VA_ARGS__)))
#define EXPECT_NOT_EQUIVARIANT(rule, ...) EXPECT_FALSE(::equisweep::equivariant(rule, ::equisweep::Symmetry(__VA_ARGS__)))
#define EXPECT_CLAIMS_HOLD(...) EXPECT_TRUE(::equisweep::claims_hold(__VA_ARGS__))
