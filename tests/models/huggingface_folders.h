#pragma once
// Recorded folders of transformers, and what becomes of them when they are changed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "tests/support/temp_folder.h"

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

/// What `base` holds, config.json changed by `patch`.
inline TempFolder with_config(const std::string& base, const char* patch) {
  TempFolder folder;
  fs::copy(kGolden / base, folder.path());
  json config = golden_config(base);
  config.merge_patch(json::parse(patch));
  fs::remove(folder / "config.json");
  std::ofstream(folder / "config.json") << config.dump();
  return folder;
}

}  // namespace equisweep::huggingface_tests
