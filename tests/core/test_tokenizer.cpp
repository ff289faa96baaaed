// The tokenizer gives back every text, byte for byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "core/data/tokenizer.h"
#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_tokenizer {

std::string verses() {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    text +=
        "In the beginning God created the heaven and the earth.\n"
        "And the earth was without form, and void; and darkness was upon the face of the deep.\n"
        "And the Spirit of God moved upon the face of the waters. caf\xc3\xa9\n";
  }
  return text;
}

TEST(Tokenizer, GivesBackEveryText) {
  const Tokenizer tokenizer = Tokenizer::train(verses(), 330);
  EXPECT_EQ(tokenizer.vocabulary(), 330);
  std::string all_bytes_below_128;
  for (int c = 0; c < 128; ++c) all_bytes_below_128 += static_cast<char>(c);
  for (const std::string& text : std::vector<std::string>{
           "",
           " ",
           "\n",
           "\n\n  \n",
           verses(),
           "And the  earth,   and void. ",
           "\t tabs \t\r\n and returns\r",
           "text that looks like pieces: </s> <unk> <0x0A> <s>",
           "a sign that stands for spaces: \xe2\x96\x81, \xe2\x96\x81\xe2\x96\x81 and \xe2\x96\x81",
           "\xe2\x96\x81",
           "the sign of unknown pieces: \xe2\x96\x85 \xe2\x81\x87",
           "\xc3\xa9t\xc3\xa9 \xce\xb1\xce\xb2\xce\xb3 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80\xf0\x9f\x87\xa9",
           "combining e\xcc\x81, ligature \xef\xac\x81, full width \xef\xbc\xa1, no-break\xc2\xa0space",
           "\xef\xbb\xbf byte order mark, \xef\xbf\xbd replacement, \xf4\x8f\xbf\xbf last",
           std::string("zero \0 byte", 11),
           all_bytes_below_128,
           std::string(100000, 'x'),
           std::string(20000, ' '),
       }) {
    const std::vector<std::int64_t> ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    for (const std::int64_t id : ids) {
      ASSERT_TRUE(id > Tokenizer::kDelimiter && id < tokenizer.vocabulary());  // never unknown, never a delimiter
    }
  }
}

TEST(Tokenizer, LearnsWords) {
  const Tokenizer tokenizer = Tokenizer::train(verses(), 400);
  EXPECT_EQ(tokenizer.encode(" the").size(), 1U);
  EXPECT_EQ(tokenizer.encode("\n").size(), 1U);
  EXPECT_LT(tokenizer.encode(verses()).size(), verses().size() / 3);
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{Tokenizer::kDelimiter}), "");
}

// Blocks of a text are encoded one after the other: where a block ends at a line, nothing changes.
TEST(Tokenizer, LinesAreIndependent) {
  const Tokenizer tokenizer = Tokenizer::train(verses(), 330);
  std::vector<std::int64_t> parts;
  tokenizer.encode("And the earth\n", parts);
  tokenizer.encode(" was void\n", parts);
  EXPECT_EQ(parts, tokenizer.encode("And the earth\n was void\n"));
}

TEST(Tokenizer, TrainingIsAFunctionOfTheText) {
  const std::string model = Tokenizer::train(verses(), 350).model();
  EXPECT_EQ(Tokenizer::train(verses(), 350).model(), model);
  const TempFolder folder;
  std::ofstream(folder / "tokenizer.model", std::ios::binary) << model;
  const Tokenizer loaded = Tokenizer::load(folder / "tokenizer.model");
  EXPECT_EQ(loaded.model(), model);
  EXPECT_EQ(loaded.encode(verses()), Tokenizer::train(verses(), 350).encode(verses()));
}

TEST(Tokenizer, TrainingIsSilent) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  Tokenizer::train(verses(), 300);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

TEST(Tokenizer, ImpossibleVocabulariesAreRefused) {
  for (const std::int64_t vocabulary : {1, 258, 270, 5000})
    EXPECT_THROW(Tokenizer::train(verses(), vocabulary), UsageError) << vocabulary;
}

TEST(Tokenizer, OtherFilesAreRefused) {
  const TempFolder folder;
  const std::string model = Tokenizer::train(verses(), 300).model();
  int number = 0;
  for (const std::string& bytes :
       {std::string(), std::string("not a model"), model.substr(0, model.size() / 2), std::string(1000, '\xff')}) {
    const auto path = folder / std::to_string(number++);
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_THROW(Tokenizer::load(path), DataError) << path;
  }
  EXPECT_THROW(Tokenizer::load(folder / "missing"), DataError);
}

}  // namespace test_tokenizer
}  // namespace equisweep
