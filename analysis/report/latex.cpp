// Tables for papers: booktabs, everything that a name could say to TeX taken away.
#include <fmt/format.h>

#include <algorithm>

#include "analysis/report/escape.h"
#include "analysis/report/writers.h"

namespace equisweep {

namespace {

constexpr std::size_t kLongText = 50;  // bytes; a column with more is a paragraph

}  // namespace

std::string write_latex(const Table& table) {
  std::string columns, head, body;
  bool first = true;
  for (const Column& c : table.columns) {
    if (c.hidden) continue;
    const auto index = static_cast<std::size_t>(&c - table.columns.data());
    const bool wraps = std::any_of(table.rows.begin(), table.rows.end(),
                                   [&](const auto& row) { return row[index].shown.size() > kLongText; });
    columns += c.numeric ? "r" : wraps ? "p{.35\\linewidth}" : "l";
    head.append(first ? "" : " & ").append(latex_escape(c.title));
    first = false;
  }
  for (const auto& row : table.rows) {
    first = true;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (table.columns[i].hidden) continue;
      const std::string text = latex_escape(row[i].shown);
      body.append(first ? "    " : " & ").append(row[i].strong ? "\\textbf{" + text + "}" : text);
      first = false;
    }
    body += " \\\\\n";
  }
  std::string notes;
  for (const std::string& note : table.notes)
    notes += "  \\par\\smallskip\\parbox{\\linewidth}{\\footnotesize " + latex_escape(note) + "}\n";
  return fmt::format(
      "% \\usepackage{{booktabs}}\n\\begin{{table}}\n  \\centering\n  \\caption{{{}}}\n  \\label{{tab:{}}}\n  "
      "\\begin{{tabular}}{{@{{}}{}@{{}}}}\n    \\toprule\n    {} \\\\\n    \\midrule\n{}    \\bottomrule\n  "
      "\\end{{tabular}}\n{}\\end{{table}}\n",
      latex_escape(table.caption), table.id, columns, head, body, notes);
}

}  // namespace equisweep
