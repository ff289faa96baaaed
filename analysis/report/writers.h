#pragma once
// One writer a format: sections in, text out. Every name is escaped here.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/report/content.h"

namespace equisweep {

struct SectionContent {
  std::string_view id, title;
  Content content;
};

struct Document {
  std::string title;
  std::string subtitle;  ///< n of N runs, models, corpus: one line
  std::vector<SectionContent> sections;
  std::optional<std::size_t> baseline;           ///< index of the stack, for colours
  std::vector<std::string> stacks;               ///< names, for keys of figures
  std::map<std::string, std::string> svg;        ///< inline SVG by figure id; empty without figures
  bool links_csv = true, links_markdown = true;  ///< whether these files stand beside the document
  bool links_png = false;                        ///< whether each figure is there as PNG too
};

/// Rows of a table that a document shows, so that the page of a large sweep can be mailed; the CSV file has all.
inline constexpr std::size_t kShownRows = 500;

/// "Rows 1 to 500 of 1000; tables/runs.csv has all." where a document shows fewer than there are, else nothing.
std::string rows_note(const Table& table, bool with_csv);

std::string write_html(const Document& document);
std::string write_markdown(const Document& document);
std::string write_csv(const Table& table);
std::string write_csv(Rows&& rows);  ///< takes the lines: there may be many

/// A float with a booktabs tabular, for \input in a paper. Hidden columns are left out.
std::string write_latex(const Table& table);

/// A table in plain text with aligned columns, for terminals.
std::string write_text(const Table& table);

}  // namespace equisweep
