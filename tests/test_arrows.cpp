// The house rules that a compiler does not check, read off the sources: which folder may include which, which headers of
// LibTorch may be named where, how long a file may get, and that no file carries a path of somebody's machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace test_arrows {

namespace fs = std::filesystem;

struct SourceFile {
  std::string path;  // from the root, with slashes
  std::vector<std::string> lines;

  std::string folder() const { return path.substr(0, path.find('/')); }
  bool is_header() const { return path.ends_with(".h"); }
};

struct Include {
  std::string name;
  bool quoted;  // "core/error.h" rather than <ATen/ATen.h>
  std::string place;
};

// Each folder of the house and those whose headers it may include besides its own.
const std::map<std::string, std::vector<std::string>> kArrows{
    {"core", {}},
    {"optimizers", {"core"}},
    {"models", {"core"}},
    {"analysis", {"core"}},
    {"sweeps", {"core", "optimizers", "models", "analysis"}},
};

SourceFile read(const fs::path& path) {
  SourceFile file{fs::relative(path, EQUISWEEP_SOURCE_DIR).generic_string(), {}};
  std::ifstream in{path};
  for (std::string line; std::getline(in, line);) file.lines.push_back(line);
  return file;
}

std::vector<SourceFile> files_in(const std::vector<std::string>& folders, const std::vector<std::string>& extensions) {
  std::vector<SourceFile> files;
  for (const auto& folder : folders) {
    const fs::path root = fs::path{EQUISWEEP_SOURCE_DIR} / folder;
    if (!fs::exists(root)) continue;
    for (const auto& entry : fs::recursive_directory_iterator{root}) {
      const auto extension = entry.path().extension().string();
      if (entry.is_regular_file() && std::find(extensions.begin(), extensions.end(), extension) != extensions.end()) {
        files.push_back(read(entry.path()));
      }
    }
  }
  return files;
}

std::vector<SourceFile> house() {
  std::vector<std::string> folders;
  for (const auto& [folder, allowed] : kArrows) folders.push_back(folder);
  return files_in(folders, {".h", ".cpp"});
}

std::vector<Include> includes_of(const SourceFile& file) {
  static const std::regex pattern{R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])"};
  std::vector<Include> includes;
  for (size_t i = 0; i < file.lines.size(); ++i) {
    std::smatch match;
    if (std::regex_search(file.lines[i], match, pattern)) {
      includes.push_back({match[2], match[1] == "\"", file.path + ":" + std::to_string(i + 1)});
    }
  }
  return includes;
}

bool is_libtorch(const std::string& include) { return std::regex_search(include, std::regex{"^(ATen|c10|torch)/"}); }

void expect_no_line_with(const std::regex& pattern, const SourceFile& file) {
  for (size_t i = 0; i < file.lines.size(); ++i) {
    EXPECT_FALSE(std::regex_search(file.lines[i], pattern)) << file.path << ":" << i + 1 << ": " << file.lines[i];
  }
}

TEST(Arrows, EveryFolderHasSources) {
  std::map<std::string, int> count;
  for (const auto& file : house()) ++count[file.folder()];
  for (const auto& [folder, allowed] : kArrows) EXPECT_GT(count[folder], 0) << folder;
}

TEST(Arrows, FoldersIncludeOnlyWhatTheyMay) {
  for (const auto& file : house()) {
    auto allowed = kArrows.at(file.folder());
    allowed.push_back(file.folder());
    for (const auto& include : includes_of(file)) {
      const auto first = include.name.substr(0, include.name.find('/'));
      if (kArrows.contains(first)) {
        EXPECT_THAT(allowed, testing::Contains(first)) << include.place << ": includes " << include.name;
      }
      // Paths start at the root, so that the first folder tells where they lead. CMake writes the headers called
      // equisweep_*.
      if (include.quoted && !include.name.starts_with("equisweep_")) {
        EXPECT_TRUE(kArrows.contains(first) && include.name.find("..") == std::string::npos)
            << include.place << ": \"" << include.name << "\" does not start at the root";
        EXPECT_TRUE(fs::exists(fs::path{EQUISWEEP_SOURCE_DIR} / include.name)) << include.place << ": " << include.name;
      }
    }
  }
}

// torch/torch.h costs 6 to 16 s a file even when precompiled. A header is read by files that use no tensors: those under
// ATen/core are enough to declare functions of tensors.
TEST(Arrows, HeadersOfLibTorchAreTheCheapOnes) {
  auto files = house();
  for (auto& file : files_in({"tests"}, {".h", ".cpp"})) files.push_back(std::move(file));
  for (const auto& file : files) {
    for (const auto& include : includes_of(file)) {
      EXPECT_NE(include.name, "torch/torch.h") << include.place;
      EXPECT_NE(include.name, "torch/all.h") << include.place;
      EXPECT_FALSE(include.name.starts_with("torch/nn") || include.name.starts_with("torch/optim")) << include.place;
      if (file.is_header() && is_libtorch(include.name)) {
        EXPECT_TRUE(include.name.starts_with("ATen/core/"))
            << include.place << ": a header includes <" << include.name << ">";
      }
    }
  }
}

TEST(Arrows, HeadersAreIncludedOnce) {
  for (const auto& file : house()) {
    if (!file.is_header()) continue;
    EXPECT_EQ(std::count(file.lines.begin(), file.lines.end(), "#pragma once"), 1) << file.path;
  }
}

std::vector<SourceFile> everything_written() {
  return files_in({"core", "optimizers", "models", "analysis", "sweeps", "tests", "scripts", "cmake", "docs", ".ci"},
                  {".h", ".cpp", ".cmake", ".txt", ".sql", ".md", ".yaml", ".in", ".supp", ""});
}

TEST(Arrows, FilesStayUnder400Lines) {
  for (const auto& file : files_in({"core", "optimizers", "models", "analysis", "sweeps", "tests", "scripts", "cmake"},
                                   {".h", ".cpp", ".cmake", ".txt", ".sql", ""})) {
    if (file.path.starts_with("tests/golden/")) continue;
    EXPECT_LT(file.lines.size(), 400u) << file.path;
  }
}

// CTest runs tests side by side: two that write the same file fail now and then. TempFolder makes folders that nobody
// shares.
TEST(Arrows, TestsWriteIntoATempFolder) {
  const std::regex pattern{R"(\bTempDir\(|\btemp_directory_path\()"};
  for (const auto& file : files_in({"tests"}, {".h", ".cpp", ".inc", ".cu"})) {
    if (file.path == "tests/support/temp_folder.h" || file.path == "tests/test_arrows.cpp") continue;
    expect_no_line_with(pattern, file);
  }
}

// A path below somebody's home or a scratch folder means something on the machine of whoever wrote it, and nothing
// elsewhere.
TEST(Arrows, NoPathOfTheMachineThatBuilt) {
  const std::regex pattern{R"((^|[\s"'=(])/(home|root|work|Users|tmp/[a-z])[/\w])"};
  for (const auto& file : everything_written()) {
    if (file.path.starts_with("tests/golden/")) continue;
    expect_no_line_with(pattern, file);
  }
}

}  // namespace test_arrows
