#pragma once
// Text from files and pipes: plain or JSON lines, gzipped or not.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace equisweep {

struct TextSummary {
  std::string name;        ///< as given; "-" is the standard input
  std::int64_t bytes = 0;  ///< read, after decompression
  std::string sha256;      ///< of those bytes
};

/// A block of text, and whether a document ends with it.
using TextSink = std::function<void(std::string_view block, bool ends_document)>;

/// Reads `name` ("-": the standard input) once, from begin to end, and hands its text to `sink`.
///   JSON lines (a name that ends in .jsonl or .ndjson, .gz or not, or any name if `field` is given): the string under
///   `field`, by default "text", of each line is a document; empty lines and empty strings are none.
///   Plain text (all else): the whole file is a document, in blocks of at least 8 KiB that end at a line where possible.
/// Gzip is recognised by its content. Throws DataError if the file cannot be read, is damaged, is not UTF-8 (with the byte
/// offset, after decompression) or holds a line that is not what it should be (with the line number).
TextSummary read_text(const std::string& name, const std::optional<std::string>& field, const TextSink& sink);

/// The number of bytes at the start of `text` that are valid UTF-8 (Unicode 15, table 3-7): text.size() if all are.
std::size_t valid_utf8_prefix(std::string_view text);

}  // namespace equisweep
