#pragma once
// Recorded folders of transformers, and what becomes of them when they are changed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"

namespace equisweep::huggingface_tests {

namespace fs = std::filesystem;
using nlohmann::json;

inline const fs::path kGolden = fs::path(EQUISWEEP_SOURCE_DIR) / "tests/golden/hf";

inline json golden_config(const std::string& name) {
  std::ifstream in(kGolden / name / "config.json");
  return json::parse(in);
}

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const DataError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

/// A folder of this test with what `base` holds, config.json changed by `patch`.
inline fs::path with_config(const std::string& base, const char* patch) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(test->test_suite_name()) + "_" + test->name();
  std::replace(name.begin(), name.end(), '/', '_');
  const fs::path folder = fs::path(::testing::TempDir()) / name;
  fs::remove_all(folder);
  fs::copy(kGolden / base, folder);
  json config = golden_config(base);
  config.merge_patch(json::parse(patch));
  fs::remove(folder / "config.json");
  std::ofstream(folder / "config.json") << config.dump();
  return folder;
}

}  // namespace equisweep::huggingface_tests
