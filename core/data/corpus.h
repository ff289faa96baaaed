#pragma once
// A corpus: training and validation tokens with what is known about them.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace equisweep {

/// A random-access sequence of token ids.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  virtual std::int64_t size() const = 0;
  /// Copies tokens [begin, begin + out.size()) into `out`. Asserts the range. Thread-safe.
  virtual void read(std::int64_t begin, std::span<std::int64_t> out) const = 0;
};

struct CorpusInfo {
  std::string name;  ///< as in the sweep file: kjv, synthetic, or the folder's name
  std::string path;  ///< folder; empty for synthetic
  std::int64_t vocabulary = 0;
  std::int64_t train_tokens = 0;
  std::int64_t val_tokens = 0;
  double unigram_entropy = 0;          ///< nats per token, of the validation tokens under the training frequencies (add-one)
  std::optional<double> entropy_rate;  ///< nats per token, exact; synthetic only: the floor of any model
  std::optional<double> bytes_per_token;  ///< of the validation text, where the tokenizer is ours
  std::string digest;                     ///< sha256 of the manifest, or of the synthetic source's parameters
};

struct Corpus {
  CorpusInfo info;
  std::shared_ptr<const TokenSource> train;
  std::shared_ptr<const TokenSource> val;
};

/// Opens `name` for a model of `vocabulary`:
///   synthetic  the seeded Zipf-Markov source (core/data/synthetic.h)
///   kjv        the King James Bible from Debian's `bible` program, tokenized to `vocabulary` pieces; prepared on first use
///   in
///              `cache`/kjv-<vocabulary> (whole or not at all; safe when several processes try at once)
///   a folder   with the manifest that `equisweep data prepare` wrote, or with .bin shards named *train* and *val*
/// Every shard is checked before anything is returned: magic, version, size, and each token id < vocabulary (cached by path,
/// size and mtime). Throws DataError naming file, offset, what was found and expected; UsageError for an unknown name.
Corpus open_corpus(const std::string& name, std::int64_t vocabulary, std::uint64_t seed, const std::filesystem::path& cache);

/// -1/n sum_v val[v] ln((train[v] + 1) / (sum train + V)), n = sum val: nats per token of the validation tokens under the
/// training frequencies. The loss of a model that has learnt nothing but how frequent each token is.
double unigram_entropy(std::span<const std::int64_t> train_counts, std::span<const std::int64_t> val_counts);

/// For runs.corpus in the database: an object with the names of the fields above; what is not known is left out.
std::string to_json(const CorpusInfo& info);
/// Throws Error if the text is not what to_json() writes.
CorpusInfo corpus_info_from_json(std::string_view text);

}  // namespace equisweep
