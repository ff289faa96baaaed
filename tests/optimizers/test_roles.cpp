#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "optimizers/optimizer.h"
#include "support.h"

namespace equisweep {
namespace test_roles {

using namespace testing;
using nlohmann::json;
using Assigned = std::vector<std::pair<Role, std::string>>;

const std::vector<Role> kRolesOfATransformer = {Role::embedding, Role::attention_q, Role::attention_o, Role::mlp_gate,
                                                Role::mlp_gate,  Role::mlp_down,    Role::vector,      Role::lm_head};

TEST(AssignRoles, TheMostSpecificEntryWins) {
  const json stack = {{"default", entry("adamw")},
                      {"matrix", entry("muon")},
                      {"attention", entry("muon", {{"lr", 0.2}})},
                      {"attention_o", entry("sgd")},
                      {"lm_head", entry("row_norm", {{"centered", true}})}};
  EXPECT_EQ(assign_roles(stack, kRolesOfATransformer), (Assigned{{Role::embedding, "default"},
                                                                 {Role::attention_q, "attention"},
                                                                 {Role::attention_o, "attention_o"},
                                                                 {Role::mlp_gate, "matrix"},
                                                                 {Role::mlp_down, "matrix"},
                                                                 {Role::vector, "default"},
                                                                 {Role::lm_head, "lm_head"}}));
}

struct Refused {
  json stack;
  const char* message;
};

class AssignRolesRefusal : public ::testing::TestWithParam<Refused> {};

TEST_P(AssignRolesRefusal, ListsRolesFoundAndEntriesNamed) {
  EXPECT_EQ(usage_error([&] { assign_roles(GetParam().stack, kRolesOfATransformer); }), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Table, AssignRolesRefusal,
    ::testing::Values(
        Refused{{{"matrix", entry("muon")}, {"vector", entry("adamw")}},
                "stack: no entry claims embedding, lm_head (roles found: embedding, attention_q, attention_o, mlp_gate, "
                "mlp_down, vector, lm_head; entries named: matrix, vector); allowed: every role is claimed, by an entry of "
                "its own or by 'default'"},
        Refused{{{"default", entry("adamw")}, {"router", entry("row_norm")}},
                "stack: nothing is left to claim for router (roles found: embedding, attention_q, attention_o, mlp_gate, "
                "mlp_down, vector, lm_head; entries named: default, router); allowed: entries that claim at least one role "
                "of the model"},
        Refused{
            {{"default", entry("adamw")}, {"embeding", entry("row_norm")}},
            "stack: unknown entry 'embeding'; allowed: one of: default, vector, matrix, attention, mlp, experts, "
            "embedding, lm_head, router, attention_q, attention_k, attention_v, attention_o, mlp_gate, mlp_up, mlp_down, "
            "experts_gate_up, experts_down; did you mean 'embedding'?"},
        Refused{
            {{"default", entry("muon")}},
            "stack: entry 'default': muon is a rule for matrices and cannot serve role vector; allowed: a separate entry "
            "'vector' with another rule"},
        Refused{{{"default", entry("adamw")}, {"embedding", entry("row_norm", {{"centered", true}})}},
                "stack: entry 'embedding': centered cannot serve role embedding: a shared shift of its rows changes the "
                "model; allowed: a separate entry 'embedding' with another rule"}));

TEST(Claims, AWeightIsClaimedOnce) {
  const at::Tensor w = gaussian({4, 3}, 1);
  std::vector<Param> twice = {make_param("a", Role::mlp_gate, {}, w), make_param("a", Role::mlp_up, {}, w)};
  EXPECT_EQ(usage_error([&] {
              Optimizer(twice, {{"default", entry("sgd")}});
            }),
            "weight 'a' is there twice; allowed: every weight is claimed exactly once");
  std::vector<Param> tied = {make_param("a", Role::embedding, {}, w), make_param("b", Role::lm_head, {}, w)};
  tied[1].tensor = tied[0].tensor;
  EXPECT_EQ(usage_error([&] {
              Optimizer(tied, {{"default", entry("sgd")}});
            }),
            "weights 'a' and 'b' are the same tensor; allowed: every weight is claimed exactly once");
}

TEST(Claims, AViewThatALayoutLacksIsRefusedWithTheWeightsName) {
  std::vector<Param> params = {make_param("mlp.gate", Role::mlp_gate, {}, gaussian({4, 3}, 1))};
  const json stack = {{"mlp", entry("muon", {{"view", "heads"}})}};
  EXPECT_THAT(usage_error([&] { Optimizer(params, stack); }),
              ::testing::HasSubstr("stack: entry 'mlp', weight 'mlp.gate': a weight of layout matrix has no view 'heads'"));
}

}  // namespace test_roles
}  // namespace equisweep
