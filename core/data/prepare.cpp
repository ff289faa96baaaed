#include "core/data/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/atomic_file.h"
#include "core/data/corpus.h"
#include "core/data/sha256.h"
#include "core/data/shard.h"
#include "core/data/tokenizer.h"
#include "core/error.h"

namespace equisweep {
namespace {

constexpr std::int64_t kTokensPerShard = 1 << 28;
constexpr std::int64_t kTokenizerBytes = 64 << 20;
constexpr const char* kTokenizerName = "tokenizer.model";

const char* part_name(Part part) { return part == Part::train ? "train" : "val"; }

}  // namespace

// The text of a part on disk: records of a 64-bit head (2 * length + ends_document) and the text.
struct CorpusWriter::Spool {
  Spool(const std::filesystem::path& folder, Part part)
      : path(folder / fmt::format("{}.text", part_name(part))), file(path) {}

  void add(std::string_view block, bool ends_document) {
    const std::uint64_t head = 2 * block.size() + (ends_document ? 1 : 0);
    for (int k = 0; k < 8; ++k) buffer.push_back(static_cast<char>(head >> (8 * k)));
    buffer += block;
    bytes += std::ssize(block);
    documents += ends_document ? 1 : 0;
    if (buffer.size() > (1 << 20)) flush();
  }

  void flush() {
    file.write(buffer);
    buffer.clear();
  }

  /// Calls visit(block, ends_document) for each block.
  template <typename Visit>
  void read(Visit visit) const {
    const InputFile in(path);
    const std::int64_t size = in.identity().size;
    std::string block;
    for (std::int64_t at = 0; at < size;) {
      std::uint64_t head;
      in.read_at(at, std::as_writable_bytes(std::span(&head, 1)));
      block.resize(head / 2);
      in.read_at(at + 8, std::as_writable_bytes(std::span(block)));
      at += 8 + std::ssize(block);
      visit(std::string_view(block), head % 2 == 1);
    }
  }

  std::filesystem::path path;
  OutputFile file;
  std::string buffer;
  std::int64_t bytes = 0, documents = 0;
};

CorpusWriter::CorpusWriter(std::filesystem::path out, std::int64_t vocabulary, PrepareProgress progress)
    : out_(std::move(out)), staging_(out_.string() + ".partial"), progress_(std::move(progress)) {
  if (std::filesystem::exists(out_)) {
    throw UsageError(fmt::format("{} exists; delete it first or choose another folder", out_.string()));
  }
  manifest_.tool = fmt::format("equisweep {}", EQUISWEEP_VERSION);
  manifest_.vocabulary = vocabulary;
  manifest_.delimiter = Tokenizer::kDelimiter;
  std::filesystem::remove_all(staging_);  // of a process that was killed
  std::filesystem::create_directories(staging_);
  for (const Part part : {Part::train, Part::val}) spools_[static_cast<int>(part)] = std::make_unique<Spool>(staging_, part);
}

CorpusWriter::~CorpusWriter() {
  std::error_code ignored;
  std::filesystem::remove_all(staging_, ignored);
}

void CorpusWriter::add(std::string_view block, bool ends_document, Part part) {
  if (open_document_ && part != last_part_) spools_[static_cast<int>(last_part_)]->add("", true);
  spools_[static_cast<int>(part)]->add(block, ends_document);
  last_part_ = part;
  open_document_ = !ends_document;
}

void CorpusWriter::tokenize(Part part, const Tokenizer& tokenizer, std::vector<std::int64_t>& counts) {
  const Spool& spool = *spools_[static_cast<int>(part)];
  ManifestPart& info = part == Part::train ? manifest_.train : manifest_.val;
  info.bytes = spool.bytes;
  info.documents = spool.documents;
  std::unique_ptr<ShardWriter> shard;
  const auto close = [&] {
    info.shards.back().tokens = shard->tokens();
    info.tokens += shard->tokens();
    shard->finish();
    info.shards.back().sha256 = sha256_of_file(staging_ / info.shards.back().name);
    shard.reset();
  };
  std::vector<std::int64_t> ids;
  std::int64_t done = 0, reported = 0;
  spool.read([&](std::string_view block, bool ends_document) {
    ids.clear();
    tokenizer.encode(block, ids);
    if (ends_document) ids.push_back(Tokenizer::kDelimiter);
    for (const std::int64_t id : ids) ++counts[static_cast<std::size_t>(id)];
    if (!shard) {
      info.shards.push_back({fmt::format("{}-{:05}.bin", part_name(part), info.shards.size()), "", 0});
      shard = std::make_unique<ShardWriter>(staging_ / info.shards.back().name, manifest_.vocabulary, Tokenizer::kDelimiter);
    }
    shard->write(ids);
    if (shard->tokens() >= kTokensPerShard) close();
    done += std::ssize(block);
    if (progress_ && done - reported >= (1 << 18)) progress_("tokenizing", reported = done, spool.bytes);
  });
  if (shard) close();
}

Manifest CorpusWriter::finish() {
  if (open_document_) spools_[static_cast<int>(last_part_)]->add("", true);
  for (const Part part : {Part::train, Part::val}) {
    Spool& spool = *spools_[static_cast<int>(part)];
    spool.flush();
    if (spool.bytes > 0) continue;
    throw UsageError(part == Part::train ? "there is no training text" : "there is no validation text");
  }

  const Spool& text = *spools_[static_cast<int>(Part::train)];
  if (progress_) progress_("training the tokenizer", 0, std::min(text.bytes, kTokenizerBytes));
  std::string sample;
  double seen = 0;
  const double keep = std::min(1.0, static_cast<double>(kTokenizerBytes) / static_cast<double>(text.bytes));
  text.read([&](std::string_view block, bool ends_document) {
    seen += static_cast<double>(block.size());
    if (static_cast<double>(sample.size()) >= seen * keep) return;  // evenly spread where there is more than enough
    sample += block;
    if (ends_document && !sample.ends_with('\n')) sample += '\n';
  });
  const Tokenizer tokenizer = Tokenizer::train(sample, manifest_.vocabulary);
  manifest_.tokenizer = {kTokenizerName, sha256(tokenizer.model()), 0};
  manifest_.tokenizer_bytes = std::ssize(sample);
  sample = {};
  write_file_atomically(staging_ / kTokenizerName, tokenizer.model());

  const auto vocabulary = static_cast<std::size_t>(manifest_.vocabulary);
  std::vector<std::int64_t> train_counts(vocabulary), val_counts(vocabulary);
  tokenize(Part::train, tokenizer, train_counts);
  tokenize(Part::val, tokenizer, val_counts);
  manifest_.unigram_entropy = unigram_entropy(train_counts, val_counts);
  manifest_.bytes_per_token = static_cast<double>(manifest_.val.bytes) / static_cast<double>(manifest_.val.tokens);

  for (auto& spool : spools_) {
    std::filesystem::remove(spool->path);
    spool.reset();
  }
  write_file_atomically(staging_ / kManifestName, to_json(manifest_));
  std::filesystem::rename(staging_, out_);
  sync_folder(out_.has_parent_path() ? out_.parent_path() : ".");
  return std::move(manifest_);
}

std::unique_ptr<FileLock> corpus_lock(const std::filesystem::path& out) {
  if (out.has_parent_path()) std::filesystem::create_directories(out.parent_path());
  return std::make_unique<FileLock>(out.string() + ".lock");
}

Manifest prepare_corpus(const PrepareOptions& options, const PrepareProgress& progress) {
  if (options.text.empty()) throw UsageError("no text files are given");
  if (std::ranges::count(options.text, "-") + std::ranges::count(options.val_text, "-") > 1) {
    throw UsageError("the standard input ('-') can be read only once");
  }
  if (options.vocabulary < 1 || options.vocabulary > kMaxPreparedVocabulary) {
    throw UsageError(
        fmt::format("a vocabulary of {} is not possible; allowed: 1 to {}", options.vocabulary, kMaxPreparedVocabulary));
  }
  if (options.val_text.empty() && !(options.val_fraction > 0 && options.val_fraction <= kMaxValFraction)) {
    throw UsageError(fmt::format("a validation fraction of {} is not possible; allowed: above 0, up to {}",
                                 options.val_fraction, kMaxValFraction));
  }
  // "DIR/" and "DIR" are one place, and what is built beside it must not be built in it.
  std::filesystem::path out = options.out.lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  if (out.empty() || out == ".") throw UsageError("no folder for the corpus is given");

  const auto lock = corpus_lock(out);
  CorpusWriter writer(out, options.vocabulary, progress);
  std::int64_t bytes = 0, reported = 0;
  const auto report = [&](std::string_view block) {
    bytes += std::ssize(block);
    if (progress && bytes - reported >= (1 << 18)) progress("reading", reported = bytes, 0);
  };

  // Held out: block k (from 0) where k + 1 is the first to reach another whole number of (k + 1) * fraction; the newest
  // block waits until it is known whether it is the last.
  struct Waiting {
    std::string block;
    bool ends_document;
  };
  std::optional<Waiting> waiting;
  std::int64_t blocks = 0, held_out = 0;
  const auto send = [&](bool last) {
    if (!waiting) return;
    ++blocks;
    const bool hold = std::floor(static_cast<double>(blocks) * options.val_fraction) > static_cast<double>(held_out) ||
                      (last && held_out == 0 && blocks > 1);
    held_out += hold ? 1 : 0;
    writer.add(waiting->block, waiting->ends_document, hold ? Part::val : Part::train);
  };
  for (const std::string& name : options.text) {
    writer.add_source(read_text(name, options.field, [&](std::string_view block, bool ends_document) {
      report(block);
      if (!options.val_text.empty()) return writer.add(block, ends_document, Part::train);
      send(false);
      waiting = {std::string(block), ends_document};
    }));
  }
  send(true);
  if (options.val_text.empty() && held_out == 0) {
    throw UsageError("the text is too short to hold out a part for validation; give more text or --val-text");
  }
  for (const std::string& name : options.val_text) {
    writer.add_source(read_text(name, options.field, [&](std::string_view block, bool ends_document) {
      report(block);
      writer.add(block, ends_document, Part::val);
    }));
  }
  return writer.finish();
}

}  // namespace equisweep
