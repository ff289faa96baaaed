#pragma once
// Test only: a strict reader of RFC 4180, written from its grammar; also with other ends of lines.

#include <stdexcept>
#include <string>
#include <vector>

namespace equisweep::testing {

/// Rows of fields. Throws where a line does not end in `line_end`, a quote stands inside a bare field, or the rows differ in
/// length.
inline std::vector<std::vector<std::string>> parse_csv(const std::string& text, const std::string& line_end = "\r\n") {
  std::vector<std::vector<std::string>> rows;
  std::size_t at = 0;
  const auto fail = [&](const char* why) { throw std::runtime_error(std::string(why) + " at byte " + std::to_string(at)); };
  while (at < text.size()) {
    auto& row = rows.emplace_back();
    for (bool more = true; more;) {
      std::string& field = row.emplace_back();
      if (text[at] == '"') {
        for (++at;; ++at) {
          if (at >= text.size()) fail("an open quote");
          if (text[at] != '"') {
            field += text[at];
          } else if (at + 1 < text.size() && text[at + 1] == '"') {
            field += text[at++];
          } else {
            break;
          }
        }
        ++at;
      } else {
        for (; at < text.size() && text[at] != ',' && text[at] != line_end[0]; ++at) {
          if (text[at] == '"' || text[at] == '\n' || text[at] == '\r') fail("a quote or line feed in a bare field");
          field += text[at];
        }
      }
      more = at < text.size() && text[at] == ',';
      if (more) ++at;
    }
    if (text.compare(at, line_end.size(), line_end) != 0) fail("another end of a line");
    at += line_end.size();
    if (row.size() != rows.front().size()) fail("a row of another length");
  }
  return rows;
}

}  // namespace equisweep::testing
