#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/palette.h"
#include "analysis/report/writers.h"

namespace equisweep {

extern const std::string_view kStyleSheet;  // style.cpp

namespace {

constexpr std::size_t kRowsOfAPage = 30;  // a longer table may be broken between pages of paper

struct HtmlWriter {
  const Document& document;
  std::string out = {};

  std::string swatch(int stack) const {
    const StackStyle style = style_of(stack, document.baseline);
    const std::string_view colour = style.colour == "#000000" ? "currentColor" : style.colour;
    return fmt::format(
        "<svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle cx=\"5\" cy=\"5\" r=\"4\" "
        "fill=\"{}\"/></svg>",
        colour);
  }

  void operator()(const Paragraph& p) {
    if (p.style == TextStyle::code) {
      out += "<pre tabindex=\"0\">";
      std::size_t begin = 0;
      while (begin < p.text.size()) {
        const std::size_t end = std::min(p.text.find('\n', begin), p.text.size());
        out += html_escape(visible(std::string_view(p.text).substr(begin, end - begin), 400)) + "\n";
        begin = end + 1;
      }
      out += "</pre>\n";
      return;
    }
    const char* kind = p.style == TextStyle::lead ? " class=\"lead\"" : p.style == TextStyle::note ? " class=\"note\"" : "";
    out += fmt::format("<p{}>{}</p>\n", kind, html_escape(p.text));
  }

  void operator()(const List& list) {
    out += "<ul>\n";
    for (const std::string& item : list.items) out += "<li>" + html_escape(item) + "</li>\n";
    out += "</ul>\n";
  }

  void operator()(const Table& table) {
    out += fmt::format(
        "<figure class=\"table{2}\" id=\"table-{0}\">\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
        "aria-labelledby=\"caption-{0}\">\n<table>\n<caption id=\"caption-{0}\"><span>{1}</span></caption>\n<thead><tr>",
        table.id, html_escape(table.caption), table.rows.size() > kRowsOfAPage ? " long" : "");
    for (const Column& c : table.columns) {
      if (!c.hidden)
        out += fmt::format("<th scope=\"col\"{}>{}</th>", c.numeric ? " class=\"n\"" : "", html_escape(c.title));
    }
    out += "</tr></thead>\n<tbody>\n";
    for (std::size_t r = 0; r < std::min(table.rows.size(), kShownRows); ++r) {
      const std::vector<Value>& row = table.rows[r];
      out += "<tr>";
      bool first = true;
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (table.columns[i].hidden) continue;
        std::string text = html_escape(row[i].shown);
        if (row[i].key >= 0) text = "<span class=\"stack\">" + swatch(row[i].key) + text + "</span>";
        if (row[i].strong) text = "<strong>" + text + "</strong>";
        const char* kind = table.columns[i].numeric ? " class=\"n\"" : table.columns[i].prose ? " class=\"prose\"" : "";
        out += first ? fmt::format("<th scope=\"row\"{}>{}</th>", kind, text) : fmt::format("<td{}>{}</td>", kind, text);
        first = false;
      }
      out += "</tr>\n";
    }
    out += "</tbody>\n</table>\n</div>\n";
    if (const std::string note = rows_note(table, document.links_csv); !note.empty())
      out += "<p class=\"note\">" + html_escape(note) + "</p>\n";
    for (const std::string& note : table.notes) out += "<p class=\"note\">" + html_escape(note) + "</p>\n";
    if (document.links_csv)
      out += fmt::format("<p class=\"note files\"><a href=\"tables/{0}.csv\">{0}.csv</a></p>\n", table.id);
    out += "</figure>\n";
  }

  void operator()(const Figure& figure) {
    const auto svg = document.svg.find(figure.id);
    if (svg == document.svg.end()) return;
    out +=
        fmt::format("<figure class=\"{}\" id=\"figure-{}\">\n", figure.plots.size() > 1 ? "plot wide" : "plot", figure.id);
    if (figure.show_key) {
      std::set<int> shown;
      out += "<ul class=\"key\" aria-label=\"Colours\">";
      for (const Plot& plot : figure.plots) {
        for (const Series& s : plot.series) shown.insert(s.stack);
      }
      for (const int stack : shown) {
        if (stack >= 0)
          out += "<li>" + swatch(stack) + html_escape(visible(document.stacks[static_cast<std::size_t>(stack)])) + "</li>";
      }
      out += "</ul>\n";
    }
    out += fmt::format("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"{}-title\">{}</div>\n",
                       figure.id, svg->second);
    out += fmt::format(
        "<figcaption>{1} <span class=\"files\">{2}<a href=\"figures/{0}.svg\">svg</a> <a "
        "href=\"figures/{0}.pdf\">pdf</a>{3}</span></figcaption>\n</figure>\n",
        figure.id, html_escape(figure.caption),
        document.links_csv
            ? fmt::format("<a href=\"tables/{}.csv\">data</a> ", figure.data_of.empty() ? figure.id : figure.data_of)
            : "",
        document.links_png ? fmt::format(" <a href=\"figures/{}.png\">png</a>", figure.id) : "");
  }
};

}  // namespace

std::string write_html(const Document& document) {
  const std::string title = html_escape(visible(document.title, 200));
  HtmlWriter writer{document};
  writer.out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri "
      "'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" "
      "content=\"light dark\">\n"
      "<meta name=\"generator\" "
      "content=\"equisweep\">\n<title>{0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<header>\n<h1>{0}</h1>\n<p "
      "class=\"subtitle\">{2}</p>\n</header>\n",
      title, kStyleSheet, html_escape(document.subtitle));
  writer.out += "<nav aria-label=\"Contents\">\n<ol>\n";
  for (const SectionContent& section : document.sections)
    writer.out += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", section.id, html_escape(section.title));
  writer.out += "</ol>\n</nav>\n<main>\n";
  for (const SectionContent& section : document.sections) {
    writer.out += fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-heading\">\n<h2 id=\"{0}-heading\">{1}</h2>\n",
                              section.id, html_escape(section.title));
    for (const Block& block : section.content) std::visit([&](const auto& b) { writer(b); }, block);
    writer.out += "</section>\n";
  }
  writer.out +=
      "</main>\n<footer><p>Made by equisweep from sweep.db alone; every number can be made again from it. Checksums are in "
      "<a href=\"manifest.json\">manifest.json</a>";
  if (document.links_markdown) writer.out += ", the same text as <a href=\"report.md\">report.md</a>";
  writer.out += ".</p></footer>\n</body>\n</html>\n";
  return writer.out;
}

}  // namespace equisweep
