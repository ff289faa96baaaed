// What the program says of the exception that ends it.

#include "sweeps/last_words.h"

#include <ATen/ATen.h>
#include <c10/util/Logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <stdexcept>

namespace equisweep {
namespace test_last_words {

LastWords words_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return last_words(error);
  }
  return {"nothing was thrown", ExitCode::ok};
}

TEST(LastWords, OursSpeakForThemselves) {
  const LastWords words = words_of([] { throw UsageError("no such key"); });
  EXPECT_EQ(words.text, "no such key");
  EXPECT_EQ(words.code, ExitCode::usage);
}

TEST(LastWords, OfLibTorchOnlyTheMessageIsSaid) {
  const LastWords words = words_of([] { at::ones({2, 3}).mm(at::ones({2, 3})); });
  EXPECT_EQ(words.text, "equisweep: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
  EXPECT_EQ(words.code, ExitCode::some_failed);
}

TEST(LastWords, MemoryThatCannotBeHadIsSaidToBeThat) {
  throw_when_out_of_memory();
  // What c10's allocator of the CPU does where the system refuses; by default it ends the process.
  const auto refuse = [] {
    CAFFE_ENFORCE(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.");
  };
  const LastWords words = words_of(refuse);
  EXPECT_THAT(words.text, ::testing::StartsWith("equisweep: out of memory: "));
  EXPECT_THAT(words.text, ::testing::HasSubstr("you tried to allocate 9 bytes."));
  EXPECT_EQ(words.text.find('\n'), std::string::npos) << words.text;
  EXPECT_THAT(words_of([] { throw std::bad_alloc(); }).text, ::testing::StartsWith("equisweep: out of memory: "));
  try {
    at::ones({2, 3}).mm(at::ones({2, 3}));
  } catch (const std::exception& error) {
    EXPECT_FALSE(is_out_of_memory(error));
  }
}

TEST(LastWords, OthersAreNamedAfterTheProgram) {
  EXPECT_EQ(words_of([] { throw std::runtime_error("odd"); }).text, "equisweep: odd");
}

}  // namespace test_last_words
}  // namespace equisweep
