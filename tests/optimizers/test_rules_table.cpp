// What the table of rules and docs/rules.md say about a rule is what the rule does.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "variants.h"

namespace equisweep {
namespace test_rules_table {

using namespace testing;
using ::testing::HasSubstr;

/// The names in backquotes that begin the rows of the table under `heading` of docs/rules.md.
std::set<std::string> rows_under(const std::string& heading) {
  std::ifstream page(std::filesystem::path(EQUISWEEP_SOURCE_DIR) / "docs/rules.md");
  std::set<std::string> names;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("#")) inside = line == heading;
    if (inside && line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
  }
  return names;
}

TEST(RulesTable, ThePageHasEveryRuleAndMethodAndNoOther) {
  std::set<std::string> names, methods;
  for (const RuleInfo& rule : rules()) EXPECT_TRUE(names.emplace(rule.name).second) << rule.name << " is there twice";
  for (const PolarMethod& method : polar_methods()) methods.emplace(method.name);
  EXPECT_EQ(rows_under("# Update rules"), names);
  EXPECT_EQ(rows_under("## Polar factors"), methods);
}

TEST(RulesTable, EveryRowIsComplete) {
  for (const RuleInfo& rule : rules()) {
    SCOPED_TRACE(rule.name);
    for (const std::string_view text : {rule.summary, rule.equation, rule.symmetry, rule.source}) EXPECT_FALSE(text.empty());
    EXPECT_THAT(std::string(rule.equation), HasSubstr("U = "));
    for (const Field& field : rule.fields) EXPECT_FALSE(field.doc.empty()) << field.name;
    EXPECT_NE(rule.degree, nullptr);
  }
}

TEST(RulesTable, TheSymmetryInWordsIsTheOneThatTheRuleClaims) {
  for (const RuleInfo& rule : rules()) {
    const Symmetry claimed = make_rule(entry(std::string(rule.name)))->symmetry();
    const bool coordinates = claimed.rows == Group::signed_permutation && claimed.columns == Group::signed_permutation;
    EXPECT_THAT(std::string(rule.symmetry),
                HasSubstr(coordinates ? "signed permutations of coordinates" : to_string(claimed)))
        << rule.name;
    const bool can_center = find_field(rule.fields, "centered") != nullptr;
    EXPECT_EQ(rule.symmetry.find("shift") != std::string_view::npos, can_center) << rule.name;
    if (can_center) {
      EXPECT_THAT(std::string(rule.symmetry),
                  HasSubstr(to_string(make_rule(entry(std::string(rule.name), {{"centered", true}}))->symmetry())))
          << rule.name;
    }
  }
}

}  // namespace test_rules_table
}  // namespace equisweep
