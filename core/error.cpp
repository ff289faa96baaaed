#include "core/error.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <numeric>
#include <utility>

namespace equisweep {
namespace {

std::string one_a_line(const std::vector<Problem>& problems) {
  assert(!problems.empty());
  std::string text;
  for (const auto& problem : problems) {
    if (!text.empty()) text += '\n';
    text += to_string(problem);
  }
  return text;
}

// Insertions, deletions, replacements and swaps of neighbours (Damerau-Levenshtein, no letter edited twice).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

// Bytes of the well-formed UTF-8 character that `text` begins with if it is safe on a terminal; else 0.
std::size_t safe_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                             : (first & 0xf0) == 0xe0         ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0) return 0;
  unsigned code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  const bool control = code < 0xa0;
  const bool reorders_text = (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  const bool ends_line = code == 0x2028 || code == 0x2029;
  return overlong || surrogate || code > 0x10ffff || control || reorders_text || ends_line ? 0 : length;
}

}  // namespace

std::string to_string(const SourcePosition& position) {
  std::string text = position.file;
  for (const int number : {position.line, position.column}) {
    if (number <= 0) break;
    if (!text.empty()) text += ':';
    text += fmt::to_string(number);
  }
  return text;
}

std::string to_string(const Problem& problem) {
  std::string text = to_string(problem.where);
  if (!text.empty()) text += ": ";
  text += problem.what;
  if (!problem.allowed.empty()) text += "; allowed: " + problem.allowed;
  if (!problem.nearest.empty()) text += fmt::format("; did you mean '{}'?", problem.nearest);
  return text;
}

UsageError::UsageError(std::vector<Problem> problems)
    : Error(one_a_line(problems), ExitCode::usage), problems_(std::move(problems)) {}

std::string nearest_name(std::string_view found, std::span<const std::string> candidates) {
  std::string nearest;
  std::size_t nearest_distance = std::string::npos;
  for (const auto& candidate : candidates) {
    const auto [shorter, longer] = std::minmax({found.size(), candidate.size()});
    const std::size_t limit = std::max<std::size_t>(1, shorter / 3);
    if (longer - shorter > limit) continue;
    const std::size_t distance = edit_distance(found, candidate);
    if (distance <= limit && distance < nearest_distance) {
      nearest_distance = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kCut = "...";
  std::string out;
  std::size_t fits = 0;  // length of the longest whole-character prefix of `out` that leaves room for kCut
  while (!text.empty()) {
    const std::size_t length = safe_character(text);
    if (length > 0) {
      out += text.substr(0, length);
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
    if (out.size() > limit) {
      out.resize(fits);
      if (limit >= kCut.size()) out += kCut;
      return out;
    }
    if (out.size() + kCut.size() <= limit) fits = out.size();
  }
  return out;
}

}  // namespace equisweep
