// tokenizer.json, read back by byte-pair encoding from its definition.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/data/huggingface_tokenizer.h"

namespace equisweep {
namespace test_huggingface_tokenizer {

using nlohmann::json;

std::string corpus() {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    text +=
        "In the beginning God created the heaven and the earth.\n"
        "And the earth was without form, and void; and darkness was upon the face of the deep.\n"
        "And the Spirit of God moved upon the face of the waters. caf\xc3\xa9\n";
  }
  return text;
}

/// Byte-pair encoding (Sennrich et al., arXiv:1508.07909) with the ranks of the file: again and again, the first pair of
/// the lowest rank.
class ByDefinition {
 public:
  explicit ByDefinition(const json& file) : model_(file.at("model")) {
    std::int64_t rank = 0;
    for (const json& pair : model_.at("merges")) {
      EXPECT_TRUE(ranks_.emplace(std::pair(pair.at(0).get<std::string>(), pair.at(1).get<std::string>()), rank++).second);
    }
  }

  std::vector<std::int64_t> encode(const std::string& text) const {
    std::vector<std::int64_t> ids;
    std::string line;
    for (const char c : text + "\n") {
      if (c != '\n') {
        line += c == ' ' ? "\xe2\x96\x81" : std::string(1, c);
        continue;
      }
      encode_line(line, ids);
      line.clear();
      ids.push_back(id_of("<0x0A>"));
    }
    ids.pop_back();  // the newline that was appended
    return ids;
  }

 private:
  std::int64_t id_of(const std::string& piece) const { return model_.at("vocab").at(piece).get<std::int64_t>(); }

  void encode_line(const std::string& line, std::vector<std::int64_t>& ids) const {
    std::vector<std::string> parts;
    for (const char c : line) {
      if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) parts.emplace_back();
      parts.back() += c;
    }
    for (;;) {
      std::size_t best = parts.size();
      std::int64_t lowest = std::numeric_limits<std::int64_t>::max();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks_.find({parts[i], parts[i + 1]});
        if (found != ranks_.end() && found->second < lowest) lowest = found->second, best = i;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const std::string& part : parts) {
      if (model_.at("vocab").contains(part)) {
        ids.push_back(id_of(part));
        continue;
      }
      for (const unsigned char byte : part) {
        constexpr const char* digits = "0123456789ABCDEF";
        ids.push_back(id_of(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">"));
      }
    }
  }

  json model_;
  std::map<std::pair<std::string, std::string>, std::int64_t> ranks_;
};

TEST(HuggingFaceTokenizer, EncodesAsOursDoes) {
  const Tokenizer tokenizer = Tokenizer::train(corpus(), 330);
  const json file = json::parse(huggingface_tokenizer(tokenizer));
  const ByDefinition theirs(file);
  for (const std::string& text : std::vector<std::string>{
           corpus(), "", " ", "\n", "  the  heaven and\n\n and the earth.", "unseen QUICK words, 1234; tabs\t\r\n",
           "\xc3\xa9t\xc3\xa9 \xce\xb1\xce\xb2 \xf0\x9f\x98\x80", "aaaaaaa thethethe eeeeee    e"}) {
    EXPECT_EQ(theirs.encode(text), tokenizer.encode(text)) << text;
  }
}

TEST(HuggingFaceTokenizer, NumbersEveryPiece) {
  const Tokenizer tokenizer = Tokenizer::train(corpus(), 330);
  const json file = json::parse(huggingface_tokenizer(tokenizer));
  ASSERT_EQ(file.at("model").at("vocab").size(), 330u);
  for (std::int64_t id = 0; id < 330; ++id) EXPECT_EQ(file.at("model").at("vocab").at(tokenizer.piece(id)), id);
  EXPECT_EQ(file.at("added_tokens").at(0).at("content"), "<unk>");
  EXPECT_EQ(file.at("added_tokens").at(1).at("id"), Tokenizer::kDelimiter);
}

}  // namespace test_huggingface_tokenizer
}  // namespace equisweep
