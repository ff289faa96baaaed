// Which libraries a program's functions come from.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace equisweep::test_standard_library {
namespace {

// LibTorch has one too, which crashes in some of its builds (cmake/dependencies.cmake).
TEST(StandardLibrary, FilesAreRemovedByTheCompilersOwn) {
  std::uintmax_t (*const remove_all)(const std::filesystem::path&, std::error_code&) = std::filesystem::remove_all;
  Dl_info found = {};
  ASSERT_NE(dladdr(reinterpret_cast<const void*>(remove_all), &found), 0);
  EXPECT_NE(std::string(found.dli_fname).find("libstdc++"), std::string::npos) << found.dli_fname;
}

}  // namespace
}  // namespace equisweep::test_standard_library
