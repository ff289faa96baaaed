#include "core/role.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace equisweep {
namespace test_role {

using ::testing::ElementsAre;

TEST(Role, NamesAreThoseOfSweepFiles) {
  std::vector<std::string> names;
  for (const auto role : kRoles) names.emplace_back(name_of(role));
  EXPECT_THAT(names,
              ElementsAre("embedding", "lm_head", "router", "attention_q", "attention_k", "attention_v", "attention_o",
                          "mlp_gate", "mlp_up", "mlp_down", "experts_gate_up", "experts_down", "vector"));
}

TEST(Role, NamesAndRolesAreInverse) {
  for (const auto role : kRoles) EXPECT_EQ(role_from_name(name_of(role)), role);
  for (const auto* name : {"", "attention", "matrix", "default", "Embedding", "attention_q "}) {
    EXPECT_EQ(role_from_name(name), std::nullopt) << name;
  }
}

TEST(Role, ClaimsFromSpecificToGeneral) {
  for (const auto role : {Role::attention_q, Role::attention_k, Role::attention_v, Role::attention_o}) {
    EXPECT_THAT(claims_on(role), ElementsAre(name_of(role), "attention", "matrix", "default"));
  }
  for (const auto role : {Role::mlp_gate, Role::mlp_up, Role::mlp_down}) {
    EXPECT_THAT(claims_on(role), ElementsAre(name_of(role), "mlp", "matrix", "default"));
  }
  for (const auto role : {Role::experts_gate_up, Role::experts_down}) {
    EXPECT_THAT(claims_on(role), ElementsAre(name_of(role), "experts", "matrix", "default"));
  }
  for (const auto role : {Role::embedding, Role::lm_head, Role::router, Role::vector}) {
    EXPECT_THAT(claims_on(role), ElementsAre(name_of(role), "default"));
  }
}

TEST(Role, EntryNamesAreExactlyTheClaims) {
  const auto names = stack_entry_names();
  std::set<std::string> claims;
  for (const auto role : kRoles) {
    for (const auto claim : claims_on(role)) claims.emplace(claim);
  }
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), claims);
  EXPECT_EQ(names.size(), claims.size()) << "a name is listed twice";
}

}  // namespace test_role
}  // namespace equisweep
