#include "core/data/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"

namespace equisweep {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and copied as they are");

constexpr std::int32_t kPublishedMagic = 20260317, kPublishedVersion = 2;
constexpr std::int32_t kLlmcMagic = 20240520, kLlmcVersion = 1;
constexpr std::int64_t kHeaderBytes = 1024;
constexpr std::int64_t kBlock = 1 << 16;  // tokens
using RawHeader = std::array<std::int32_t, 256>;
static_assert(sizeof(RawHeader) == kHeaderBytes);

ShardHeader read_header(const InputFile& file) {
  const std::int64_t size = file.identity().size;
  const auto fail = [&](const std::string& message) { throw DataError(file.path(), message); };
  if (size < kHeaderBytes) fail(fmt::format("has {} bytes; a token shard has a header of {}", size, kHeaderBytes));
  RawHeader raw;
  file.read_at(0, std::as_writable_bytes(std::span(raw)));

  ShardHeader h;
  h.magic = raw[0];
  h.version = raw[1];
  h.tokens = raw[2];
  if (h.magic == kPublishedMagic) {
    if (h.version != kPublishedVersion) {
      fail(fmt::format("version {} at byte 4; with magic {} only version {} is known", h.version, h.magic,
                       kPublishedVersion));
    }
    if (raw[3] != 2 && raw[3] != 4) fail(fmt::format("{} bytes per token at byte 12; 2 or 4 expected", raw[3]));
    h.width = raw[3];
    h.delimiter = raw[4];
    h.n_prepend = raw[5];
    h.n_append = raw[6];
  } else if (h.magic == kLlmcMagic) {
    if (h.version != kLlmcVersion) {
      fail(fmt::format("version {} at byte 4; with magic {} only version {} is known", h.version, h.magic, kLlmcVersion));
    }
    h.width = 2;
  } else {
    fail(fmt::format("is not a token shard: magic {} at byte 0; {} or {} expected", h.magic, kPublishedMagic, kLlmcMagic));
  }
  if (h.tokens < 0) fail(fmt::format("token count {} at byte 8 is negative", h.tokens));
  const std::int64_t expected = kHeaderBytes + h.tokens * h.width;  // below 2^34
  if (size != expected) {
    fail(fmt::format(
        "has {} bytes; its header says {} tokens of {} bytes, which makes {} bytes ({})", size, h.tokens, h.width, expected,
        size < expected ? fmt::format("{} are missing", expected - size) : fmt::format("{} too many", size - expected)));
  }
  if (h.tokens == 0) fail("has no tokens");
  return h;
}

template <typename Stored>
void widen(std::span<const std::byte> raw, std::span<std::int64_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored token;
    std::memcpy(&token, raw.data() + i * sizeof token, sizeof token);
    out[i] = token;
  }
}

}  // namespace

Shard::Shard(const std::filesystem::path& path, std::int64_t vocabulary)
    : file_(path), header_(read_header(file_)), vocabulary_(vocabulary) {}

void Shard::read(std::int64_t begin, std::span<std::int64_t> out) const {
  assert(begin >= 0 && begin + std::ssize(out) <= header_.tokens);
  thread_local std::vector<std::byte> raw;
  raw.resize(out.size() * static_cast<std::size_t>(header_.width));
  file_.read_at(kHeaderBytes + begin * header_.width, raw);
  header_.width == 2 ? widen<std::uint16_t>(raw, out) : widen<std::uint32_t>(raw, out);
  const auto bad = std::find_if(out.begin(), out.end(), [&](std::int64_t token) { return token >= vocabulary_; });
  if (bad == out.end()) return;
  const std::int64_t position = begin + (bad - out.begin());
  throw DataError(file_.path(), fmt::format("token {} at position {} (byte {}) is not below the vocabulary of {}", *bad,
                                            position, kHeaderBytes + position * header_.width, vocabulary_));
}

void Shard::scan(const std::function<void(std::span<const std::int64_t>)>& visit) const {
  std::vector<std::int64_t> block(kBlock);
  for (std::int64_t at = 0; at < size(); at += kBlock) {
    const auto part = std::span(block).first(static_cast<std::size_t>(std::min(kBlock, size() - at)));
    read(at, part);
    visit(part);
  }
}

ShardWriter::ShardWriter(const std::filesystem::path& path, std::int64_t vocabulary, std::int32_t delimiter)
    : path_(path), temporary_(path.string() + ".partial"), file_(temporary_), vocabulary_(vocabulary) {
  assert(vocabulary > 0 && vocabulary <= std::numeric_limits<std::uint32_t>::max());
  header_ = {kPublishedMagic, kPublishedVersion, 0, vocabulary <= 65536 ? 2 : 4, delimiter, 0, delimiter >= 0 ? 1 : 0};
  const RawHeader empty{};  // no shard until finish() has written the magic
  file_.write(std::as_bytes(std::span(empty)));
}

ShardWriter::~ShardWriter() {
  std::error_code ignored;
  if (!finished_) std::filesystem::remove(temporary_, ignored);
}

void ShardWriter::write(std::span<const std::int64_t> tokens) {
  assert(header_.tokens + std::ssize(tokens) <= std::numeric_limits<std::int32_t>::max());
  for (const std::int64_t token : tokens) {
    assert(token >= 0 && token < vocabulary_);
    for (int k = 0; k < header_.width; ++k) buffer_.push_back(static_cast<char>(token >> (8 * k)));
  }
  header_.tokens += std::ssize(tokens);
  if (buffer_.size() >= (1 << 20)) flush();
}

void ShardWriter::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

void ShardWriter::finish() {
  flush();
  const RawHeader raw{header_.magic,   header_.version,   static_cast<std::int32_t>(header_.tokens),
                      header_.width,   header_.delimiter, header_.n_prepend,
                      header_.n_append};
  file_.write_at(0, std::as_bytes(std::span(raw)));
  file_.close();
  std::filesystem::rename(temporary_, path_);
  sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
  finished_ = true;
}

}  // namespace equisweep
