#include "analysis/report/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace equisweep {
namespace {

// Length of the well-formed UTF-8 sequence at the front of `text` with its code point, or 0.
std::size_t decode(std::string_view text, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return code = first, 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
  if (length == 0 || first > 0xF4 || text.size() < length) return 0;
  code = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return overlong || surrogate || code > 0x10FFFF ? 0 : length;
}

// Control characters, separators that end a line, and marks that change the direction of what follows.
bool is_hidden(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF;
}

// `text` with `replace(character)` in place of each byte for which it is not empty.
template <typename Replace>
std::string substitute(std::string_view text, Replace replace) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const std::string_view replacement = replace(c);
    if (replacement.empty()) {
      out += c;
    } else {
      out += replacement;
    }
  }
  return out;
}

}  // namespace

std::string visible(std::string_view text, std::size_t limit) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
  if (plain && text.size() <= limit) return std::string(text);
  std::string out;
  while (!text.empty()) {
    std::uint32_t code = 0;
    const std::size_t length = decode(text, code);
    std::string piece;
    if (length == 0 || is_hidden(code)) {
      for (std::size_t i = 0; i < (length == 0 ? 1 : length); ++i) {
        piece += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i]));
      }
    } else {
      piece = text.substr(0, length);
    }
    if (out.size() + piece.size() > limit) return out + "…";
    out += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string html_escape(std::string_view text) {
  return substitute(text, [](char c) -> std::string_view {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '"':
        return "&quot;";
      case '\'':
        return "&#39;";
      default:
        return {};
    }
  });
}

std::string markdown_escape(std::string_view text) {
  return substitute(text, [](char c) -> std::string_view {
    switch (c) {
      case '\\':
        return "\\\\";
      case '`':
        return "\\`";
      case '*':
        return "\\*";
      case '_':
        return "\\_";
      case '[':
        return "\\[";
      case ']':
        return "\\]";
      case '|':
        return "\\|";
      case '#':
        return "\\#";
      case '~':
        return "\\~";
      case '@':
        return "\\@";
      case '$':
        return "\\$";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '&':
        return "&amp;";
      default:
        return {};
    }
  });
}

std::string latex_escape(std::string_view text) {
  struct Command {
    std::uint32_t code;
    std::string_view latex;
  };
  // In the encodings that pdfLaTeX has without further packages. "-{}" keeps two dashes from becoming
  // one; a row that begins with [ or * would be read as an option of the line break before it.
  static constexpr std::array commands = std::to_array<Command>({
      {'\\', "\\textbackslash{}"},
      {'{', "\\{"},
      {'}', "\\}"},
      {'$', "\\$"},
      {'&', "\\&"},
      {'#', "\\#"},
      {'_', "\\_"},
      {'%', "\\%"},
      {'~', "\\textasciitilde{}"},
      {'^', "\\textasciicircum{}"},
      {'<', "\\textless{}"},
      {'>', "\\textgreater{}"},
      {'|', "\\textbar{}"},
      {'"', "''"},
      {'`', "\\textasciigrave{}"},
      {'-', "-{}"},
      {'[', "{[}"},
      {'*', "{*}"},
      {']', "{]}"},
      {0xA0, "~"},
      {0xB1, "$\\pm$"},
      {0xB7, "$\\cdot$"},
      {0xD7, "$\\times$"},
      {0x2013, "--"},
      {0x2019, "'"},
      {0x2026, "\\dots{}"},
      {0x202F, "\\,"},
      {0x2192, "$\\to$"},
      {0x2212, "$-$"},
      {0x221A, "$\\surd$"},
      {0x221E, "$\\infty$"},
      {0x2713, "$\\surd$"},
      {0x2717, "$\\times$"},
  });
  std::string out;
  while (!text.empty()) {
    std::uint32_t code = 0;
    const std::size_t length = decode(text, code);
    const auto known = std::find_if(commands.begin(), commands.end(), [&](const Command& c) { return c.code == code; });
    if (length == 0) {
      out += fmt::format("\\textbackslash{{}}x{:02x}", static_cast<unsigned char>(text.front()));
    } else if (known != commands.end()) {
      out += known->latex;
    } else if (code >= 0x20 && code < 0x7F) {
      out += static_cast<char>(code);
    } else {
      out += fmt::format("U+{:04X}", code);  // a letter that the fonts may not have must not stop the paper
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string csv_text(std::string_view text) {
  std::string field(text);
  if (!field.empty() && std::string_view("=+-@\t\r|%").find(field.front()) != std::string_view::npos) field.insert(0, "'");
  if (field.find_first_of(",\"\n\r'; ") == std::string::npos) return field;
  return "\"" + substitute(field, [](char c) -> std::string_view { return c == '"' ? "\"\"" : ""; }) + "\"";
}

std::string gnuplot_string(std::string_view text, std::size_t limit) {
  // gnuplot 5.4 reads a doubled quote at the front of a string as the end of an empty one, so none is left in it.
  return "'" + substitute(visible(text, limit), [](char c) -> std::string_view { return c == '\'' ? "’" : ""; }) + "'";
}

std::string file_stem(std::string_view text) {
  std::string stem;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (plain) {
      stem += c;
    } else if (!stem.empty() && stem.back() != '-') {
      stem += '-';
    }
    if (stem.size() == 40) break;
  }
  while (!stem.empty() && stem.back() == '-') stem.pop_back();
  return stem.empty() ? "unnamed" : stem;
}

}  // namespace equisweep
