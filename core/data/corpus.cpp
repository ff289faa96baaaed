#include "core/data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/atomic_file.h"
#include "core/data/kjv.h"
#include "core/data/manifest.h"
#include "core/data/sha256.h"
#include "core/data/shard.h"
#include "core/data/synthetic.h"
#include "core/document.h"
#include "core/error.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// Several shards, one after the other.
class ShardSequence final : public TokenSource {
 public:
  explicit ShardSequence(std::vector<std::shared_ptr<const Shard>> shards) : shards_(std::move(shards)) {
    for (const auto& shard : shards_) ends_.push_back((ends_.empty() ? 0 : ends_.back()) + shard->size());
  }

  std::int64_t size() const override { return ends_.back(); }

  void read(std::int64_t begin, std::span<std::int64_t> out) const override {
    auto i = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin());
    for (; !out.empty(); ++i) {
      const std::int64_t first = ends_[i] - shards_[i]->size();
      const auto part = out.first(static_cast<std::size_t>(std::min<std::int64_t>(std::ssize(out), ends_[i] - begin)));
      shards_[i]->read(begin - first, part);
      out = out.subspan(part.size());
      begin += std::ssize(part);
    }
  }

  const std::vector<std::shared_ptr<const Shard>>& shards() const { return shards_; }

 private:
  std::vector<std::shared_ptr<const Shard>> shards_;
  std::vector<std::int64_t> ends_;
};

struct ShardFiles {
  std::vector<ManifestFile> train, val;  // sha256 and tokens empty where there is no manifest
};

ShardFiles list_shards(const fs::path& folder) {
  ShardFiles files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".bin")) continue;
    const bool train = name.find("train") != std::string::npos, val = name.find("val") != std::string::npos;
    if (train && val) throw DataError(entry.path().string(), "has both 'train' and 'val' in its name; which is it?");
    if (train) files.train.push_back({name, "", 0});
    if (val) files.val.push_back({name, "", 0});
  }
  if (files.train.empty() || files.val.empty()) {
    throw DataError(folder.string(),
                    fmt::format("has no {} and no shards *{}*.bin; make a corpus with 'equisweep data prepare'",
                                kManifestName, files.train.empty() ? "train" : "val"));
  }
  for (auto* list : {&files.train, &files.val}) std::ranges::sort(*list, {}, &ManifestFile::name);
  return files;
}

std::shared_ptr<ShardSequence> open_shards(const fs::path& folder, const std::vector<ManifestFile>& files,
                                           std::int64_t vocabulary) {
  std::vector<std::shared_ptr<const Shard>> shards;
  for (const ManifestFile& file : files) {
    shards.push_back(std::make_shared<const Shard>(folder / file.name, vocabulary));
    if (file.tokens != 0 && shards.back()->size() != file.tokens) {
      throw DataError((folder / file.name).string(),
                      fmt::format("has {} tokens; the manifest says {}", shards.back()->size(), file.tokens));
    }
  }
  return std::make_shared<ShardSequence>(std::move(shards));
}

/// What reading every token once tells.
struct Findings {
  double unigram_entropy = 0;
  std::string digest;  // of all shards' names and contents
};

std::vector<std::int64_t> count_tokens(const ShardSequence& shards, const std::vector<ManifestFile>& files,
                                       std::int64_t vocabulary, Sha256& digest) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(vocabulary));
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Shard& shard = *shards.shards()[i];
    shard.scan([&](std::span<const std::int64_t> tokens) {
      for (const std::int64_t token : tokens) ++counts[static_cast<std::size_t>(token)];
    });
    const std::string found = sha256_of_file(shard.file().path());
    if (!files[i].sha256.empty() && found != files[i].sha256) {
      throw DataError(shard.file().path(), fmt::format("has sha256 {}; the manifest says {}: it is damaged or was changed",
                                                       found, printable(files[i].sha256, 64)));
    }
    digest.add(fmt::format("{} {}\n", files[i].name, found));
  }
  return counts;
}

nlohmann::json identity_json(const ShardSequence& shards) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& shard : shards.shards()) {
    const FileIdentity id = shard->file().identity();
    list.push_back({shard->file().path(), id.device, id.inode, id.size, id.mtime_ns, id.ctime_ns});
  }
  return list;
}

// A file written to within the tick of the clock that it is read in can change again and keep its times.
bool settled(const ShardSequence& shards) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t limit = std::chrono::duration_cast<std::chrono::nanoseconds>(now - std::chrono::seconds(2)).count();
  return std::ranges::all_of(shards.shards(), [&](const auto& shard) {
    const FileIdentity id = shard->file().identity();
    return id.mtime_ns < limit && id.ctime_ns < limit;
  });
}

/// Reads every token, or the note in `cache` that this was done with these very files: their paths, inodes, sizes and times,
/// the vocabulary and what the manifest says of them. A note that cannot be read is none.
Findings examine(const ShardSequence& train, const ShardSequence& val, const ShardFiles& files, std::int64_t vocabulary,
                 const fs::path& cache) {
  nlohmann::json key = {
      {"version", 1}, {"vocabulary", vocabulary}, {"train", identity_json(train)}, {"val", identity_json(val)}};
  for (const auto* list : {&files.train, &files.val}) {
    for (const ManifestFile& file : *list) key["sha256"].push_back(file.sha256);
  }
  const std::string key_text = key.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const fs::path note = cache / "checked" / (sha256(key_text).substr(0, 32) + ".json");
  try {
    if (fs::exists(note)) {
      const nlohmann::json known = object_of(read_text_file(note, 1 << 24));
      if (known.at("key") == key_text)
        return {known.at("unigram_entropy").get<double>(), known.at("digest").get<std::string>()};
    }
  } catch (const std::exception&) {  // examined again below
  }

  const bool note_it = settled(train) && settled(val);
  Sha256 digest;
  const auto train_counts = count_tokens(train, files.train, vocabulary, digest);
  const auto val_counts = count_tokens(val, files.val, vocabulary, digest);
  Findings findings{unigram_entropy(train_counts, val_counts), digest.hex()};
  if (note_it && identity_json(train) == key["train"] && identity_json(val) == key["val"]) {
    fs::create_directories(note.parent_path());
    const nlohmann::json known = {
        {"key", key_text}, {"unigram_entropy", findings.unigram_entropy}, {"digest", findings.digest}};
    write_file_atomically(note, known.dump());
  }
  return findings;
}

Corpus open_folder(const std::string& name, const fs::path& folder, std::int64_t vocabulary, const fs::path& cache) {
  Corpus corpus;
  corpus.info.name = name;
  corpus.info.path = folder.string();
  corpus.info.vocabulary = vocabulary;
  ShardFiles files;
  const bool prepared = fs::exists(folder / kManifestName);
  if (prepared) {
    const Manifest manifest = read_manifest(folder);
    if (manifest.vocabulary > vocabulary) {
      throw DataError(
          (folder / kManifestName).string(),
          fmt::format(
              "the corpus has a vocabulary of {}, the model one of {}; set the model's to {} or prepare the corpus anew",
              manifest.vocabulary, vocabulary, manifest.vocabulary));
    }
    files = {manifest.train.shards, manifest.val.shards};
    corpus.info.vocabulary = manifest.vocabulary;
    corpus.info.bytes_per_token = manifest.bytes_per_token;
  } else {
    files = list_shards(folder);
  }
  const auto train = open_shards(folder, files.train, corpus.info.vocabulary);
  const auto val = open_shards(folder, files.val, corpus.info.vocabulary);
  const Findings findings = examine(*train, *val, files, corpus.info.vocabulary, cache);
  corpus.info.train_tokens = train->size();
  corpus.info.val_tokens = val->size();
  corpus.info.unigram_entropy = findings.unigram_entropy;
  corpus.info.digest = prepared ? sha256_of_file(folder / kManifestName) : findings.digest;
  corpus.train = train;
  corpus.val = val;
  return corpus;
}

}  // namespace

double unigram_entropy(std::span<const std::int64_t> train_counts, std::span<const std::int64_t> val_counts) {
  double train_total = static_cast<double>(train_counts.size()), val_total = 0, sum = 0;
  for (const std::int64_t count : train_counts) train_total += static_cast<double>(count);
  for (std::size_t v = 0; v < val_counts.size(); ++v) {
    val_total += static_cast<double>(val_counts[v]);
    sum -= static_cast<double>(val_counts[v]) * std::log((static_cast<double>(train_counts[v]) + 1) / train_total);
  }
  return sum / val_total;
}

Corpus open_corpus(const std::string& name, std::int64_t vocabulary, std::uint64_t seed, const fs::path& cache) {
  if (vocabulary < 1) throw UsageError(fmt::format("a vocabulary of {} is not possible", vocabulary));
  if (name == "synthetic") return synthetic_corpus(vocabulary, seed);
  if (name == "kjv") {
    const fs::path folder = cache / fmt::format("kjv-{}", vocabulary);
    prepare_kjv(folder, vocabulary);
    return open_folder(name, folder, vocabulary, cache);
  }
  if (fs::is_directory(name)) {
    const fs::path folder = fs::path(name).lexically_normal();
    return open_folder((folder.has_filename() ? folder : folder.parent_path()).filename().string(), folder, vocabulary,
                       cache);
  }
  const std::vector<std::string> names{"kjv", "synthetic"};
  const std::string nearest = nearest_name(name, names);
  throw UsageError(
      fmt::format("unknown corpus '{}'; allowed: kjv, synthetic, or a folder that 'equisweep data prepare' made{}",
                  printable(name), nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

std::string to_json(const CorpusInfo& info) {
  nlohmann::json object = {{"name", info.name},
                           {"path", info.path},
                           {"vocabulary", info.vocabulary},
                           {"train_tokens", info.train_tokens},
                           {"val_tokens", info.val_tokens},
                           {"unigram_entropy", info.unigram_entropy},
                           {"digest", info.digest}};
  if (info.entropy_rate) object["entropy_rate"] = *info.entropy_rate;
  if (info.bytes_per_token) object["bytes_per_token"] = *info.bytes_per_token;
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

CorpusInfo corpus_info_from_json(std::string_view text) {
  try {
    const nlohmann::json object = object_of(text);
    CorpusInfo info;
    info.name = object.at("name").get<std::string>();
    info.path = object.at("path").get<std::string>();
    info.vocabulary = object.at("vocabulary").get<std::int64_t>();
    info.train_tokens = object.at("train_tokens").get<std::int64_t>();
    info.val_tokens = object.at("val_tokens").get<std::int64_t>();
    info.unigram_entropy = object.at("unigram_entropy").get<double>();
    info.digest = object.at("digest").get<std::string>();
    if (object.contains("entropy_rate")) info.entropy_rate = object["entropy_rate"].get<double>();
    if (object.contains("bytes_per_token")) info.bytes_per_token = object["bytes_per_token"].get<double>();
    return info;
  } catch (const nlohmann::json::exception& e) {
    throw Error(fmt::format("not the description of a corpus: {}", printable(e.what())));
  }
}

}  // namespace equisweep
