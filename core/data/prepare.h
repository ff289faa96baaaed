#pragma once
// From text to a corpus: a folder with train-*.bin and val-*.bin (core/data/shard.h), tokenizer.model
// (core/data/tokenizer.h) and manifest.json (core/data/manifest.h).
//
// The folder appears whole or not at all: it is built beside its place, as OUT.partial, and renamed. The same text and
// options give the same bytes.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/file_io.h"
#include "core/data/manifest.h"

namespace equisweep {

/// Called now and then: what is being done ("reading", "training the tokenizer", "tokenizing") and how many bytes of text
/// are done of `total` (0: not known).
using PrepareProgress = std::function<void(std::string_view what, std::int64_t bytes, std::int64_t total)>;

enum class Part { train, val };

/// Takes the text of a corpus block by block, then trains the tokenizer on the training part and writes the folder. Text is
/// kept on disk meanwhile, so memory does not grow with it (the tokenizer sees an evenly spread 64 MiB at most).
class CorpusWriter {
 public:
  /// Throws UsageError if `out` exists. The caller holds the lock of corpus_lock(out), so that nobody else builds it.
  CorpusWriter(std::filesystem::path out, std::int64_t vocabulary, PrepareProgress progress = {});
  ~CorpusWriter();  ///< removes what is unfinished
  CorpusWriter(const CorpusWriter&) = delete;
  CorpusWriter& operator=(const CorpusWriter&) = delete;

  /// Appends valid UTF-8. A delimiter follows a document; a change of part ends the document too.
  void add(std::string_view block, bool ends_document, Part part);
  void add_source(TextSummary source) { manifest_.sources.push_back(std::move(source)); }

  /// Trains, tokenizes, writes, renames. Throws UsageError if a part is empty or the tokenizer cannot be trained.
  Manifest finish();

 private:
  struct Spool;
  void tokenize(Part part, const class Tokenizer& tokenizer, std::vector<std::int64_t>& counts);

  std::filesystem::path out_, staging_;
  PrepareProgress progress_;
  Manifest manifest_;
  std::unique_ptr<Spool> spools_[2];
  Part last_part_ = Part::train;
  bool open_document_ = false;
};

/// Held while a corpus is built at `out`.
std::unique_ptr<FileLock> corpus_lock(const std::filesystem::path& out);

/// What prepare_corpus() takes at most: pieces of a tokenizer, and the share of the text that is held out.
inline constexpr std::int64_t kMaxPreparedVocabulary = std::int64_t{1} << 20;
inline constexpr double kMaxValFraction = 0.5;

struct PrepareOptions {
  std::vector<std::string> text;      ///< files; "-" is the standard input (core/data/text_source.h says what is read how)
  std::vector<std::string> val_text;  ///< validation text of its own; if none, it is held out of `text`
  std::optional<std::string> field;   ///< of JSON lines
  std::int64_t vocabulary = 0;
  std::filesystem::path out;
  double val_fraction = 0.05;  ///< of the blocks (documents of JSON lines), evenly spread; the last one at least
};

/// Prepares text files. Throws UsageError for impossible options, DataError for bad text.
Manifest prepare_corpus(const PrepareOptions& options, const PrepareProgress& progress = {});

}  // namespace equisweep
