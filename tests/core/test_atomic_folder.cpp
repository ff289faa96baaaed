// Folders that appear whole or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/atomic_folder.h"
#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_atomic_folder {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(AtomicFolder, TakesItsNameAtTheEnd) {
  const TempFolder temp;
  {
    AtomicFolder folder(temp / "made/out/");
    fs::create_directory(folder.path() / "inner");
    std::ofstream(folder.path() / "inner/file") << "x";
    EXPECT_FALSE(fs::exists(temp / "made/out"));
    folder.commit();
  }
  EXPECT_THAT(names_in(temp / "made"), ElementsAre("out"));
  EXPECT_TRUE(fs::exists(temp / "made/out/inner/file"));
}

TEST(AtomicFolder, LeavesNothingWithoutCommit) {
  const TempFolder temp;
  {
    AtomicFolder folder(temp / "out");
    std::ofstream(folder.path() / "file") << "x";
  }
  EXPECT_TRUE(fs::is_empty(temp.path()));
}

TEST(AtomicFolder, TwoAtOnceDoNotMeet) {
  const TempFolder temp;
  AtomicFolder first(temp / "out"), second(temp / "out");
  std::ofstream(first.path() / "first") << "x";
  std::ofstream(second.path() / "second") << "x";
  first.commit();
  EXPECT_THROW(second.commit(), Error);
  EXPECT_THAT(names_in(temp / "out"), ElementsAre("first"));
}

TEST(AtomicFolder, RefusesWhatHoldsSomething) {
  const TempFolder temp;
  fs::create_directory(temp / "full");
  std::ofstream(temp / "full/file") << "x";
  fs::create_directory(temp / "empty");
  fs::create_directory_symlink(temp / "empty", temp / "link");
  fs::create_symlink(temp / "nowhere", temp / "dangling");
  for (const char* name : {"full", "full/file", "link", "dangling"})
    EXPECT_THROW(AtomicFolder(temp / name), UsageError) << name;
  AtomicFolder folder(temp / "empty");
  std::ofstream(folder.path() / "file") << "x";
  folder.commit();
  EXPECT_THAT(names_in(temp / "empty"), ElementsAre("file"));
}

}  // namespace test_atomic_folder
}  // namespace equisweep
