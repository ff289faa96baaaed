#pragma once
// Names from users are data in every output: one function a sink. All of them first make control characters, bidirectional
// overrides and invalid UTF-8 visible as \xNN, and cut long text with an ellipsis.

#include <cstddef>
#include <string>
#include <string_view>

namespace equisweep {

inline constexpr std::size_t kNameLimit = 80;  ///< bytes of a name that are shown

/// Valid UTF-8 on one line without control characters or overrides of the writing direction, at most `limit` bytes.
std::string visible(std::string_view text, std::size_t limit = kNameLimit);

/// Text or attribute value of HTML and SVG.
std::string html_escape(std::string_view text);

/// Text of a Markdown paragraph or table cell that shows as it is.
std::string markdown_escape(std::string_view text);

/// Text of a LaTeX document: no character of it is a command, and pdfLaTeX needs no package for it. Characters beyond ASCII
/// and a few signs become U+XXXX.
std::string latex_escape(std::string_view text);

/// A field of a CSV file, quoted where needed. Text that a spreadsheet would take for a formula gets a leading apostrophe.
std::string csv_text(std::string_view text);

/// A single-quoted gnuplot string: nothing in it is interpreted. An apostrophe becomes a typographic one.
std::string gnuplot_string(std::string_view text, std::size_t limit = kNameLimit);

/// A file name made of a-z, 0-9, '-' and '_' alone, at most 40 characters, never empty. Not unique.
std::string file_stem(std::string_view text);

}  // namespace equisweep
