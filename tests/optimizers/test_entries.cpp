// Entries of a stack: what is refused and how, and that every option changes what is computed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "optimizers/optimizer.h"
#include "variants.h"

namespace equisweep {
namespace test_entries {

using namespace testing;
using nlohmann::json;
using ::testing::HasSubstr;

TEST(Entries, AreCompletedWithEveryOption) {
  EXPECT_EQ(complete_entry({{"rule", "adamw"}, {"lr", 3e-3}}),
            json::parse(R"({"rule": "adamw", "lr": 0.003, "weight_decay": 0.0, "view": "natural", "betas": [0.9, 0.95],
                            "eps": 1e-8})"));
  EXPECT_EQ(
      complete_entry({{"rule", "muon"}, {"lr", 1}}),
      json::parse(R"({"rule": "muon", "lr": 1.0, "weight_decay": 0.0, "view": "natural", "beta": 0.95, "nesterov": true,
                            "scale": "spectral", "alpha": 0.0, "centered": false,
                            "polar": {"method": "polar_express", "steps": 5, "precision": "working"}})"));
  for (const RuleInfo& rule : rules())
    for (const json& entry : variants_of(std::string(rule.name))) EXPECT_EQ(complete_entry(entry), entry);
}

struct Refused {
  const char* given;
  const char* message;
};

class EntryRefusal : public ::testing::TestWithParam<Refused> {};

TEST_P(EntryRefusal, SaysWhatIsWrongAndWhatIsAllowed) {
  EXPECT_THAT(usage_error([] { complete_entry(json::parse(GetParam().given)); }), HasSubstr(GetParam().message))
      << GetParam().given;
}

INSTANTIATE_TEST_SUITE_P(
    Table, EntryRefusal,
    ::testing::Values(Refused{R"({"lr": 0.1})", "an entry of a stack needs 'rule'"}, Refused{R"(["adamw"])", "needs 'rule'"},
                      Refused{R"({"rule": 3})", "needs 'rule'"},
                      Refused{R"({"rule": "admaw", "lr": 1})", "did you mean 'adamw'"},
                      Refused{R"({"rule": "adamw"})", "rule adamw: key 'lr' is missing"},
                      Refused{R"({"rule": "adamw", "lr": 0})", "rule adamw: lr: "},
                      Refused{R"({"rule": "adamw", "lr": -1})", "rule adamw: lr: "},
                      Refused{R"({"rule": "adamw", "lr": null})", "rule adamw: lr: "},
                      Refused{R"({"rule": "adamw", "lr": "1e-3"})", "rule adamw: lr: "},
                      Refused{R"({"rule": "adamw", "lr": 1, "weight_decay": -0.1})", "weight_decay"},
                      Refused{R"({"rule": "adamw", "lr": 1, "beta": 0.9})", "did you mean 'betas'"},
                      Refused{R"({"rule": "adamw", "lr": 1, "betas": [0.9]})", "betas"},
                      Refused{R"({"rule": "adamw", "lr": 1, "betas": [0.9, 1]})", "betas"},
                      Refused{R"({"rule": "adamw", "lr": 1, "eps": 0})", "eps"},
                      Refused{R"({"rule": "adamw", "lr": 1, "view": "row"})",
                              "rule adamw: view 'row' has no effect, every entry is treated alike; allowed: no view"},
                      Refused{R"({"rule": "sgd", "lr": 1, "view": "heads"})", "rule sgd: view 'heads' has no effect"},
                      Refused{R"({"rule": "sgd", "lr": 1, "momentum_form": "heavyball"})", "did you mean 'heavy_ball'"},
                      Refused{R"({"rule": "muon", "lr": 1, "beta": 1})", "beta"},
                      Refused{R"({"rule": "muon", "lr": 1, "centred": true})", "did you mean 'centered'"},
                      Refused{R"({"rule": "muon", "lr": 1, "view": "rows"})", "did you mean 'row'"},
                      Refused{R"({"rule": "muon", "lr": 1, "alpha": -1})", "alpha"},
                      Refused{R"({"rule": "muon", "lr": 1, "polar": "svd"})", "polar"},
                      Refused{R"({"rule": "muon", "lr": 1, "polar": {"method": "svd", "steps": 5}})",
                              "'steps' has no effect with method svd"},
                      Refused{R"({"rule": "row_norm", "lr": 1, "alpha": 1})", "unknown key 'alpha'"},
                      // what fp32 flushes to zero is no eps, and what overflows there none either
                      Refused{R"({"rule": "adamw", "lr": 1, "eps": 1e-38})", "rule adamw: eps: "},
                      Refused{R"({"rule": "row_norm", "lr": 1, "eps": 1e-50})", "rule row_norm: eps: "},
                      Refused{R"({"rule": "hybrid", "lr": 1, "eps": 1e39})", "rule hybrid: eps: "},
                      Refused{R"({"rule": "muon", "lr": 1, "polar": {"safety": 0.05}})", "safety 0.05 leaves"},
                      Refused{R"({"rule": "row_norm", "lr": 1, "centered": true, "view": "col"})",
                              "rule row_norm: centered has no place beside view col, whose rows are features; allowed: a "
                              "view whose rows are tokens or experts, as natural"},
                      Refused{R"({"rule": "sgd", "lr": 0.5, "weight_decay": 3})",
                              "rule sgd: lr 0.5 with weight_decay 3 keeps -0.5 of the old weight and so turns its sign"},
                      Refused{R"({"rule": "scion", "lr": 1.5, "constrained": true})",
                              "rule scion: lr 1.5 with constrained keeps -0.5 of the old weight"}));

// The smallest eps that is accepted does what eps is for, in the narrowest state: a zero row stays zero.
TEST(Entries, TheSmallestEpsKeepsZeroRowsZeroInFp32) {
  for (const char* name : {"adamw", "row_norm", "col_norm", "hybrid"}) {
    const auto rule = make_rule(complete_entry({{"rule", name}, {"lr", 1}, {"eps", 1e-37}}));
    const at::Tensor gradient = gaussian({6, 5}, 1, at::kFloat);
    gradient[2].zero_();
    RuleState state = make_state(*rule, gradient.sizes(), gradient.options());
    const at::Tensor u = rule->direction(gradient, state, {6, 5});
    EXPECT_EQ(norm_of(u[2]), 0) << name;
    EXPECT_TRUE(at::isfinite(u).all().item<bool>()) << name;
  }
}

TEST(Entries, NonFiniteNumbersAreRefused) {
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL})
    EXPECT_THAT(usage_error([&] { complete_entry({{"rule", "adamw"}, {"lr", value}}); }), HasSubstr("rule adamw: lr: "));
}

TEST(Entries, AllProblemsAreListedAtOnce) {
  const std::string message = usage_error([] {
    complete_entry({{"rule", "muon"}, {"lr", 0}, {"betta", 1}, {"alpha", "x"}});
  });
  EXPECT_THAT(message, HasSubstr("lr"));
  EXPECT_THAT(message, HasSubstr("did you mean 'beta'"));
  EXPECT_THAT(message, HasSubstr("alpha"));
}

/// Weights after three updates, of a tall matrix and of a wide one.
std::vector<at::Tensor> trained(const json& entry, at::ScalarType dtype) {
  std::vector<Param> params;
  params.push_back(make_param("head", Role::lm_head, {}, gaussian({9, 4}, 1, dtype)));
  params.push_back(make_param("router", Role::router, {}, gaussian({3, 6}, 2, dtype)));
  Optimizer optimizer(params, {{"default", entry}});
  for (std::uint64_t step = 1; step <= 3; ++step) {
    for (std::size_t i = 0; i < params.size(); ++i)
      params[i].tensor.grad().copy_(gaussian(params[i].tensor.sizes(), 10 * step + i) * (step == 1 ? 1.0 : 0.3));
    optimizer.step(1.0);
  }
  return {params[0].tensor.detach(), params[1].tensor.detach()};
}

/// The same, computed once for each entry.
const std::vector<at::Tensor>& trained_once(const json& entry, at::ScalarType dtype) {
  static std::map<std::pair<std::string, at::ScalarType>, std::vector<at::Tensor>> results;
  auto& result = results[{entry.dump(), dtype}];
  if (result.empty()) result = trained(entry, dtype);
  return result;
}

bool differ(const json& a, const json& b) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const auto &x = trained_once(a, dtype), &y = trained_once(b, dtype);
    for (std::size_t i = 0; i < x.size(); ++i)
      if (!same_bits(x[i], y[i])) return true;
  }
  return false;
}

class EveryOption : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryOption, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const RuleInfo& rule : rules()) names.emplace_back(rule.name);
                           return names;
                         }()),
                         [](const auto& row) { return row.param; });

// Around the defaults and around each variant of them, every change of an option is either refused or changes the weights.
TEST_P(EveryOption, ChangesTheResultOrIsRefused) {
  const RuleInfo& rule = find_rule(GetParam());
  std::vector<Field> fields = rule.fields;
  for (const Field& field : common_fields())
    if (field.name == "weight_decay" || field.name == "lr") fields.push_back(field);
  std::set<std::string> effective;
  for (const json& given : givens_of(GetParam())) {
    const json variant = complete_entry(given);
    for (const Field& field : fields) {
      std::vector<json> values = field.name == "lr" ? std::vector<json>{0.2} : other_values(field);
      for (const json& value : values) {
        json changed = given;
        if (field.kind == FieldKind::map)
          changed[field.name].update(value);
        else
          changed[field.name] = value;
        const auto entry = accepted(changed);
        if (!entry || *entry == variant) continue;
        EXPECT_TRUE(differ(variant, *entry)) << variant << "\n" << *entry;
        if (field.kind == FieldKind::map)
          effective.insert(field.name + "." + value.begin().key());
        else
          effective.insert(field.name);
      }
    }
  }
  for (const Field& field : fields) {
    if (field.kind != FieldKind::map) {
      EXPECT_TRUE(effective.contains(field.name)) << field.name;
    } else {
      for (const Field& inner : field.fields) EXPECT_TRUE(effective.contains(field.name + "." + inner.name)) << inner.name;
    }
  }
}

// The view changes what a matrix rule does to a weight that has blocks; where it cannot, it is refused (see EntryRefusal).
TEST_P(EveryOption, TheViewChangesTheResultOrIsRefused) {
  const auto one = accepted({{"rule", GetParam()}, {"lr", 0.1}, {"view", "whole"}});
  const auto other = accepted({{"rule", GetParam()}, {"lr", 0.1}, {"view", "pair"}});
  ASSERT_EQ(one.has_value(), other.has_value());
  if (!one) return;
  const auto after_one_step = [](const json& entry) {
    std::vector<Param> params = {
        make_param("experts", Role::experts_gate_up, {LayoutKind::gate_up_stacked}, gaussian({2, 6, 4}, 1))};
    Optimizer optimizer(params, {{"default", entry}});
    params[0].tensor.grad().copy_(gaussian({2, 6, 4}, 2));
    optimizer.step(1.0);
    return params[0].tensor.detach();
  };
  EXPECT_FALSE(same_bits(after_one_step(*one), after_one_step(*other)));
}

}  // namespace test_entries
}  // namespace equisweep
