#pragma once
// A small valid sweep file for tests, and what is wrong with a changed one.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/file/spec.h"

namespace equisweep {

inline const std::string kSmallSweep =
    "version: 1\n"                                                                       // 1
    "name: small\n"                                                                      // 2
    "data: {corpus: synthetic, seq_len: 16, batch_tokens: 64}\n"                         // 3
    "train: {steps: 10, eval: {every: 5, tokens: 64}}\n"                                 // 4
    "grid: {model: qwen3-nano, stack: [adamw, muon], lr_scale: [1, 2], seed: [0, 1]}\n"  // 5
    "stacks:\n"                                                                          // 6
    "  adamw: {baseline: true, default: {rule: adamw, lr: 3e-3}}\n"                      // 7
    "  muon:\n"                                                                          // 8
    "    default: {rule: adamw, lr: 3e-3}\n"                                             // 9
    "    matrix: {rule: muon, lr: 0.02}\n";                                              // 10

/// kSmallSweep with the first `from` replaced by `to`.
inline std::string changed(const std::string& from, const std::string& to) {
  std::string text = kSmallSweep;
  const auto at = text.find(from);
  return at == std::string::npos ? "no '" + from + "' in the sweep" : text.replace(at, from.size(), to);
}

/// Every problem of `text`, one a line; "" if there is none.
inline std::string errors_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  try {
    read_sweep(text, "f", sets);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

/// `expected`, where "..." stands for names and limits that belong to another table.
inline void expect_message(const std::string& actual, const std::string& expected) {
  const auto dots = expected.find("...");
  if (dots == std::string::npos) {
    EXPECT_EQ(actual, expected);
    return;
  }
  const std::string before = expected.substr(0, dots), after = expected.substr(dots + 3);
  EXPECT_EQ(actual.substr(0, dots), before);
  EXPECT_EQ(actual.substr(actual.size() - std::min(actual.size(), after.size())), after);
  EXPECT_EQ(std::count(actual.begin(), actual.end(), '\n'), std::count(expected.begin(), expected.end(), '\n')) << actual;
}

}  // namespace equisweep
