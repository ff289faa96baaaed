#pragma once
// Token shards: a header of 256 int32, then the tokens, all little-endian. Two formats are read, the first is written:
//   published  [20260317, 2, tokens, bytes per token (2 or 4), delimiter id, n_prepend, n_append, 0...], uint16 or uint32
//   llm.c      [20240520, 1, tokens, ...], uint16 (modded-nanogpt uses the same)
//
// Tokens are read by pread, not through a memory map: windows are contiguous and the page cache serves them at the same
// speed, while a map of a file that somebody cuts would end the process with SIGBUS in the middle of a run. As it is, a cut
// file is an error that names it.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "core/data/corpus.h"
#include "core/data/file_io.h"

namespace equisweep {

struct ShardHeader {
  std::int32_t magic = 0;
  std::int32_t version = 0;
  std::int64_t tokens = 0;
  int width = 0;                ///< bytes per token: 2 or 4
  std::int32_t delimiter = -1;  ///< token id between documents; -1 where the format has none
  std::int32_t n_prepend = 0;   ///< delimiters before each document
  std::int32_t n_append = 0;    ///< and after
};

/// One shard file, open for reading.
class Shard final : public TokenSource {
 public:
  /// Checks magic, version, width and size = 1024 + tokens * width. `vocabulary` is the limit of token ids that read()
  /// enforces. Throws DataError naming the file, what was found and what is expected.
  Shard(const std::filesystem::path& path, std::int64_t vocabulary);

  const ShardHeader& header() const { return header_; }
  const InputFile& file() const { return file_; }
  std::int64_t size() const override { return header_.tokens; }

  /// Throws DataError if a token is not below the vocabulary or the file was cut since it was opened.
  void read(std::int64_t begin, std::span<std::int64_t> out) const override;

  /// Calls `visit` with all tokens, a block at a time. Throws DataError with the byte offset of the first token that is not
  /// below the vocabulary.
  void scan(const std::function<void(std::span<const std::int64_t>)>& visit) const;

 private:
  InputFile file_;
  ShardHeader header_;
  std::int64_t vocabulary_;
};

/// Writes a shard of the published format under a temporary name; finish() makes it whole and gives it its name.
class ShardWriter {
 public:
  /// `delimiter` follows each document (n_append = 1); -1 for none. Width is 2 where the vocabulary allows it.
  ShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, std::int32_t delimiter = -1);
  ~ShardWriter();  ///< removes what is unfinished

  /// Appends; asserts 0 <= token < vocabulary and at most 2^31 - 1 tokens in all.
  void write(std::span<const std::int64_t> tokens);
  std::int64_t tokens() const { return header_.tokens; }
  /// Writes the header, syncs, renames to the final path and syncs the folder.
  void finish();

 private:
  void flush();

  std::filesystem::path path_, temporary_;
  OutputFile file_;
  ShardHeader header_;
  std::int64_t vocabulary_;
  std::string buffer_;
  bool finished_ = false;
};

}  // namespace equisweep
