// The numbers in docs/audit.md are those of results/reference/audit: every line of its tables is made again from the files.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/csv.h"

namespace test_audit_reference {

std::string read(const std::string& path) {
  std::ifstream file(std::string(EQUISWEEP_SOURCE_DIR) + "/" + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Rows by the names of their columns.
std::vector<std::map<std::string, std::string>> csv(const std::string& name) {
  const auto lines = equisweep::testing::parse_csv(read("results/reference/audit/" + name), "\n");
  std::vector<std::map<std::string, std::string>> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    auto& row = rows.emplace_back();
    for (std::size_t c = 0; c < lines[i].size(); ++c) row[lines[0][c]] = lines[i][c];
  }
  EXPECT_FALSE(rows.empty()) << name;
  return rows;
}

double real(const std::string& text) {
  double value = NAN;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

const std::map<std::string, std::string>& row_of(const std::vector<std::map<std::string, std::string>>& rows,
                                                 const std::string& rule) {
  for (const auto& row : rows)
    if (row.at("rule") == rule) return row;
  throw std::runtime_error("no row of " + rule);
}

TEST(AuditReference, RulesAndGroups) {
  const std::string docs = read("docs/audit.md");
  const std::map<std::string, std::vector<std::map<std::string, std::string>>> precisions = {
      {"fp64", csv("audit-rules-fp64.csv")}, {"fp32", csv("audit-rules-fp32.csv")}, {"bf16", csv("audit-rules-bf16.csv")}};
  std::size_t rules = 0;
  for (const auto& row : precisions.at("fp64")) {
    std::string line = fmt::format("| `{}` |", row.at("rule"));
    for (const char* column : {"rows.orthogonal", "features.orthogonal"})
      for (const char* precision : {"fp64", "fp32", "bf16"})
        line += fmt::format(" {} |", row_of(precisions.at(precision), row.at("rule")).at(column));
    EXPECT_NE(docs.find(line + "\n"), std::string::npos) << line;
    ++rules;
  }
  EXPECT_EQ(rules, 12U);
  for (const auto& [precision, rows] : precisions)
    for (const auto& row : rows)
      for (const auto& [column, cell] : row)
        for (const char* failure : {"BROKEN", "INSPECT", "FAILS", "UNDECIDED"})
          EXPECT_EQ(cell.find(failure), std::string::npos) << precision << " " << column << " " << cell;
}

TEST(AuditReference, ArchitecturesAndActions) {
  const std::string docs = read("docs/audit.md");
  for (const char* architecture : {"qwen3", "gemma3", "olmoe", "gpt_oss"}) {
    const auto rows = csv(fmt::format("audit-{}.csv", architecture));
    for (const char* rule : {"sgd", "muon", "row_norm", "adamw"}) {
      const auto& row = row_of(rows, rule);
      std::string line = fmt::format("| {} | `{}` |", architecture, rule);
      for (const char* action : {"neurons", "value_rotation", "torus", "residual", "up_scale", "product_all"}) {
        const auto cell = row.find(action);
        line += fmt::format(" {} |", cell == row.end() ? "." : cell->second);
      }
      EXPECT_NE(docs.find(line + "\n"), std::string::npos) << line;
    }
  }
  for (const auto& row : csv("audit-conditions.csv")) EXPECT_EQ(row.at("as_it_must"), "yes") << row.at("condition");
}

/// The cells of the line of `table` that begins with `first`.
std::vector<std::string> cells_of_line(const std::string& text, const std::string& first) {
  std::vector<std::string> cells;
  const std::size_t begin = text.find("| " + first + " |");
  if (begin == std::string::npos) return cells;
  std::istringstream line(text.substr(begin + 1, text.find('\n', begin) - begin - 1));
  for (std::string cell; std::getline(line, cell, '|');) cells.push_back(cell);
  return cells;
}

/// The rules that a cell of the table of actions names, up to a semicolon.
std::set<std::string> rules_named(std::string cell, const std::set<std::string>& known) {
  cell = cell.substr(0, cell.find(';'));
  if (const std::size_t at = cell.find("polar rules"); at != std::string::npos)
    cell.replace(at, 11, "muon scion ssd polargrad left_polar right_polar");
  std::replace_if(
      cell.begin(), cell.end(), [](char c) { return c == ',' || c == '(' || c == ')'; }, ' ');
  std::set<std::string> named;
  std::istringstream words(cell);
  for (std::string word; words >> word;)
    if (known.contains(word)) named.insert(word);
  return named;
}

// Who keeps an action is told twice: in words, and by the files.
TEST(AuditReference, TheTableOfActionsNamesWhoKeepsThem) {
  const std::string docs = read("docs/audit.md");
  const std::map<std::string, std::string> actions = {{"`head+1c^T`", "head_shift"},
                                                      {"`V/O O(h)`", "value_rotation"},
                                                      {"`Q/K torus`", "torus"},
                                                      {"`O(d)`", "residual"},
                                                      {"`all*`", "product_all"}};
  for (const auto& [heading, action] : actions) {
    std::set<std::string> known, kept;
    for (const char* architecture : {"qwen3", "gemma3", "olmoe", "gpt_oss"})
      for (const auto& row : csv(fmt::format("audit-{}.csv", architecture))) {
        const std::string &rule = row.at("rule"), &cell = row.at(action);
        if (rule.find(' ') != std::string::npos) continue;  // not the default options
        const bool holds = cell == "exact" || (cell[0] >= '0' && cell[0] <= '9');
        if (known.insert(rule).second && holds) kept.insert(rule);
        if (!holds) kept.erase(rule);
      }
    EXPECT_EQ(known.size(), 12U);
    const std::vector<std::string> cells = cells_of_line(docs, heading);
    ASSERT_EQ(cells.size(), 4U) << heading;
    EXPECT_EQ(rules_named(cells[2], known), kept) << heading;
  }
}

TEST(AuditReference, ViolationOverTraining) {
  const std::string docs = read("docs/audit.md");
  const auto rows = csv("equivariance.csv");
  std::size_t lines = 0;
  for (const char* model : {"qwen3-tiny", "olmoe-tiny"}) {
    for (const char* stack : {"adamw", "muon", "row_norm", "hybrid", "full"}) {
      double ratio = 0, audits = 0, loss = 0;
      std::map<std::string, std::pair<double, double>> range;
      for (const auto& row : rows) {
        if (row.at("model") != model || row.at("stack") != stack) continue;
        loss = real(row.at("mean_val_loss_nats"));
        if (row.at("claimed") == "yes") {
          ratio = std::max(ratio, real(row.at("worst_ratio")));
          EXPECT_TRUE(row.at("worst_verdict") == "holds" || row.at("worst_verdict") == "exact")
              << model << " " << stack << " " << row.at("role") << " " << row.at("group");
        }
        const std::string& group = row.at("group");
        if (!group.starts_with("rows.") && !group.starts_with("features.")) {
          audits += real(row.at("audits"));
          continue;
        }
        const double error = real(row.at("median_relative_error"));
        const auto [found, fresh] = range.emplace(group, std::pair(error, error));
        found->second = {std::min(found->second.first, error), std::max(found->second.second, error)};
      }
      std::string line = fmt::format("| {} | {} | {} | {:.1f} |", model, stack, audits, ratio);
      for (const char* group : {"rows.orthogonal", "features.orthogonal"})
        line += fmt::format(" {:.1g} to {:.1g} |", range[group].first, range[group].second);
      line += fmt::format(" {:.2f} |", loss);
      EXPECT_NE(docs.find(line + "\n"), std::string::npos) << line;
      ++lines;
    }
  }
  EXPECT_EQ(lines, 10U);
  for (const char* figure : {"equivariance-qwen3-tiny.svg", "equivariance-olmoe-tiny.svg"})
    EXPECT_NE(read(std::string("results/reference/audit/") + figure).find("</svg>"), std::string::npos) << figure;
}

}  // namespace test_audit_reference
