#pragma once
// manifest.json of a prepared corpus: what its folder holds and what it was made from. No time stamps and no absolute paths
// of ours, so preparing the same text twice gives the same bytes.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/data/text_source.h"

namespace equisweep {

struct ManifestFile {
  std::string name;  ///< in the same folder
  std::string sha256;
  std::int64_t tokens = 0;  ///< of a shard
};

struct ManifestPart {
  std::vector<ManifestFile> shards;
  std::int64_t tokens = 0, bytes = 0, documents = 0;  ///< delimiters are tokens of no bytes
};

struct Manifest {
  std::string tool;  ///< program and version that prepared it
  std::int64_t vocabulary = 0;
  std::int64_t delimiter = -1;
  std::int64_t tokenizer_bytes = 0;  ///< of training text that the tokenizer was trained on
  ManifestFile tokenizer;
  ManifestPart train, val;
  double unigram_entropy = 0;  ///< as in CorpusInfo
  double bytes_per_token = 0;  ///< of the validation part
  std::vector<TextSummary> sources;
};

inline constexpr const char* kManifestName = "manifest.json";

std::string to_json(const Manifest& manifest);

/// Throws DataError naming the key if the file is no manifest, of an unknown version, or says something impossible.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace equisweep
