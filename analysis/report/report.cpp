#include "analysis/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "analysis/report/draw.h"
#include "analysis/report/escape.h"
#include "analysis/report/fairness.h"
#include "analysis/report/figure.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "analysis/report/writers.h"
#include "core/data/sha256.h"
#include "core/database.h"
#include "core/document.h"
#include "core/error.h"
#include "core/scratch_folder.h"

namespace equisweep {
namespace {

namespace fs = std::filesystem;

/// Runs `body`; an error of SQLite leaves it as DatabaseError that names the files of `source`.
template <typename Body>
decltype(auto) in_databases(const ReportSource& source, Body&& body) {
  std::string files;
  for (const fs::path& file : source.databases) files += (files.empty() ? "" : " or ") + file.string();
  return in_database(files, std::forward<Body>(body));
}

constexpr std::size_t kPaperRows = 60;  // a longer table is data and no table of a paper

using Files = std::map<std::string, std::string>;  // content by path inside the report

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) throw Error("cannot write " + path.string() + " (is the disk full, or the folder read-only?)");
}

std::string subtitle(const ReportData& data) {
  std::string models, stacks;
  for (const std::string& m : data.models) models += (models.empty() ? "" : ", ") + visible(m);
  std::string out = fmt::format("{} of {} runs have a result", data.results(), data.runs.size());
  for (const auto& run : data.runs) {
    const auto corpus = run->corpus.find("name");
    if (corpus == run->corpus.end() || !corpus->is_string()) continue;
    out += " · " + visible(corpus->get<std::string>());
    break;
  }
  if (data.sweeps.size() > 1) out += fmt::format(" · {} sweeps joined", data.sweeps.size());
  return models.empty() ? out : out + " · " + models;
}

// Figure ids are file names; two names from users may have the same stem.
void make_unique(std::vector<SectionContent>& sections) {
  std::set<std::string> taken;
  for (SectionContent& section : sections) {
    for (Block& block : section.content) {
      if (const auto* table = std::get_if<Table>(&block)) taken.insert(table->id);
    }
  }
  std::map<std::string, std::string> newest;  // id by the one that a figure was made with
  for (SectionContent& section : sections) {
    for (Block& block : section.content) {
      auto* figure = std::get_if<Figure>(&block);
      if (figure == nullptr) continue;
      const std::string stem = figure->id;
      for (int i = 2; !taken.insert(figure->id).second; ++i) figure->id = fmt::format("{}-{}", stem, i);
      newest[stem] = figure->id;
      if (!figure->data_of.empty()) figure->data_of = newest.at(figure->data_of);
    }
  }
}

std::vector<const Figure*> figures_of(const Document& document) {
  std::vector<const Figure*> figures;
  for (const SectionContent& section : document.sections)
    for (const Block& block : section.content)
      if (const auto* figure = std::get_if<Figure>(&block)) figures.push_back(figure);
  return figures;
}

/// Takes the data of the figures, which stand nowhere else.
void add_tables(Document& document, const std::set<ReportFormat>& formats, Files& files) {
  for (SectionContent& section : document.sections) {
    for (Block& block : section.content) {
      const auto* table = std::get_if<Table>(&block);
      auto* figure = std::get_if<Figure>(&block);
      if (formats.contains(ReportFormat::csv) && table != nullptr)
        files.emplace("tables/" + table->id + ".csv", write_csv(*table));
      if (formats.contains(ReportFormat::csv) && figure != nullptr && figure->data_of.empty())
        files.emplace("tables/" + figure->id + ".csv", write_csv(std::move(figure->data)));
      if (formats.contains(ReportFormat::latex) && table != nullptr && table->rows.size() <= kPaperRows)
        files.emplace("tables/" + table->id + ".tex", write_latex(*table));
    }
  }
}

void add_figures(std::map<std::string, DrawnFigure> drawn, Document& document, Files& files) {
  for (auto& [id, figure] : drawn) {
    files.emplace("figures/" + id + ".svg", standalone_svg(figure.svg));
    files.emplace("figures/" + id + ".pdf", std::move(figure.pdf));
    document.links_png = !figure.png.empty();
    if (document.links_png) files.emplace("figures/" + id + ".png", std::move(figure.png));
    document.svg.emplace(id, std::move(figure.svg));
  }
}

// The files that the last report in `out` listed; names that are not plain paths inside it are ignored.
std::set<std::string> listed_before(const fs::path& out) {
  std::set<std::string> names;
  if (!fs::is_regular_file(out / "manifest.json")) return names;
  const nlohmann::json manifest = object_of(read(out / "manifest.json"));
  if (!manifest.contains("files") || !manifest["files"].is_object()) return names;
  for (const auto& [name, unused] : manifest["files"].items()) {
    if (name == "index.html" || name == "report.md" ||
        (name.find("..") == std::string::npos && (name.starts_with("tables/") || name.starts_with("figures/"))))
      names.insert(name);
  }
  return names;
}

void require_real_folder(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(folder, error);
  if (fs::is_symlink(status)) throw Error(folder.string() + " is a link; a report is written into real folders only");
  fs::create_directories(folder, error);
  if (error) throw Error("cannot make the folder " + folder.string() + ": " + error.message());
}

/// Lines of at most `width` columns, broken at spaces.
std::string wrapped(const std::string& paragraph, std::size_t width) {
  const auto columns = [](const std::string& s) {
    return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  };
  std::string out, line;
  for (std::size_t begin = 0; begin < paragraph.size();) {
    const std::size_t end = std::min(paragraph.find(' ', begin), paragraph.size());
    const std::string word = paragraph.substr(begin, end - begin);
    if (!line.empty() && columns(line) + 1 + columns(word) > width) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return out + line + "\n";
}

}  // namespace

void write_report(const ReportSource& source, const fs::path& out, const ReportOptions& options) {
  ReportData data(source);
  data.intervals = options.intervals;
  const nlohmann::json title = data.setting("title");
  Document document{.title = title.is_string() && data.sweeps.size() == 1 ? title.get<std::string>() : data.name(),
                    .subtitle = subtitle(data),
                    .sections = {},
                    .baseline = data.baseline,
                    .stacks = data.stacks,
                    .svg = {}};
  in_databases(source, [&] {
    const std::vector<StackResult> results = compare(data);
    for (const Section& section : sections())
      document.sections.push_back({section.id, section.title, section.make({data, results})});
  });
  make_unique(document.sections);

  std::error_code error;
  fs::create_directories(out, error);
  if (error) throw Error("cannot make the folder " + out.string() + ": " + error.message());
  for (const char* folder : {"tables", "figures"}) require_real_folder(out / folder);
  const ScratchFolder scratch(out, ".tmp-");  // beside the files of the report: they are renamed into place

  const auto wanted = [&](ReportFormat format) { return options.formats.contains(format); };
  const bool figures = options.figures && data.setting("figures") != false && options.formats != std::set{ReportFormat::csv};
  Files files;
  {
    Drawing drawing(figures ? figures_of(document) : std::vector<const Figure*>(), document.baseline, scratch.path(),
                    options.gnuplots);
    add_tables(document, options.formats, files);
    add_figures(drawing.take(), document, files);
  }
  document.links_csv = wanted(ReportFormat::csv);
  document.links_markdown = wanted(ReportFormat::markdown);
  if (wanted(ReportFormat::html)) files.emplace("index.html", write_html(document));
  if (wanted(ReportFormat::markdown)) files.emplace("report.md", write_markdown(document));

  nlohmann::json manifest = {{"format", 1}, {"sweep", visible(data.name(), 200)}, {"files", nlohmann::json::object()}};
  for (const auto& [name, content] : files)
    manifest["files"][name] = {{"sha256", sha256(content)}, {"bytes", content.size()}};
  const std::string manifest_text = manifest.dump(2) + "\n";

  for (const std::string& name : listed_before(out)) {
    if (!files.contains(name)) fs::remove(out / name, error);
  }
  const auto place = [&](const std::string& name, const std::string& content) {
    write(scratch.path() / "whole", content);
    fs::rename(scratch.path() / "whole", out / name, error);
    if (error) throw Error("cannot write " + (out / name).string() + ": " + error.message());
  };
  for (const auto& [name, content] : files) place(name, content);
  place("manifest.json", manifest_text);
}

std::vector<std::string> report_objections(const ReportSource& source) {
  const ReportData data(source);
  return in_databases(source, [&] {
    std::vector<std::string> lines;
    for (const Check& check : fairness(data))
      if (check.grade == Grade::fail) lines.push_back(check.question + ": " + check.found);
    return lines;
  });
}

std::string report_summary(const ReportSource& source, std::size_t width, const IntervalMethod& intervals) {
  ReportData data(source);
  data.intervals = intervals;
  return in_databases(source, [&] {
    const std::vector<StackResult> results = compare(data);
    const SectionInput input{data, results};
    std::string out;
    for (const Block& block : main_table_section(input)) {
      if (const auto* table = std::get_if<Table>(&block)) out += write_text(*table) + "\n";
    }
    bool first = true;
    for (const std::string& paragraph : verdict_paragraphs(input)) {
      out += (first ? "" : "\n") + wrapped(paragraph, width);
      first = false;
    }
    return out;
  });
}

}  // namespace equisweep
