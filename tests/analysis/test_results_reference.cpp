// What README.md and docs/results.md quote of the committed report is what the report says, and the report is as it was
// written.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/data/sha256.h"

namespace equisweep {
namespace test_results_reference {

namespace fs = std::filesystem;

const fs::path kRoot = EQUISWEEP_SOURCE_DIR, kReference = kRoot / "results/reference";

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// Text without what Markdown and line breaks add to it.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '*') continue;
    const char next = c == '\n' ? ' ' : c;
    if (next != ' ' || (!out.empty() && out.back() != ' ')) out += next;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// The quotations ("> ...") of a page, each as one text.
std::vector<std::string> quotations(const std::string& page) {
  std::vector<std::string> found;
  bool inside = false;
  for (const std::string& line : lines_of(page)) {
    if (line.starts_with("> ")) {
      if (inside)
        found.back() += " " + line.substr(2);
      else
        found.push_back(line.substr(2));
    }
    inside = line.starts_with("> ");
  }
  return found;
}

TEST(ResultsReference, EveryTableAndQuotationIsTheReports) {
  const std::string report = read(kReference / "kjv-2026/report.md") + read(kReference / "kjv-2026-gemma/report.md"),
                    words = plain(report);
  const std::vector<std::string> lines = lines_of(report);
  const std::string results = read(kRoot / "docs/results.md");
  std::size_t rows = 0;
  for (const std::string& line : lines_of(results)) {
    if (!line.starts_with("|")) continue;
    EXPECT_NE(std::find(lines.begin(), lines.end(), line), lines.end()) << line;
    ++rows;
  }
  EXPECT_GE(rows, 20U);
  std::size_t quoted = 0;
  for (const std::string& page : {results, read(kRoot / "README.md")})
    for (const std::string& quotation : quotations(page)) {
      EXPECT_NE(words.find(plain(quotation)), std::string::npos) << quotation;
      ++quoted;
    }
  EXPECT_GE(quoted, 2U);
}

// Of its figures only the SVG files are committed: the page and the Markdown show those.
TEST(ResultsReference, TheFilesAreThoseThatTheReportWrote) {
  for (const char* name : {"kjv-2026", "kjv-2026-gemma"}) {
    const fs::path folder = kReference / name;
    const nlohmann::json manifest = nlohmann::json::parse(read(folder / "manifest.json"));
    std::set<std::string> listed = {"manifest.json", "sweep.yaml"};
    for (const auto& [file, facts] : manifest.at("files").items()) {
      listed.insert(file);
      if ((file.ends_with(".pdf") || file.ends_with(".png")) && !fs::exists(folder / file)) continue;
      EXPECT_EQ(sha256(read(folder / file)), facts.at("sha256").get<std::string>()) << file;
    }
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) {
        EXPECT_TRUE(listed.contains(fs::relative(entry.path(), folder).generic_string())) << entry;
      }
    }
  }
}

}  // namespace test_results_reference
}  // namespace equisweep
