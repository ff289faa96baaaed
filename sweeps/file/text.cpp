#include "sweeps/file/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

namespace equisweep {

namespace {

/// Length of the UTF-8 sequence at `s`, 0 if it is none; `code` receives the code point. Overlong forms, surrogates and
/// values past U+10FFFF are none.
std::size_t decode(std::string_view s, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(s[i])); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return code = first, 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || s.size() < length) return 0;
  code = first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  return code < kSmallest[length] || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF ? 0 : length;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t digits(std::string_view s, std::size_t i) {
  while (i < s.size() && is_digit(s[i])) ++i;
  return i;
}

/// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
bool is_number(std::string_view s) {
  std::size_t i = !s.empty() && s[0] == '-' ? 1 : 0;
  const std::size_t whole = digits(s, i);
  if (whole == i || (s[i] == '0' && whole > i + 1)) return false;
  i = whole;
  if (i < s.size() && s[i] == '.') {
    const std::size_t end = digits(s, i + 1);
    if (end == i + 1) return false;
    i = end;
  }
  if (i < s.size() && (s[i] == 'e' || s[i] == 'E')) {
    ++i;
    if (i < s.size() && (s[i] == '+' || s[i] == '-')) ++i;
    const std::size_t end = digits(s, i);
    if (end == i) return false;
    i = end;
  }
  return i == s.size();
}

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

template <std::size_t n>
bool is_one_of(std::string_view s, const std::array<std::string_view, n>& list) {
  return std::find(list.begin(), list.end(), s) != list.end();
}

/// What YAML readers take `s` for although JSON does not, or nullptr.
const char* disputed_number(std::string_view s) {
  std::string_view body = s;
  if (!body.empty() && (body[0] == '-' || body[0] == '+')) body.remove_prefix(1);
  if (body.size() > 1 && body[0] == '0' &&
      is_one_of(body.substr(1, 1), std::to_array<std::string_view>({"x", "X", "o", "b"})))
    if (body.find_first_not_of("0123456789abcdefABCDEF_", 2) == body.npos) return "is a number in another base";
  if (body.empty() || body.find_first_not_of("0123456789_.eE+-") != body.npos) return nullptr;
  if (!is_digit(body[0]) && !(body[0] == '.' && body.size() > 1 && is_digit(body[1]))) return nullptr;
  std::string plain(body);
  std::erase(plain, '_');
  std::string padded = fmt::format("{}{}", plain[0] == '.' ? "0" : "", plain);
  const bool leading_zero = padded.size() > 1 && padded[0] == '0' && is_digit(padded[1]);
  if (leading_zero) padded.erase(0, std::min(padded.find_first_not_of('0'), padded.size() - 1));
  if (!is_digit(padded[0])) padded = fmt::format("0{}", padded);
  if (const auto dot = padded.find('.'); dot != padded.npos && (dot + 1 == padded.size() || !is_digit(padded[dot + 1])))
    padded = fmt::format("{}.0{}", padded.substr(0, dot), padded.substr(dot + 1));
  if (!is_number(padded)) return nullptr;  // a date, a version: text
  if (plain.size() != body.size()) return "is a number with underscores";
  if (leading_zero) return "has a leading zero";
  if (s[0] == '+') return "has a plus sign";
  return "has no digit on one side of the point";
}

}  // namespace

std::optional<std::string> clean_text(std::string_view text, const std::string& file, Problems& problems) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  std::string out;
  out.reserve(text.size());
  SourcePosition where{file, 1, 1};
  for (std::size_t i = 0; i < text.size();) {
    std::uint32_t code = 0;
    const std::size_t length = decode(text.substr(i, 4), code);
    const auto refuse = [&](std::string what, std::string allowed) {
      problems.add(where, std::move(what), std::move(allowed));
      return std::nullopt;
    };
    if (length == 0)
      return refuse(fmt::format("byte 0x{:02X} is not UTF-8", static_cast<unsigned char>(text[i])), "UTF-8 text");
    if (code == '\t') return refuse("a tab", "spaces");
    if (code == '\r' && i + 1 < text.size() && text[i + 1] == '\n') {
      ++i;
      continue;
    }
    if ((code < 0x20 && code != '\n') || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029 || code == 0xFEFF)
      return refuse(fmt::format("control character U+{:04X}", code), "printable text");
    out.append(text.substr(i, length));
    i += length;
    if (code == '\n') {
      ++where.line;
      where.column = 1;
    } else {
      ++where.column;
    }
  }
  return out;
}

NodeKind classify_plain(std::string_view s, const SourcePosition& where, Problems& problems) {
  if (s == "true" || s == "false") return NodeKind::boolean;
  const std::string shown = printable(s, 60);
  if (is_number(s)) {
    double value = 0;
    if (std::from_chars(s.data(), s.data() + s.size(), value).ec == std::errc()) return NodeKind::number;
    problems.add(where, fmt::format("{} is outside the range of a double", shown),
                 "numbers up to 1.8e308, and down to 5e-324");
    return NodeKind::broken;
  }
  const std::string low = lower(s);
  static constexpr auto kBooleans = std::to_array<std::string_view>({"true", "false", "yes", "no", "on", "off", "y", "n"});
  static constexpr auto kNonFinite =
      std::to_array<std::string_view>({".nan", ".inf", "+.inf", "-.inf", "nan", "inf", "+inf", "-inf", "+nan", "-nan",
                                       "infinity", "+infinity", "-infinity"});
  if (is_one_of(low, kBooleans)) {
    problems.add(where, fmt::format("'{}' is true or false to some YAML readers and text to others", shown),
                 "true, false, or text in quotes");
    return NodeKind::broken;
  }
  if (is_one_of(low, kNonFinite)) {
    problems.add(where, fmt::format("'{}' is not a finite number", shown), "finite numbers, or text in quotes");
    return NodeKind::broken;
  }
  if (const char* why = disputed_number(s)) {
    problems.add(where, fmt::format("'{}' {}", shown, why), "numbers like 10, 0.5, 1e-3, or text in quotes");
    return NodeKind::broken;
  }
  return NodeKind::text;
}

}  // namespace equisweep
