#include "core/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_atomic_file {

class AtomicFileTest : public ::testing::Test {
 protected:
  static std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::ptrdiff_t entries() const {
    return std::distance(std::filesystem::directory_iterator(folder_.path()), std::filesystem::directory_iterator());
  }

  TempFolder folder_;
};

TEST_F(AtomicFileTest, WritesAndReplaces) {
  const auto path = folder_ / "a.txt";
  const std::string bytes("one\0two\n", 8);
  write_file_atomically(path, bytes);
  EXPECT_EQ(content(path), bytes);
  write_file_atomically(path, "");
  EXPECT_EQ(content(path), "");
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicFileTest, TheNameKeepsItsContentUntilCommit) {
  const auto path = folder_ / "a.txt";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(content(path), "old");
    EXPECT_EQ(entries(), 2);
  }  // abandoned
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1);
  AtomicFile file(path);
  file.write("ne");
  file.write("w");
  file.commit();
  EXPECT_EQ(content(path), "new");
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicFileTest, TwoWritersOfOneNameDoNotMix) {
  const auto path = folder_ / "a.txt";
  AtomicFile first(path), second(path);
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(content(path), "first");
}

TEST_F(AtomicFileTest, PermissionsAreThoseOfAnOrdinaryFile) {
  write_file_atomically(folder_ / "a", "x");
  std::ofstream(folder_ / "b") << "x";
  EXPECT_EQ(std::filesystem::status(folder_ / "a").permissions(), std::filesystem::status(folder_ / "b").permissions());
}

TEST_F(AtomicFileTest, ErrorsNameTheFileAndLeaveNothing) {
  const auto message = [](const std::filesystem::path& path) -> std::string {
    try {
      write_file_atomically(path, "x");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto missing = folder_ / "none" / "a.txt";
  EXPECT_EQ(message(missing), missing.string() + ": cannot be written: No such file or directory");
  std::filesystem::create_directories(folder_ / "taken");
  EXPECT_EQ(message(folder_ / "taken"), (folder_ / "taken").string() + ": cannot be written: Is a directory");
  EXPECT_EQ(entries(), 1);
}

// A limit on the size of files stands for a full disk: write() fails half way.
TEST_F(AtomicFileTest, AFullDiskLeavesTheOldFile) {
  const auto path = folder_ / "a.txt";
  write_file_atomically(path, "old");
  const auto write_with_limit = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    limit.rlim_cur = limit.rlim_max = 1000;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(path, std::string(5000, 'x'));
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      ::_exit(3);
    }
    ::_exit(0);
  };
  EXPECT_EXIT(write_with_limit(), testing::ExitedWithCode(3), "a.txt: cannot be written: File too large");
  EXPECT_EQ(content(path), "old");
  EXPECT_EQ(entries(), 1);
}

}  // namespace test_atomic_file
}  // namespace equisweep
