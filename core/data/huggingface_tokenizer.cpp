#include "core/data/huggingface_tokenizer.h"

#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

namespace equisweep {
namespace {

using nlohmann::json;

constexpr const char* kSpaceMarkText = "\xe2\x96\x81";

/// The ways to cut `piece` into two pieces, the shortest beginning first.
void add_merges(const std::string& piece, const std::unordered_map<std::string, std::int64_t>& ids, json& merges) {
  for (std::size_t cut = 1; cut < piece.size(); ++cut) {
    if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) continue;  // within a character
    const std::string left = piece.substr(0, cut), right = piece.substr(cut);
    if (ids.contains(left) && ids.contains(right)) merges.push_back({left, right});
  }
}

json special(std::int64_t id, const std::string& piece) {
  return {{"id", id},        {"content", piece},    {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

std::string huggingface_tokenizer(const Tokenizer& tokenizer) {
  json vocabulary = json::object(), merges = json::array();
  std::unordered_map<std::string, std::int64_t> pieces;  // that merges are made of: no bytes, no special ones
  for (std::int64_t id = 0; id < tokenizer.vocabulary(); ++id) {
    vocabulary[tokenizer.piece(id)] = id;
    if (tokenizer.is_text(id)) pieces.emplace(tokenizer.piece(id), id);
  }
  for (std::int64_t id = 0; id < tokenizer.vocabulary(); ++id)
    if (tokenizer.is_text(id)) add_merges(tokenizer.piece(id), pieces, merges);

  const json newline = {{"type", "Split"}, {"pattern", {{"String", "\n"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const json decoder = {{"type", "Sequence"},
                        {"decoders",
                         {{{"type", "Replace"}, {"pattern", {{"String", kSpaceMarkText}}}, {"content", " "}},
                          {{"type", "ByteFallback"}},
                          {{"type", "Fuse"}}}}};
  const json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens",
                      {special(Tokenizer::kUnknown, tokenizer.piece(Tokenizer::kUnknown)),
                       special(Tokenizer::kDelimiter, tokenizer.piece(Tokenizer::kDelimiter))}},
                     {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMarkText}}},
                     {"pre_tokenizer", newline},
                     {"post_processor", nullptr},
                     {"decoder", decoder},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", tokenizer.piece(Tokenizer::kUnknown)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", true},
                       {"ignore_merges", false},
                       {"vocab", std::move(vocabulary)},
                       {"merges", std::move(merges)}}}};
  return file.dump(1) + "\n";
}

}  // namespace equisweep
