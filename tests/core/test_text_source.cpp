// Reading text, its encoding and its hash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "core/data/sha256.h"
#include "core/data/text_source.h"
#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_text_source {

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string gzipped(const std::string& text) {
  const TempFolder folder;
  const std::string path = (folder / "x.gz").string();
  gzFile file = ::gzopen(path.c_str(), "wb");
  ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  ::gzclose(file);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Block {
  std::string text;
  bool ends;
  bool operator==(const Block&) const = default;
};

std::vector<Block> blocks(const std::string& name, const std::optional<std::string>& field = {}) {
  std::vector<Block> result;
  read_text(name, field, [&](std::string_view text, bool ends) { result.push_back({std::string(text), ends}); });
  return result;
}

std::string failure(const std::filesystem::path& path, const std::optional<std::string>& field = {}) {
  try {
    blocks(path.string(), field);
    return "no error";
  } catch (const DataError& e) {
    const std::string message = e.what();
    EXPECT_TRUE(message.starts_with(path.string())) << message;
    return message.substr(std::min(message.size(), path.string().size()));
  }
}

// FIPS 180-4's examples, and lengths around the block size against recorded results of another implementation.
TEST(Sha256, AgreesWithTheStandard) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  Sha256 lengths;
  for (std::size_t n = 0; n < 200; ++n) lengths.add(sha256(std::string(n, 'a')));
  EXPECT_EQ(lengths.hex(), "019f2b9f1af27a53a1f046da7e98af2c179f431e4b5bebb000e74040917a4123");
  Sha256 pieces;
  for (int i = 0; i < 1000; ++i) pieces.add(std::string(1000, 'a'));
  EXPECT_EQ(pieces.hex(), sha256(std::string(1000000, 'a')));
}

TEST(Utf8, ValidPrefix) {
  const std::vector<std::pair<std::string, std::size_t>> cases{
      {"", 0},
      {"plain", 5},
      {"caf\xc3\xa9", 5},
      {"\xe4\xb8\xad\xf0\x9f\x98\x80", 7},
      {"\xf4\x8f\xbf\xbf", 4},
      {"ab\x80", 2},    // a continuation byte alone
      {"ab\xc3", 2},    // cut
      {"ab\xc3g", 2},   // not continued
      {"\xc0\xaf", 0},  // a longer form than needed
      {"\xc1\xbf", 0},
      {"\xe0\x80\xaf", 0},
      {"\xf0\x80\x80\xaf", 0},
      {"x\xed\xa0\x80", 1},      // a surrogate
      {"x\xf4\x90\x80\x80", 1},  // above U+10FFFF
      {"x\xf5\x80\x80\x80", 1},
      {"x\xff", 1},
      {"\xf0\x9f\x98", 0},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(valid_utf8_prefix(text), expected) << ::testing::PrintToString(text);
}

TEST(TextSource, PlainTextComesBackInBlocksThatEndAtLines) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; text.size() < 5'000'000; ++i)
    text += "line " + std::to_string(i) + " caf\xc3\xa9 " + std::string(static_cast<std::size_t>(i % 97), 'x') + "\n";
  const std::string one_line(300'000, 'y');
  std::string accents;  // no line ends, and no character may be cut
  for (int i = 0; i < 100'000; ++i) accents += "\xe4\xb8\xad";
  for (const std::string& content : {text, one_line, accents, std::string("\n"), std::string("no end"), text + "tail"}) {
    for (const bool gzip : {false, true}) {
      const auto path = folder / (gzip ? "text.gz" : "text.txt");
      write_file(path, gzip ? gzipped(content) : content);
      std::string joined;
      const auto all = blocks(path.string());
      for (std::size_t i = 0; i < all.size(); ++i) {
        joined += all[i].text;
        EXPECT_EQ(all[i].ends, i + 1 == all.size());
        EXPECT_EQ(valid_utf8_prefix(all[i].text), all[i].text.size());
        EXPECT_LE(all[i].text.size(), 64U << 10);
        EXPECT_TRUE(i + 1 == all.size() || content.find('\n') == std::string::npos || all[i].text.ends_with('\n'));
      }
      EXPECT_TRUE(joined == content);
      const TextSummary summary = read_text(path.string(), {}, [](std::string_view, bool) {});
      EXPECT_EQ(summary.bytes, std::ssize(content));
      EXPECT_EQ(summary.sha256, sha256(content));
    }
  }
}

TEST(TextSource, JsonLines) {
  const TempFolder folder;
  const std::string lines =
      "{\"text\": \"one\\ntwo\", \"id\": 1}\n\n  \r\n{\"id\": 2, \"text\": \"caf\\u00e9 "
      "\\u0000\"}\r\n{\"text\":\"\"}\n{\"text\": \"last\"}";
  const std::vector<Block> expected{{"one\ntwo", true}, {std::string("caf\xc3\xa9 \0", 7), true}, {"last", true}};
  write_file(folder / "a.jsonl", lines);
  write_file(folder / "a.jsonl.gz", gzipped(lines));
  write_file(folder / "a.txt", lines);
  EXPECT_EQ(blocks((folder / "a.jsonl").string()), expected);
  EXPECT_EQ(blocks((folder / "a.jsonl.gz").string()), expected);
  EXPECT_EQ(blocks((folder / "a.txt").string(), "text"), expected);
  EXPECT_EQ(blocks((folder / "a.txt").string()), (std::vector<Block>{{lines, true}}));
}

TEST(TextSource, BadTextIsRefusedWithItsPlace) {
  const TempFolder folder;
  const auto plain = folder / "a.txt", json = folder / "a.jsonl", gz = folder / "a.gz";
  write_file(plain, std::string(100'000, 'a') + "\xff" + "b");
  EXPECT_EQ(failure(plain),
            ": is not UTF-8: byte 0xFF at offset 100000 begins no valid character; convert the text first, for example with "
            "iconv");
  write_file(plain, "abc\xc3");
  EXPECT_EQ(
      failure(plain),
      ": is not UTF-8: byte 0xC3 at offset 3 begins no valid character; convert the text first, for example with iconv");
  write_file(plain, "");
  EXPECT_EQ(failure(plain), ": is empty");
  EXPECT_EQ(failure(folder / "missing.txt"), ": cannot be opened: No such file or directory");
  EXPECT_EQ(failure(folder.path()), ": is a folder; a text file is expected");
  write_file(json, "{\"text\": \"a\"}\n{\"text\": \"caf\xe9\"}\n");
  EXPECT_EQ(
      failure(json),
      ": is not UTF-8: byte 0xE9 at offset 27 begins no valid character; convert the text first, for example with iconv");
  write_file(json, "{\"text\": \"a\"}\n[1]\n");
  EXPECT_EQ(failure(json), ":2: is a JSON array; an object with the field 'text' is expected");
  write_file(json, "{\"a\": \"a\", \"b\": 1}\n");
  EXPECT_EQ(failure(json), ":1: has no field 'text'; it has: a, b");
  EXPECT_EQ(failure(json, "b"), ":1: the field 'b' is a number; a string is expected");
  write_file(json, "\n{\"text\": \"a\n");
  EXPECT_TRUE(failure(json).starts_with(":2: is not JSON: ")) << failure(json);
  const std::string whole = gzipped(std::string(1000, 'a') + std::to_string(12345));
  write_file(gz, whole.substr(0, whole.size() - 6));
  EXPECT_TRUE(failure(gz).find("cannot be read") != std::string::npos) << failure(gz);
  std::string damaged = whole;
  damaged[damaged.size() - 6] ^= 1;  // the check sum
  write_file(gz, damaged);
  EXPECT_TRUE(failure(gz).find("cannot be read") != std::string::npos) << failure(gz);
}

}  // namespace test_text_source
}  // namespace equisweep
