#include "core/data/text_source.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "core/data/sha256.h"
#include "core/error.h"

namespace equisweep {
namespace {

constexpr std::size_t kBlockBytes = 8 << 10;     // a block of plain text, at least
constexpr std::size_t kLongestBlock = 64 << 10;  // where there is no line end to cut at
constexpr std::size_t kLongestLine = 256 << 20;  // of JSON lines: a hostile file must not take all memory
constexpr std::size_t kReadBytes = 1 << 20;

// zlib reads plain files as they are, so one reader does for both.
class Input {
 public:
  explicit Input(const std::string& name) : name_(name == "-" ? "standard input" : name) {
    if (name == "-") {
      file_ = ::gzdopen(::dup(STDIN_FILENO), "rb");
    } else {
      struct stat s {};
      if (::stat(name.c_str(), &s) == 0 && S_ISDIR(s.st_mode))
        throw DataError(name_, "is a folder; a text file is expected");
      file_ = ::gzopen(name.c_str(), "rb");
    }
    if (!file_) throw DataError(name_, fmt::format("cannot be opened: {}", std::generic_category().message(errno)));
    ::gzbuffer(file_, kReadBytes / 4);
  }
  ~Input() { ::gzclose(file_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  /// Appends up to kReadBytes to `buffer`; false at the end of the file.
  bool read(std::string& buffer) {
    const std::size_t before = buffer.size();
    buffer.resize(before + kReadBytes);
    const int n = ::gzread(file_, buffer.data() + before, kReadBytes);
    int code = Z_OK;
    const char* message = ::gzerror(file_, &code);
    if (n < 0 || (code != Z_OK && code != Z_STREAM_END)) {  // Z_BUF_ERROR: a gzip file that ends too early
      const std::string why = code == Z_ERRNO ? std::generic_category().message(errno) : std::string(message);
      throw DataError(name_, fmt::format("cannot be read after byte {}: {}", bytes_ + std::max(n, 0), printable(why)));
    }
    buffer.resize(before + static_cast<std::size_t>(n));
    const std::string_view fresh = std::string_view(buffer).substr(before);
    hash_.add(fresh);
    bytes_ += n;
    return n > 0;
  }

  const std::string& name() const { return name_; }
  std::int64_t bytes() const { return bytes_; }
  std::string sha256() { return hash_.hex(); }

 private:
  std::string name_;
  gzFile file_ = nullptr;
  Sha256 hash_;
  std::int64_t bytes_ = 0;
};

bool is_json_lines(std::string_view name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

void check_utf8(const std::string& name, std::string_view text, std::int64_t offset) {
  const std::size_t good = valid_utf8_prefix(text);
  if (good == text.size()) return;
  throw DataError(name, fmt::format("is not UTF-8: byte 0x{:02X} at offset {} begins no valid character; convert the text "
                                    "first, for example with iconv",
                                    static_cast<unsigned char>(text[good]), offset + static_cast<std::int64_t>(good)));
}

void read_plain(Input& input, const TextSink& sink) {
  std::string buffer;
  std::string_view rest;
  std::int64_t offset = 0;  // of the first byte of `rest`
  const auto send = [&](std::size_t end, bool last) {
    check_utf8(input.name(), rest.substr(0, end), offset);
    sink(rest.substr(0, end), last);
    rest.remove_prefix(end);
    offset += static_cast<std::int64_t>(end);
  };
  while (input.read(buffer)) {
    rest = buffer;
    while (rest.size() > kLongestBlock + 4) {  // text follows the block, so it is not the last
      std::size_t end = rest.find('\n', kBlockBytes - 1);
      if (end < kLongestBlock) {
        ++end;
      } else {
        end = kLongestBlock;
        for (int k = 0; k < 3 && (static_cast<unsigned char>(rest[end]) & 0xC0) == 0x80; ++k)
          --end;  // not within a character
      }
      send(end, false);
    }
    buffer.erase(0, buffer.size() - rest.size());
  }
  rest = buffer;
  while (!rest.empty()) {
    std::size_t end = rest.find('\n', std::min(kBlockBytes - 1, rest.size() - 1));
    end = end == std::string_view::npos ? rest.size() : end + 1;
    send(end, end == rest.size());
  }
}

void read_json_line(const std::string& where, std::string_view line, const std::string& field, const TextSink& sink) {
  nlohmann::json record;
  try {
    record = nlohmann::json::parse(line);
  } catch (const nlohmann::json::exception& e) {
    throw DataError(where, fmt::format("is not JSON: {}", printable(e.what())));
  }
  if (!record.is_object())
    throw DataError(
        where, fmt::format("is a JSON {}; an object with the field '{}' is expected", record.type_name(), printable(field)));
  const auto found = record.find(field);
  if (found == record.end()) {
    std::vector<std::string> names;
    for (const auto& [key, value] : record.items()) names.push_back(printable(key));
    throw DataError(where, fmt::format("has no field '{}'; it has: {}", printable(field), printable(join(names))));
  }
  if (!found->is_string())
    throw DataError(where,
                    fmt::format("the field '{}' is a {}; a string is expected", printable(field), found->type_name()));
  if (const auto& text = found->get_ref<const std::string&>(); !text.empty()) sink(text, true);
}

void read_json_lines(Input& input, const std::string& field, const TextSink& sink) {
  std::string buffer;
  std::int64_t offset = 0, number = 0;
  const auto take = [&](std::string_view line) {
    ++number;
    check_utf8(input.name(), line, offset);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos)
      read_json_line(fmt::format("{}:{}", input.name(), number), line, field, sink);
  };
  for (bool more = true; more;) {
    const std::size_t searched = buffer.size();
    more = input.read(buffer);
    std::size_t begin = 0;
    for (std::size_t end = buffer.find('\n', searched); end != std::string::npos; end = buffer.find('\n', begin)) {
      take(std::string_view(buffer).substr(begin, end - begin));
      offset += static_cast<std::int64_t>(end + 1 - begin);
      begin = end + 1;
    }
    buffer.erase(0, begin);
    if (buffer.size() > kLongestLine) {
      throw DataError(fmt::format("{}:{}", input.name(), number + 1), fmt::format("is longer than {} bytes", kLongestLine));
    }
  }
  if (!buffer.empty()) take(buffer);
}

}  // namespace

TextSummary read_text(const std::string& name, const std::optional<std::string>& field, const TextSink& sink) {
  Input input(name);
  if (field || is_json_lines(name)) {
    read_json_lines(input, field.value_or("text"), sink);
  } else {
    read_plain(input, sink);
  }
  if (input.bytes() == 0) throw DataError(input.name(), "is empty");
  return {name, input.bytes(), input.sha256()};
}

std::size_t valid_utf8_prefix(std::string_view text) {
  const auto at = [&](std::size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned lead = at(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    // Shortest forms only, no surrogates, nothing above U+10FFFF: the second byte has the narrower range.
    std::size_t length = 0;
    unsigned low = 0x80, high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) length = 2;
    if (lead >= 0xE0 && lead <= 0xEF) length = 3, low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    if (lead >= 0xF0 && lead <= 0xF4) length = 4, low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    if (length == 0 || at(i + 1) < low || at(i + 1) > high) return i;
    for (std::size_t k = 2; k < length; ++k) {
      if (at(i + k) < 0x80 || at(i + k) > 0xBF) return i;
    }
    i += length;
  }
  return i;
}

}  // namespace equisweep
