#include "core/data/manifest.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/data/file_io.h"
#include "core/error.h"

namespace equisweep {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kFormat = "equisweep corpus";
constexpr std::int64_t kVersion = 1;
constexpr std::int64_t kLongestManifest = 64 << 20;

OrderedJson part_json(const ManifestPart& part) {
  OrderedJson shards = OrderedJson::array();
  for (const ManifestFile& file : part.shards)
    shards.push_back({{"file", file.name}, {"tokens", file.tokens}, {"sha256", file.sha256}});
  return {{"tokens", part.tokens}, {"bytes", part.bytes}, {"documents", part.documents}, {"shards", shards}};
}

// Reads keys of a JSON object and says which one is wrong.
class Reader {
 public:
  Reader(std::string file, const OrderedJson& object, std::string place = "")
      : file_(std::move(file)), json_(object), place_(std::move(place)) {
    if (!object.is_object()) fail("is not an object");
  }

  Reader object(const char* key) const { return {file_, get(key), place_ + key + "."}; }

  const OrderedJson& array(const char* key) const {
    const OrderedJson& value = get(key);
    if (!value.is_array()) fail(fmt::format("'{}' is not a list", key));
    return value;
  }

  std::int64_t count(const char* key, std::int64_t least = 0) const {
    const OrderedJson& value = get(key);
    if (!value.is_number_integer() || value.get<std::int64_t>() < least ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
      fail(fmt::format("'{}' is not a whole number >= {}", key, least));
    }
    return value.get<std::int64_t>();
  }

  double real(const char* key) const {
    const OrderedJson& value = get(key);
    if (!value.is_number() || !std::isfinite(value.get<double>())) fail(fmt::format("'{}' is not a number", key));
    return value.get<double>();
  }

  std::string text(const char* key) const {
    const OrderedJson& value = get(key);
    if (!value.is_string()) fail(fmt::format("'{}' is not a string", key));
    return value.get<std::string>();
  }

  // A name of this folder: a manifest from elsewhere must not make us read other files.
  std::string file_name(const char* key) const {
    std::string name = text(key);
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      fail(fmt::format("'{}' is '{}'; the name of a file in the same folder is expected", key, printable(name)));
    }
    return name;
  }

  [[noreturn]] void fail(const std::string& message) const {
    throw DataError(file_,
                    place_.empty() ? message : fmt::format("in {}: {}", place_.substr(0, place_.size() - 1), message));
  }

  const std::string& file() const { return file_; }

 private:
  const OrderedJson& get(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(fmt::format("has no '{}'", key));
    return *found;
  }

  std::string file_;
  const OrderedJson& json_;
  std::string place_;
};

ManifestPart read_part(const Reader& reader) {
  ManifestPart part;
  part.tokens = reader.count("tokens", 1);
  part.bytes = reader.count("bytes");
  part.documents = reader.count("documents");
  std::int64_t sum = 0;
  for (const OrderedJson& entry : reader.array("shards")) {
    const Reader shard(reader.file(), entry, "shards.");
    part.shards.push_back({shard.file_name("file"), shard.text("sha256"), shard.count("tokens", 1)});
    if (__builtin_add_overflow(sum, part.shards.back().tokens, &sum)) reader.fail("the shards have more than 2^63 tokens");
  }
  if (sum != part.tokens) reader.fail(fmt::format("'tokens' is {}, but the shards have {}", part.tokens, sum));
  return part;
}

}  // namespace

std::string to_json(const Manifest& m) {
  OrderedJson sources = OrderedJson::array();
  for (const TextSummary& source : m.sources)
    sources.push_back({{"name", source.name}, {"bytes", source.bytes}, {"sha256", source.sha256}});
  const OrderedJson object = {
      {"format", kFormat},
      {"version", kVersion},
      {"tool", m.tool},
      {"vocabulary", m.vocabulary},
      {"delimiter", m.delimiter},
      {"unigram_entropy", m.unigram_entropy},
      {"bytes_per_token", m.bytes_per_token},
      {"tokenizer", {{"file", m.tokenizer.name}, {"sha256", m.tokenizer.sha256}, {"trained_on_bytes", m.tokenizer_bytes}}},
      {"train", part_json(m.train)},
      {"val", part_json(m.val)},
      {"sources", sources}};
  // Names of sources are whatever the file system has, which need not be UTF-8.
  return object.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::string file = (folder / kManifestName).string();
  OrderedJson object;
  try {
    object = OrderedJson::parse(read_text_file(file, kLongestManifest));
  } catch (const nlohmann::json::exception& e) {
    throw DataError(file, fmt::format("is not JSON: {}", printable(e.what())));
  }
  const Reader reader(file, object);
  if (const std::string format = reader.text("format"); format != kFormat) {
    reader.fail(fmt::format("'format' is '{}'; '{}' is expected", printable(format), kFormat));
  }
  if (const std::int64_t version = reader.count("version"); version != kVersion) {
    reader.fail(fmt::format("version {} is unknown to this program, which reads version {}; prepare the corpus again",
                            version, kVersion));
  }
  Manifest m;
  m.tool = reader.text("tool");
  m.vocabulary = reader.count("vocabulary", 1);
  m.delimiter = reader.count("delimiter", -1);
  m.unigram_entropy = reader.real("unigram_entropy");
  m.bytes_per_token = reader.real("bytes_per_token");
  const Reader tokenizer = reader.object("tokenizer");
  m.tokenizer = {tokenizer.file_name("file"), tokenizer.text("sha256"), 0};
  m.tokenizer_bytes = tokenizer.count("trained_on_bytes");
  m.train = read_part(reader.object("train"));
  m.val = read_part(reader.object("val"));
  for (const OrderedJson& entry : reader.array("sources")) {
    const Reader source(file, entry, "sources.");
    m.sources.push_back({source.text("name"), source.count("bytes"), source.text("sha256")});
  }
  return m;
}

}  // namespace equisweep
