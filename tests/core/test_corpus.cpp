// Opening corpora by name: what is known about them, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
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
namespace test_corpus {

namespace fs = std::filesystem;

void write_shard(const fs::path& path, const std::vector<std::int64_t>& tokens, std::int64_t vocabulary = 65536) {
  ShardWriter writer(path, vocabulary);
  writer.write(tokens);
  writer.finish();
}

std::vector<std::int64_t> read_all(const TokenSource& source) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(source.size()));
  source.read(0, tokens);
  return tokens;
}

std::string refusal(const std::string& name, std::int64_t vocabulary, const fs::path& cache) {
  try {
    open_corpus(name, vocabulary, 0, cache);
    return "no error";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Corpus, AFolderOfShardsIsOneSequence) {
  const TempFolder folder;
  fs::create_directories(folder / "shards");
  write_shard(folder / "shards" / "x_train_000.bin", {1, 2, 3});
  write_shard(folder / "shards" / "x_train_001.bin", {4});
  write_shard(folder / "shards" / "x_train_002.bin", {5, 6, 7, 8, 9});
  write_shard(folder / "shards" / "x_val_000.bin", {1, 1, 2, 0});
  std::ofstream(folder / "shards" / "notes.txt") << "not a shard";
  const Corpus corpus = open_corpus((folder / "shards").string() + "/", 10, 0, folder / "cache");
  EXPECT_EQ(read_all(*corpus.train), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(read_all(*corpus.val), (std::vector<std::int64_t>{1, 1, 2, 0}));
  for (std::int64_t begin = 0; begin < 9; ++begin) {
    for (std::int64_t n = 0; begin + n <= 9; ++n) {
      std::vector<std::int64_t> part(static_cast<std::size_t>(n));
      corpus.train->read(begin, part);
      for (std::int64_t i = 0; i < n; ++i) EXPECT_EQ(part[static_cast<std::size_t>(i)], begin + i + 1);
    }
  }
  EXPECT_EQ(corpus.info.name, "shards");
  EXPECT_EQ(corpus.info.train_tokens, 9);
  EXPECT_EQ(corpus.info.val_tokens, 4);
  // 1, 1, 2 were seen once each in 9, 0 never; add one over a vocabulary of 10.
  EXPECT_NEAR(corpus.info.unigram_entropy, -(3 * std::log(2.0 / 19) + std::log(1.0 / 19)) / 4, 1e-14);
  EXPECT_FALSE(corpus.info.entropy_rate || corpus.info.bytes_per_token);
  EXPECT_EQ(corpus.info.digest.size(), 64U);
}

TEST(Corpus, EveryTokenIsCheckedBeforeAnythingIsReturned) {
  const TempFolder folder;
  fs::create_directories(folder / "c");
  std::vector<std::int64_t> tokens(100000, 9);
  write_shard(folder / "c" / "val.bin", tokens);
  tokens[77777] = 10;
  write_shard(folder / "c" / "train.bin", tokens);
  const std::string name = (folder / "c").string(), cache = (folder / "cache").string();
  const std::string message =
      (folder / "c" / "train.bin").string() + ": token 10 at position 77777 (byte 156578) is not below the vocabulary of 10";
  EXPECT_EQ(refusal(name, 10, cache), message);
  EXPECT_EQ(refusal(name, 11, cache), "no error");
  EXPECT_EQ(refusal(name, 10, cache), message);  // what was checked for 11 says nothing about 10
}

// The shards of the checkout are older than the two seconds within which nothing is noted.
TEST(Corpus, ACheckIsNotedForTheseVeryFilesAndThisVocabulary) {
  const TempFolder cache;
  const std::string name = EQUISWEEP_SOURCE_DIR "/tests/core/shards";
  const Corpus first = open_corpus(name, 10, 0, cache.path());
  std::vector<fs::path> notes{fs::directory_iterator(cache / "checked"), {}};
  ASSERT_EQ(notes.size(), 1U);
  auto note = nlohmann::json::parse(std::ifstream(notes[0]));
  EXPECT_EQ(note["unigram_entropy"], first.info.unigram_entropy);
  struct stat file {};
  ASSERT_EQ(::stat((name + "/train.bin").c_str(), &file), 0);
  const auto nanoseconds = [](const timespec& t) { return std::to_string(t.tv_sec * 1'000'000'000 + t.tv_nsec); };
  for (const std::string& part :
       {std::to_string(file.st_ino), std::to_string(file.st_size), nanoseconds(file.st_mtim), nanoseconds(file.st_ctim)}) {
    EXPECT_THAT(note["key"].get<std::string>(), ::testing::HasSubstr("," + part));
  }
  note["unigram_entropy"] = 123;  // shows whether the note was used
  std::ofstream(notes[0]) << note;
  EXPECT_EQ(open_corpus(name, 10, 0, cache.path()).info.unigram_entropy, 123);
  EXPECT_NE(open_corpus(name, 11, 0, cache.path()).info.unigram_entropy, 123);
  EXPECT_THAT(refusal(name, 9, cache.path()), ::testing::HasSubstr("token 9 at position 6 (byte 1036)"));

  note["key"] = "of other files";
  std::ofstream(notes[0]) << note;
  EXPECT_EQ(open_corpus(name, 10, 0, cache.path()).info.unigram_entropy, first.info.unigram_entropy);
  std::ofstream(notes[0]) << "{";
  EXPECT_EQ(open_corpus(name, 10, 0, cache.path()).info.unigram_entropy, first.info.unigram_entropy);
}

// Also when size and modification time are put back. (Files this young are never noted; the test above is of older ones.)
TEST(Corpus, AChangedShardIsCheckedAgain) {
  const TempFolder folder;
  fs::create_directories(folder / "c");
  const auto train = folder / "c" / "train.bin";
  write_shard(train, {1, 2, 3});
  write_shard(folder / "c" / "val.bin", {1, 2, 3});
  const std::string name = (folder / "c").string();
  const std::string digest = open_corpus(name, 10, 0, folder / "cache").info.digest;
  const auto time = fs::last_write_time(train);
  {
    std::fstream file(train, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1026);
    file.put(99);
  }
  fs::last_write_time(train, time);
  EXPECT_THAT(refusal(name, 10, folder / "cache"), ::testing::HasSubstr("token 99 at position 1 (byte 1026)"));
  EXPECT_NE(open_corpus(name, 100, 0, folder / "cache").info.digest, digest);
}

TEST(Corpus, IsRefusedByName) {
  const TempFolder folder;
  EXPECT_EQ(
      refusal("kjw", 512, folder.path()),
      "unknown corpus 'kjw'; allowed: kjv, synthetic, or a folder that 'equisweep data prepare' made; did you mean 'kjv'?");
  EXPECT_EQ(refusal("kjv", 0, folder.path()), "a vocabulary of 0 is not possible");
  fs::create_directories(folder / "empty");
  EXPECT_EQ(refusal((folder / "empty").string(), 512, folder.path()),
            (folder / "empty").string() +
                ": has no manifest.json and no shards *train*.bin; make a corpus with 'equisweep data prepare'");
  write_shard(folder / "empty" / "train.bin", {1});
  EXPECT_THAT(refusal((folder / "empty").string(), 512, folder.path()), ::testing::HasSubstr("no shards *val*.bin"));
  write_shard(folder / "empty" / "train_val.bin", {1});
  EXPECT_THAT(refusal((folder / "empty").string(), 512, folder.path()), ::testing::HasSubstr("both 'train' and 'val'"));
}

TEST(Corpus, ADamagedPreparedFolderIsRefused) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "And the evening and the morning were day " + std::to_string(i) + ".\n";
  std::ofstream(folder / "text.txt") << text;
  PrepareOptions options;
  options.text = {(folder / "text.txt").string()};
  options.vocabulary = 300;
  options.out = folder / "c";
  const Manifest manifest = prepare_corpus(options);
  const std::string name = options.out.string();

  const Corpus corpus = open_corpus(name, 300, 0, folder / "cache");
  EXPECT_EQ(corpus.info.bytes_per_token, manifest.bytes_per_token);
  EXPECT_NEAR(corpus.info.unigram_entropy, manifest.unigram_entropy, 1e-12);
  EXPECT_EQ(corpus.info.digest, sha256_of_file(options.out / "manifest.json"));
  EXPECT_EQ(open_corpus(name, 512, 0, folder / "cache").info.vocabulary, 300);
  EXPECT_THAT(refusal(name, 299, folder / "cache"),
              ::testing::HasSubstr("the corpus has a vocabulary of 300, the model one of 299"));

  const auto shard = options.out / "train-00000.bin";
  {
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2000);
    file.put('\7');
    file.put('\0');
  }
  EXPECT_THAT(refusal(name, 300, folder / "cache"), ::testing::HasSubstr("it is damaged or was changed"));
  fs::resize_file(shard, fs::file_size(shard) - 2);
  EXPECT_THAT(refusal(name, 300, folder / "cache"), ::testing::HasSubstr("(2 are missing)"));
  fs::remove(shard);
  EXPECT_EQ(refusal(name, 300, folder / "cache"), shard.string() + ": cannot be opened: No such file or directory");
}

TEST(Corpus, InfoSurvivesJson) {
  CorpusInfo info{"kjv", "/a \"b\"/c", 512, 1, 2, 0.1, 2.5, {}, "abc"};
  const std::string text = to_json(info);
  EXPECT_EQ(to_json(corpus_info_from_json(text)), text);
  EXPECT_EQ(corpus_info_from_json(text).entropy_rate, 2.5);
  EXPECT_EQ(corpus_info_from_json(text).unigram_entropy, 0.1);
  EXPECT_FALSE(corpus_info_from_json(text).bytes_per_token);
  EXPECT_EQ(
      to_json(info),
      R"({"digest":"abc","entropy_rate":2.5,"name":"kjv","path":"/a \"b\"/c","train_tokens":1,"unigram_entropy":0.1,"val_tokens":2,"vocabulary":512})");
  for (const char* bad : {"", "[]", "{}", "{\"name\": 3}"}) EXPECT_THROW(corpus_info_from_json(bad), Error) << bad;
  const std::string deep = ", \"more\": " + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_THROW(corpus_info_from_json(text.substr(0, text.size() - 1) + deep), Error);
}

// Four processes ask at once; one prepares, all get the same corpus.
TEST(Corpus, KjvIsPreparedOnceForAll) {
  const TempFolder folder;
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int status = 1;
      try {
        status = open_corpus("kjv", 512, 0, folder.path()).info.train_tokens > 1'000'000 ? 0 : 2;
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
      }
      ::_exit(status);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  for (const auto& entry : fs::directory_iterator(folder.path())) {  // no lock, nothing half made
    EXPECT_THAT(entry.path().filename().string(), ::testing::AnyOf("kjv-512", "checked"));
  }

  const Corpus corpus = open_corpus("kjv", 512, 0, folder.path());
  const Tokenizer tokenizer = Tokenizer::load(folder / "kjv-512" / "tokenizer.model");
  const std::string train = tokenizer.decode(read_all(*corpus.train)), val = tokenizer.decode(read_all(*corpus.val));
  EXPECT_TRUE(train.starts_with("In the beginning God created the heaven and the earth.\nAnd the earth was without form"));
  EXPECT_EQ(std::ranges::count(train, '\n') + std::ranges::count(val, '\n'), 31102);
  EXPECT_TRUE(val.starts_with("And Abraham journeyed from thence toward the south country"));  // Genesis 20
  EXPECT_EQ(read_manifest(folder / "kjv-512").val.documents, 1189 / 20);
  EXPECT_NEAR(static_cast<double>(val.size()) / static_cast<double>(train.size() + val.size()), 0.05, 0.01);
  EXPECT_GT(corpus.info.unigram_entropy, 4);
  EXPECT_LT(corpus.info.unigram_entropy, std::log(512));
  EXPECT_GT(*corpus.info.bytes_per_token, 2);
}

}  // namespace test_corpus
}  // namespace equisweep
