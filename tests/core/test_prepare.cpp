// Preparing a corpus: what is written is what was given, twice the same, whole or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/data/corpus.h"
#include "core/data/kjv.h"
#include "core/data/prepare.h"
#include "core/data/sha256.h"
#include "core/data/shard.h"
#include "core/data/tokenizer.h"
#include "core/error.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_prepare {

namespace fs = std::filesystem;

void write_file(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string numbered_lines(int first, int last) {
  std::string text;
  for (int i = first; i < last; ++i)
    text += "verse " + std::to_string(i) + ": and the earth was without form, and void; \xc3\xa9\n";
  return text;
}

std::vector<std::int64_t> tokens_of(const fs::path& folder, const ManifestPart& part, std::int64_t vocabulary) {
  std::vector<std::int64_t> all;
  for (const ManifestFile& file : part.shards) {
    Shard(folder / file.name, vocabulary).scan([&](std::span<const std::int64_t> tokens) {
      all.insert(all.end(), tokens.begin(), tokens.end());
    });
  }
  return all;
}

PrepareOptions options(const TempFolder& folder, const std::string& text) {
  write_file(folder / "text.txt", text);
  PrepareOptions o;
  o.text = {(folder / "text.txt").string()};
  o.vocabulary = 320;
  o.out = folder / "out";
  return o;
}

std::string refusal(const PrepareOptions& o) {
  try {
    prepare_corpus(o);
    return "no error";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Prepare, WritesWhatWasGiven) {
  const TempFolder folder;
  PrepareOptions o = options(folder, numbered_lines(0, 3000));
  o.val_text = {(folder / "val.txt").string()};
  write_file(o.val_text[0], numbered_lines(3000, 3500));
  const Manifest m = prepare_corpus(o);

  const Tokenizer tokenizer = Tokenizer::load(o.out / "tokenizer.model");
  const auto train = tokens_of(o.out, m.train, 320), val = tokens_of(o.out, m.val, 320);
  EXPECT_EQ(tokenizer.decode(train), numbered_lines(0, 3000));
  EXPECT_EQ(tokenizer.decode(val), numbered_lines(3000, 3500));
  EXPECT_EQ(std::ranges::count(train, Tokenizer::kDelimiter), 1);
  EXPECT_EQ(train.back(), Tokenizer::kDelimiter);

  EXPECT_EQ(m.train.tokens, std::ssize(train));
  EXPECT_EQ(m.val.tokens, std::ssize(val));
  EXPECT_EQ(m.val.bytes, std::ssize(numbered_lines(3000, 3500)));
  EXPECT_EQ(m.train.documents, 1);
  EXPECT_DOUBLE_EQ(m.bytes_per_token, static_cast<double>(m.val.bytes) / static_cast<double>(val.size()));
  std::map<std::int64_t, double> seen;
  for (const std::int64_t token : train) ++seen[token];
  double entropy = 0;  // by definition, token by token
  for (const std::int64_t token : val) {
    entropy -= std::log((seen[token] + 1) / (static_cast<double>(train.size()) + 320)) / static_cast<double>(val.size());
  }
  EXPECT_NEAR(m.unigram_entropy, entropy, 1e-12);

  // The folder holds what the manifest lists, and nothing else is left.
  EXPECT_EQ(sha256_of_file(o.out / "tokenizer.model"), m.tokenizer.sha256);
  for (const ManifestPart& part : {m.train, m.val}) {
    for (const ManifestFile& file : part.shards) EXPECT_EQ(sha256_of_file(o.out / file.name), file.sha256);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(o.out), {}), 4);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 3);
  const Manifest again = read_manifest(o.out);
  EXPECT_EQ(to_json(again), to_json(m));
  EXPECT_EQ(again.sources.size(), 2U);
  EXPECT_EQ(again.sources[1].sha256, sha256(numbered_lines(3000, 3500)));
}

TEST(Prepare, TwiceGivesTheSameBytes) {
  const TempFolder folder;
  PrepareOptions o = options(folder, numbered_lines(0, 4000));
  prepare_corpus(o);
  const fs::path first = o.out;
  o.out = (folder / "again").string() + "/";
  prepare_corpus(o);
  for (const auto& entry : fs::directory_iterator(first)) {
    EXPECT_EQ(sha256_of_file(entry.path()), sha256_of_file(o.out / entry.path().filename())) << entry.path();
  }
}

// Held out blocks and the rest are the text, each block in one of the two; cuts are marked by delimiters.
TEST(Prepare, HoldsOutAFractionSpreadOverTheText) {
  const TempFolder folder;
  const std::string text = numbered_lines(0, 12000);
  PrepareOptions o = options(folder, text);
  o.val_fraction = 0.1;
  const Manifest m = prepare_corpus(o);
  const double share = static_cast<double>(m.val.bytes) / static_cast<double>(text.size());
  EXPECT_NEAR(share, 0.1, 0.02);
  EXPECT_EQ(m.val.bytes + m.train.bytes, std::ssize(text));
  EXPECT_GT(m.val.documents, 4);
  const Tokenizer tokenizer = Tokenizer::load(o.out / "tokenizer.model");
  std::vector<int> owner(12000);
  for (const auto& [part, mark] : {std::pair{m.train, 1}, std::pair{m.val, 2}}) {
    const std::string decoded = tokenizer.decode(tokens_of(o.out, part, 320));
    for (std::size_t at = 0; (at = decoded.find("verse ", at)) != std::string::npos; ++at) {
      owner[static_cast<std::size_t>(std::stoi(decoded.substr(at + 6)))] += mark;
    }
  }
  EXPECT_THAT(owner, ::testing::Each(::testing::AnyOf(1, 2)));
}

TEST(Prepare, DocumentsOfJsonLinesStayWhole) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += nlohmann::json({{"body", numbered_lines(i, i + 5)}}).dump() + "\n";
  PrepareOptions o = options(folder, lines);
  o.field = "body";
  const Manifest m = prepare_corpus(o);
  EXPECT_EQ(m.train.documents, 95);
  EXPECT_EQ(m.val.documents, 5);
  const Tokenizer tokenizer = Tokenizer::load(o.out / "tokenizer.model");
  EXPECT_EQ(tokenizer.decode(tokens_of(o.out, m.val, 320)), numbered_lines(19, 24) + numbered_lines(39, 44) +
                                                                numbered_lines(59, 64) + numbered_lines(79, 84) +
                                                                numbered_lines(99, 104));
  EXPECT_EQ(std::ranges::count(tokens_of(o.out, m.train, 320), Tokenizer::kDelimiter), 95);
}

TEST(Prepare, ImpossibleOptionsAreRefusedAndLeaveNothing) {
  const TempFolder folder;
  const PrepareOptions good = options(folder, numbered_lines(0, 1000));
  const auto with = [&](auto change) {
    PrepareOptions o = good;
    change(o);
    return refusal(o);
  };
  EXPECT_EQ(with([](auto& o) { o.text.clear(); }), "no text files are given");
  EXPECT_EQ(with([](auto& o) { o.text = {"-", "-"}; }), "the standard input ('-') can be read only once");
  EXPECT_EQ(with([](auto& o) { o.vocabulary = 0; }), "a vocabulary of 0 is not possible; allowed: 1 to 1048576");
  EXPECT_EQ(with([](auto& o) { o.val_fraction = std::nan(""); }),
            "a validation fraction of nan is not possible; allowed: above 0, up to 0.5");
  EXPECT_EQ(with([](auto& o) { o.out = ""; }), "no folder for the corpus is given");
  EXPECT_EQ(with([&](auto& o) { o.out = folder.path(); }),
            folder.path().string() + " exists; delete it first or choose another folder");
  EXPECT_THAT(with([](auto& o) { o.vocabulary = 100; }),
              ::testing::HasSubstr("no tokenizer of 100 pieces can be made from this text of "));
  EXPECT_THAT(with([](auto& o) { o.text.push_back("/missing/file"); }),
              ::testing::HasSubstr("/missing/file: cannot be opened"));
  write_file(folder / "text.txt", "one line\n");
  EXPECT_EQ(refusal(good), "the text is too short to hold out a part for validation; give more text or --val-text");
  write_file(folder / "text.txt", numbered_lines(0, 1000) + "\xff");
  EXPECT_THAT(refusal(good), ::testing::HasSubstr("is not UTF-8"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);  // the text
}

TEST(Prepare, ReplacesWhatAKilledProcessLeft) {
  const TempFolder folder;
  const PrepareOptions o = options(folder, numbered_lines(0, 1000));
  fs::create_directories(folder / "out.partial");
  write_file(folder / "out.partial" / "train-00007.bin", "rubbish");
  write_file(folder / "out.lock", "");
  prepare_corpus(o);
  EXPECT_FALSE(fs::exists(o.out / "train-00007.bin"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
}

TEST(Manifest, HostileOnesAreRefused) {
  const TempFolder folder;
  const PrepareOptions o = options(folder, numbered_lines(0, 1000));
  const std::string good = to_json(prepare_corpus(o));
  const auto with = [&](auto change) {
    auto json = nlohmann::json::parse(good);
    change(json);
    write_file(o.out / "manifest.json", json.dump());
    try {
      read_manifest(o.out);
      return std::string("no error");
    } catch (const DataError& e) {
      return std::string(e.what()).substr((o.out / "manifest.json").string().size() + 2);
    }
  };
  EXPECT_EQ(with([](auto&) {}), "no error");
  EXPECT_EQ(with([](auto& j) { j = 3; }), "is not an object");
  EXPECT_EQ(with([](auto& j) { j["format"] = "cake"; }), "'format' is 'cake'; 'equisweep corpus' is expected");
  EXPECT_EQ(with([](auto& j) { j["version"] = 2; }),
            "version 2 is unknown to this program, which reads version 1; prepare the corpus again");
  EXPECT_EQ(with([](auto& j) { j.erase("vocabulary"); }), "has no 'vocabulary'");
  EXPECT_EQ(with([](auto& j) { j["vocabulary"] = 18446744073709551615ULL; }), "'vocabulary' is not a whole number >= 1");
  EXPECT_EQ(with([](auto& j) { j["train"]["shards"][0]["file"] = "../secret"; }),
            "in shards: 'file' is '../secret'; the name of a file in the same folder is expected");
  EXPECT_EQ(
      with([](auto& j) { j["train"]["tokens"] = 1; }), "in train: 'tokens' is 1, but the shards have " + [&] {
        return std::to_string(nlohmann::json::parse(good)["train"]["tokens"].template get<std::int64_t>());
      }());
  EXPECT_EQ(with([](auto& j) {
              j["train"]["shards"] = {{{"file", "a"}, {"sha256", "b"}, {"tokens", INT64_MAX}},
                                      {{"file", "a"}, {"sha256", "b"}, {"tokens", INT64_MAX}}};
            }),
            "in train: the shards have more than 2^63 tokens");
  write_file(o.out / "manifest.json", "{");
  EXPECT_THROW(read_manifest(o.out), DataError);
}

TEST(Kjv, ReferencesAreStripped) {
  EXPECT_THAT(kjv_chapters("Ge1:1 In the: beginning\nGe1:2 And\nGe2:1 Thus\n1Sm1:1 Now\n1Sm2:1 And 1:1 too\n"),
              ::testing::ElementsAre("In the: beginning\nAnd\n", "Thus\n", "Now\n", "And 1:1 too\n"));
  for (const char* bad : {"In the beginning\n", "\n", "Ge1:1\n", "Ge:1 In\n", "Ge1: In\n", "Ge1:x In\n", ":1 In\n"})
    EXPECT_THROW(kjv_chapters(bad), DataError) << bad;
}

TEST(Kjv, AMissingProgramIsAnErrorThatSaysWhatToInstall) {
  try {
    print_kjv("equisweep-no-such-program");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("apt-get install bible-kjv"));
    EXPECT_THAT(e.what(), ::testing::HasSubstr("synthetic"));
  }
  EXPECT_THROW(print_kjv("echo"), Error);  // one line
  EXPECT_THROW(print_kjv("false"), Error);
}

}  // namespace test_prepare
}  // namespace equisweep
