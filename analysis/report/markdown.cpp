#include <fmt/format.h>

#include <algorithm>

#include "analysis/report/escape.h"
#include "analysis/report/writers.h"

namespace equisweep {
namespace {

struct MarkdownWriter {
  std::string out;

  void operator()(const Paragraph& p) {
    if (p.style == TextStyle::code) {
      // Indented code cannot be ended from inside, unlike a fence.
      std::size_t begin = 0;
      while (begin <= p.text.size()) {
        const std::size_t end = std::min(p.text.find('\n', begin), p.text.size());
        out += fmt::format("    {}\n", visible(std::string_view(p.text).substr(begin, end - begin), 400));
        begin = end + 1;
      }
      out += "\n";
    } else if (p.style == TextStyle::lead) {
      out += fmt::format("> {}\n\n", markdown_escape(p.text));
    } else {
      out += markdown_escape(p.text) + "\n\n";
    }
  }

  void operator()(const List& list) {
    for (const std::string& item : list.items) out += fmt::format("- {}\n", markdown_escape(item));
    out += "\n";
  }

  void operator()(const Table& table) {
    out += fmt::format("**{}**\n\n", markdown_escape(table.caption));
    std::string head = "|", rule = "|";
    for (const Column& c : table.columns) {
      if (c.hidden) continue;
      head += fmt::format(" {} |", markdown_escape(c.title));
      rule += c.numeric ? "---:|" : "---|";
    }
    out += head + "\n" + rule + "\n";
    for (std::size_t r = 0; r < std::min(table.rows.size(), kShownRows); ++r) {
      const std::vector<Value>& row = table.rows[r];
      out += "|";
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (table.columns[i].hidden) continue;
        const std::string text = markdown_escape(row[i].shown);
        out += fmt::format(fmt::runtime(row[i].strong ? " **{}** |" : " {} |"), text);
      }
      out += "\n";
    }
    out += "\n";
    if (const std::string note = rows_note(table, with_csv); !note.empty()) out += markdown_escape(note) + "\n\n";
    for (const std::string& note : table.notes) out += markdown_escape(note) + "\n\n";
    if (with_csv) out += fmt::format("[Data](tables/{}.csv)\n\n", table.id);
  }

  void operator()(const Figure& figure) {
    if (with_figures) out += fmt::format("![{}](figures/{}.svg)\n\n", markdown_escape(figure.title), figure.id);
    out += markdown_escape(figure.caption);
    out +=
        with_csv ? fmt::format(" [Data](tables/{}.csv)\n\n", figure.data_of.empty() ? figure.id : figure.data_of) : "\n\n";
  }

  bool with_figures = true, with_csv = true;
};

}  // namespace

std::string write_markdown(const Document& document) {
  MarkdownWriter writer{.out = "# " + markdown_escape(visible(document.title, 200)) + "\n\n" +
                               markdown_escape(document.subtitle) + "\n\n"};
  writer.with_figures = !document.svg.empty();
  writer.with_csv = document.links_csv;
  for (const SectionContent& section : document.sections) {
    writer.out += fmt::format("## {}\n\n", section.title);
    for (const Block& block : section.content) std::visit(writer, block);
  }
  return writer.out;
}

}  // namespace equisweep
