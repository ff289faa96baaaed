// Shards: what is written is read back, and files that lie are refused with a message that says where.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/data/shard.h"
#include "core/error.h"
#include "tests/support/shard_bytes.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_shard {

using testing::shard_bytes;

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::int64_t> read_all(const Shard& shard) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(shard.size()));
  shard.read(0, tokens);
  return tokens;
}

TEST(Shard, BothFormatsAreRead) {
  const TempFolder folder;
  write_file(folder / "a.bin", shard_bytes<std::uint16_t>({20260317, 2, 3, 2, 7, 1, 0}, {5, 65535, 1}));
  write_file(folder / "b.bin", shard_bytes<std::uint32_t>({20260317, 2, 3, 4, 9, 0, 1}, {5, 4000000000, 1}));
  write_file(folder / "c.bin", shard_bytes<std::uint16_t>({20240520, 1, 4}, {1, 2, 3, 50256}));
  const Shard a(folder / "a.bin", 65536), b(folder / "b.bin", 4000000001), c(folder / "c.bin", 50257);
  EXPECT_EQ(read_all(a), (std::vector<std::int64_t>{5, 65535, 1}));
  EXPECT_EQ(a.header().delimiter, 7);
  EXPECT_EQ(a.header().n_prepend, 1);
  EXPECT_EQ(read_all(b), (std::vector<std::int64_t>{5, 4000000000, 1}));
  EXPECT_EQ(b.header().n_append, 1);
  EXPECT_EQ(read_all(c), (std::vector<std::int64_t>{1, 2, 3, 50256}));
  EXPECT_EQ(c.header().delimiter, -1);
}

TEST(Shard, WhatIsWrittenIsReadBack) {
  const TempFolder folder;
  for (const std::int64_t vocabulary : {2, 512, 65536, 65537, 262144}) {
    std::vector<std::int64_t> tokens;
    for (std::int64_t i = 0; i < 200000; ++i) tokens.push_back(i * 7919 % vocabulary);
    tokens.push_back(vocabulary - 1);
    const auto path = folder / "x.bin";
    {
      ShardWriter writer(path, vocabulary, 1);
      writer.write(std::span(tokens).first(3));
      writer.write(std::span(tokens).subspan(3));
      EXPECT_FALSE(std::filesystem::exists(path));  // not before it is whole
      writer.finish();
    }
    const Shard shard(path, vocabulary);
    EXPECT_EQ(shard.header().width, vocabulary <= 65536 ? 2 : 4);
    EXPECT_EQ(shard.header().delimiter, 1);
    EXPECT_EQ(shard.header().n_append, 1);
    EXPECT_EQ(std::filesystem::file_size(path), 1024 + tokens.size() * static_cast<std::size_t>(shard.header().width));
    EXPECT_EQ(read_all(shard), tokens);
    std::vector<std::int64_t> scanned, part(5);
    shard.scan([&](std::span<const std::int64_t> block) { scanned.insert(scanned.end(), block.begin(), block.end()); });
    EXPECT_EQ(scanned, tokens);
    shard.read(150001, part);
    EXPECT_EQ(part, std::vector(tokens.begin() + 150001, tokens.begin() + 150006));
    std::filesystem::remove(path);
  }
  { const ShardWriter abandoned(folder / "y.bin", 10); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Shard, HostileOnesAreRefused) {
  struct Case {
    const char* name;
    std::string bytes;
    std::string message;
  };
  const std::vector<std::uint16_t> three{1, 2, 3};
  const auto published = [&](std::int32_t tokens, std::int32_t width) {
    return shard_bytes<std::uint16_t>({20260317, 2, tokens, width}, three);
  };
  const std::vector<Case> cases{
      {"empty file", "", "has 0 bytes; a token shard has a header of 1024"},
      {"short header", std::string(1023, '\0'), "has 1023 bytes; a token shard has a header of 1024"},
      {"magic", shard_bytes<std::uint16_t>({7, 2, 3, 2}, three),
       "is not a token shard: magic 7 at byte 0; 20260317 or 20240520 expected"},
      {"version", shard_bytes<std::uint16_t>({20260317, 1, 3, 2}, three),
       "version 1 at byte 4; with magic 20260317 only version 2 is known"},
      {"llm.c version", shard_bytes<std::uint16_t>({20240520, 2, 3}, three),
       "version 2 at byte 4; with magic 20240520 only version 1 is known"},
      {"width", published(3, 8), "8 bytes per token at byte 12; 2 or 4 expected"},
      {"width 0", published(3, 0), "0 bytes per token at byte 12; 2 or 4 expected"},
      {"negative count", published(-3, 2), "token count -3 at byte 8 is negative"},
      {"cut", published(4, 2),
       "has 1030 bytes; its header says 4 tokens of 2 bytes, which makes 1032 bytes (2 are missing)"},
      {"trailing", published(2, 2),
       "has 1030 bytes; its header says 2 tokens of 2 bytes, which makes 1028 bytes (2 too many)"},
      {"overflowing", published(2147483647, 4),
       "has 1030 bytes; its header says 2147483647 tokens of 4 bytes, which makes 8589935612 bytes (8589934582 are "
       "missing)"},
      {"no tokens", shard_bytes<std::uint16_t>({20260317, 2, 0, 2}, {}), "has no tokens"},
  };
  const TempFolder folder;
  const auto path = folder / "x.bin";
  for (const Case& c : cases) {
    write_file(path, c.bytes);
    try {
      Shard shard(path, 100);
      ADD_FAILURE() << c.name;
    } catch (const DataError& e) {
      EXPECT_EQ(std::string(e.what()), path.string() + ": " + c.message) << c.name;
    }
  }
  EXPECT_THROW(Shard(folder / "missing.bin", 100), DataError);
  EXPECT_THROW(Shard(folder.path(), 100), DataError);
}

TEST(Shard, TokensOutsideTheVocabularyAreRefusedWithTheirOffset) {
  const TempFolder folder;
  const auto path = folder / "x.bin";
  std::vector<std::uint32_t> tokens(100000, 99);
  tokens[70000] = 100;
  tokens[80000] = 4294967295;
  write_file(path, shard_bytes<std::uint32_t>({20260317, 2, 100000, 4}, tokens));
  const Shard shard(path, 100);
  try {
    shard.scan([](std::span<const std::int64_t>) {});
    ADD_FAILURE();
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              path.string() + ": token 100 at position 70000 (byte 281024) is not below the vocabulary of 100");
  }
  std::vector<std::int64_t> one(1);
  EXPECT_NO_THROW(shard.read(69999, one));
  EXPECT_THROW(shard.read(80000, one), DataError);
}

// With a memory map this would end the process.
TEST(Shard, CutWhileOpenIsAnError) {
  const TempFolder folder;
  const auto path = folder / "x.bin";
  write_file(path, shard_bytes<std::uint16_t>({20260317, 2, 3, 2}, {1, 2, 3}));
  const Shard shard(path, 100);
  std::filesystem::resize_file(path, 1028);
  std::vector<std::int64_t> tokens(3);
  try {
    shard.read(0, tokens);
    ADD_FAILURE();
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()), path.string() + ": ends at byte 1028, 2 more expected; it was cut after it was opened");
  }
}

}  // namespace test_shard
}  // namespace equisweep
