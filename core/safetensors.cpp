#include "core/safetensors.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"

namespace equisweep {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the data of a safetensors file is copied as it is");

constexpr std::uint64_t kLargestHeader = 100'000'000;  // that of the format's own library
constexpr std::size_t kMostAxes = 64;
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kChecksum = "checksum";

struct Dtype {
  std::string_view name;
  at::ScalarType type;
  std::int64_t width;  // bytes
};

constexpr std::array<Dtype, 15> kDtypes = {{
    {"F64", at::kDouble, 8},
    {"F32", at::kFloat, 4},
    {"F16", at::kHalf, 2},
    {"BF16", at::kBFloat16, 2},
    {"I64", at::kLong, 8},
    {"I32", at::kInt, 4},
    {"I16", at::kShort, 2},
    {"I8", at::kChar, 1},
    {"U64", at::kUInt64, 8},
    {"U32", at::kUInt32, 4},
    {"U16", at::kUInt16, 2},
    {"U8", at::kByte, 1},
    {"BOOL", at::kBool, 1},
    {"F8_E4M3", at::kFloat8_e4m3fn, 1},
    {"F8_E5M2", at::kFloat8_e5m2, 1},
}};

const Dtype& dtype_row(at::ScalarType type) {
  for (const auto& row : kDtypes) {
    if (row.type == type) return row;
  }
  TORCH_CHECK(false, "safetensors has no dtype for ", type);
}

const Dtype* find_dtype(std::string_view name) {
  for (const auto& row : kDtypes) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::string in_quotes(std::string_view text) { return fmt::format("'{}'", printable(text)); }

struct HeaderError {
  std::string message;
};

// Refuses what a JSON library lets pass: a key that is there twice (the last one would win) and nesting without end.
json parse_header(const std::string& text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 4) throw HeaderError{"the header is nested more deeply than a safetensors header is"};
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw HeaderError{fmt::format("the header has the key {} twice", in_quotes(parsed.get<std::string>()))};
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& error) {
    throw HeaderError{fmt::format("the header is not JSON: error at byte {}", 7 + error.byte)};
  } catch (const json::out_of_range&) {
    throw HeaderError{"the header holds a number that is too large to be read"};
  }
}

// Product of all sizes with empty axes counted as 1, since strides are as large as that; nullopt if it exceeds 63 bits.
std::optional<std::int64_t> bounded_product(const std::vector<std::int64_t>& shape, std::int64_t product) {
  for (const auto size : shape) {
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(size, 1), &product)) return std::nullopt;
  }
  return product;
}

/// XXH3-128 of bytes that come in pieces.
class RunningHash {
 public:
  RunningHash() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
  void add(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  XXH128_canonical_t digest() const {
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(state_.get()));
    return bytes;
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail("cannot be opened: " + std::generic_category().message(errno));
  try {
    read_header();
  } catch (const HeaderError& error) {
    ::close(descriptor_);
    fail(error.message);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_begin_(other.data_begin_),
      entries_(std::move(other.entries_)),
      index_(std::move(other.index_)),
      metadata_(std::move(other.metadata_)) {}

void SafetensorsFile::read_header() {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail("cannot be read: " + std::generic_category().message(errno));
  if (!S_ISREG(status.st_mode)) fail("is not a regular file");
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
  std::uint64_t header_bytes = 0;
  if (file_bytes < sizeof(header_bytes)) {
    fail(fmt::format("is {} bytes long; a safetensors file begins with the 8 bytes of its header's length", file_bytes));
  }
  read_bytes(&header_bytes, 0, sizeof(header_bytes), "the length of the header");
  if (header_bytes > file_bytes - sizeof(header_bytes)) {
    fail(fmt::format("byte 0: claims a header of {} bytes, but {} bytes follow", header_bytes,
                     file_bytes - sizeof(header_bytes)));
  }
  if (header_bytes > kLargestHeader) {
    fail(fmt::format("byte 0: claims a header of {} bytes; at most {} are allowed", header_bytes, kLargestHeader));
  }
  std::string text(header_bytes, '\0');
  read_bytes(text.data(), sizeof(header_bytes), header_bytes, "the header");
  if (text.empty() || text[0] != '{') fail("byte 8: the header must begin with '{'");
  data_begin_ = sizeof(header_bytes) + header_bytes;

  const json header = parse_header(text);
  for (const auto& [name, value] : header.items()) {
    if (name != kMetadata) {
      entries_.push_back(parse_entry(name, value));
      continue;
    }
    if (!value.is_object()) fail("__metadata__ is not a map of texts");
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_string()) fail(fmt::format("__metadata__: the value of {} is not a text", in_quotes(key)));
      metadata_.emplace(key, entry.get<std::string>());
    }
  }
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  for (std::size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].name, i);
  check_cover(file_bytes - data_begin_);
}

SafetensorsFile::Entry SafetensorsFile::parse_entry(const std::string& name, const json& value) const {
  const auto wrong = [&](const std::string& message) { fail(fmt::format("tensor {}: {}", in_quotes(name), message)); };
  if (!value.is_object()) wrong("the header's entry is not a map");
  for (const auto& [key, unused] : value.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      wrong(fmt::format("unknown key {}; allowed: dtype, shape, data_offsets", in_quotes(key)));
    }
  }
  for (const auto* key : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(key)) wrong(fmt::format("key '{}' is missing", key));
  }
  const json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];

  const Dtype* const row = dtype.is_string() ? find_dtype(dtype.get_ref<const std::string&>()) : nullptr;
  if (row == nullptr) {
    std::vector<std::string> names;
    for (const auto& known : kDtypes) names.emplace_back(known.name);
    wrong(fmt::format("unknown dtype {}; allowed: {}",
                      dtype.is_string() ? in_quotes(dtype.get_ref<const std::string&>()) : "that is not a text",
                      join(names)));
  }
  Entry entry{name, row->type, {}};

  if (!shape.is_array()) wrong("shape is not a list");
  if (shape.size() > kMostAxes) wrong(fmt::format("shape has {} axes; at most {} are allowed", shape.size(), kMostAxes));
  for (const auto& size : shape) {
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > kMost) {
      wrong("shape has an entry that is not a whole number from 0 to 2^63 - 1");
    }
    entry.shape.push_back(size.get<std::int64_t>());
  }
  const auto most_bytes = bounded_product(entry.shape, row->width);
  if (!most_bytes) wrong("shape has more than 2^63 - 1 bytes");
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  const auto bytes = empty ? 0 : static_cast<std::uint64_t>(*most_bytes);

  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned()) {
    wrong("data_offsets is not a list of two whole numbers");
  }
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  if (entry.begin > entry.end) wrong(fmt::format("data_offsets [{}, {}] end before they begin", entry.begin, entry.end));
  if (entry.end - entry.begin != bytes) {
    wrong(fmt::format("data_offsets [{}, {}] span {} bytes, but {} of shape [{}] needs {}", entry.begin, entry.end,
                      entry.end - entry.begin, row->name, fmt::join(entry.shape, ", "), bytes));
  }
  return entry;
}

void SafetensorsFile::check_cover(std::uint64_t data_bytes) const {
  std::uint64_t covered = 0;
  std::string last = "the header";
  for (const auto& entry : entries_) {
    const auto name = fmt::format("tensor {}", in_quotes(entry.name));
    if (entry.end > data_bytes) {
      fail(fmt::format("{}: data_offsets [{}, {}] reach beyond the {} bytes of data; the file is cut short or damaged", name,
                       entry.begin, entry.end, data_bytes));
    }
    if (entry.begin < covered) {
      fail(fmt::format("{}: data_offsets [{}, {}] overlap with {}, which ends at {}", name, entry.begin, entry.end, last,
                       covered));
    }
    if (entry.begin > covered) {
      fail(fmt::format("bytes {} to {} of the data, between {} and {}, belong to no tensor", covered, entry.begin, last,
                       name));
    }
    covered = entry.end;
    last = name;
  }
  if (covered != data_bytes) {
    fail(fmt::format("byte {}: {} bytes follow after the last tensor", data_begin_ + covered, data_bytes - covered));
  }
}

void SafetensorsFile::read_bytes(void* to, std::uint64_t offset, std::uint64_t count, std::string_view what) const {
  auto* bytes = static_cast<char*>(to);
  while (count > 0) {
    const auto got = ::pread(descriptor_, bytes, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(fmt::format("byte {}: cannot read {}: {}", offset, what, std::generic_category().message(errno)));
    if (got == 0) fail(fmt::format("byte {}: the file ends inside {}", offset, what));
    bytes += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::uint64_t>(got);
  }
}

void SafetensorsFile::verify_checksum() const {
  XXH128_canonical_t expected;
  const Entry* const last = entries_.empty() ? nullptr : &entries_.back();
  if (last == nullptr || last->name != kChecksum || last->end - last->begin != sizeof(expected.digest))
    fail("does not end in a checksum");
  const std::uint64_t end = data_begin_ + last->begin;
  read_bytes(expected.digest, end, sizeof(expected.digest), "the checksum");
  RunningHash hash;
  std::string piece(std::size_t{1} << 20, '\0');
  for (std::uint64_t at = 0; at < end; at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(piece.size(), end - at));
    read_bytes(piece.data(), at, piece.size(), "the content");
    hash.add(piece);
  }
  const auto found = hash.digest();
  if (!std::equal(std::begin(found.digest), std::end(found.digest), std::begin(expected.digest)))
    fail("is damaged: its content is not that of its checksum");
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& entry : entries_) names.push_back(entry.name);
  return names;
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

const SafetensorsFile::Entry& SafetensorsFile::entry(std::string_view name) const {
  const Entry* const found = find(name);
  if (found != nullptr) return *found;
  const auto nearest = nearest_name(name, names());
  fail(fmt::format("has no tensor {} among its {}{}", in_quotes(name), entries_.size(),
                   nearest.empty() ? "" : fmt::format("; did you mean {}?", in_quotes(nearest))));
}

at::Tensor SafetensorsFile::tensor(std::string_view name) const {
  const Entry& wanted = entry(name);
  auto result = at::empty(wanted.shape, wanted.dtype);
  const auto what = fmt::format("tensor {}", in_quotes(name));
  read_bytes(result.data_ptr(), data_begin_ + wanted.begin, wanted.end - wanted.begin, what);
  if (wanted.dtype == at::kBool) {
    const auto* const bytes = static_cast<const unsigned char*>(result.const_data_ptr());
    const auto* const wrong = std::find_if(bytes, bytes + result.numel(), [](unsigned char byte) { return byte > 1; });
    if (wrong != bytes + result.numel()) {
      const auto offset = data_begin_ + wanted.begin + static_cast<std::uint64_t>(wrong - bytes);
      fail(fmt::format("{}: byte {}: {} is neither 0 nor 1", what, offset, *wrong));
    }
  }
  return result;
}

void SafetensorsFile::fail(const std::string& message) const { throw DataError(printable(path_.string()), message); }

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata, const SafetensorsOptions& options) {
  std::vector<const NamedTensor*> order;
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return dtype_row(a->second.scalar_type()).width > dtype_row(b->second.scalar_type()).width;
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::uint64_t offset = 0;
  std::set<std::string_view> names = {kMetadata};
  for (const auto* named : order) {
    const auto& [name, tensor] = *named;
    TORCH_CHECK(names.insert(name).second, "two tensors called '", name, "', or a reserved name");
    const auto begin = offset;
    offset += static_cast<std::uint64_t>(tensor.nbytes());
    header[name] = {
        {"dtype", dtype_row(tensor.scalar_type()).name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {begin, offset}}};
  }
  XXH128_canonical_t digest;
  if (options.checksum) {
    TORCH_CHECK(names.insert(kChecksum).second, "the name '", kChecksum, "' is taken");
    header[std::string(kChecksum)] = {
        {"dtype", "U8"}, {"shape", {sizeof(digest.digest)}}, {"data_offsets", {offset, offset + sizeof(digest.digest)}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (int shift = 0; shift < 64; shift += 8) length += static_cast<char>(text.size() >> shift & 0xff);

  AtomicFile file(path, options.fault_points);
  RunningHash hash;
  const auto put = [&](std::string_view bytes) {
    if (options.checksum) hash.add(bytes);
    file.write(bytes);
  };
  put(length);
  put(text);
  for (const auto* named : order) {
    const auto data = named->second.detach().to(at::kCPU).contiguous();
    put({static_cast<const char*>(data.const_data_ptr()), data.nbytes()});
  }
  if (options.checksum) {
    digest = hash.digest();
    file.write({reinterpret_cast<const char*>(digest.digest), sizeof(digest.digest)});
  }
  file.commit();
}

}  // namespace equisweep
