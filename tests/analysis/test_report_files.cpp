// The files of a report: complete, the same twice, and safe against names from users.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/report.h"
#include "analysis/report/writers.h"
#include "core/data/sha256.h"
#include "core/error.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_report_files {

namespace fs = std::filesystem;
using testing::FixtureRun;
using testing::FixtureSweep;

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::map<std::string, std::string> all_files(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read(entry.path());
  }
  return files;
}

class ReportFiles : public ::testing::Test {
 protected:
  std::map<std::string, std::string> report(const FixtureSweep& sweep, const std::string& name = "report") {
    fs::remove(folder_ / "sweep.db");
    testing::write_sweep(folder_ / "sweep.db", sweep);
    write_report(folder_ / "sweep.db", folder_ / name);
    return all_files(folder_ / name);
  }

  TempFolder folder_;
};

TEST_F(ReportFiles, ASecondRunIsTheSameByteForByteAndTheManifestHolds) {
  const FixtureSweep sweep = testing::realistic_sweep(2);
  const auto first = report(sweep);
  write_report(folder_ / "sweep.db", folder_ / "again");
  EXPECT_EQ(first, all_files(folder_ / "again"));
  for (const char* name :
       {"index.html", "report.md", "tables/main.csv", "tables/runs.csv", "figures/lr-qwen3-nano.svg",
        "figures/lr-qwen3-nano.pdf", "figures/curves-steps-qwen3-nano.svg", "figures/spectra-qwen3-nano.pdf"}) {
    EXPECT_TRUE(first.contains(name)) << name;
  }
  const auto manifest = nlohmann::json::parse(first.at("manifest.json"));
  EXPECT_EQ(manifest["files"].size() + 1, first.size());
  for (const auto& [name, facts] : manifest["files"].items()) EXPECT_EQ(facts["sha256"], sha256(first.at(name))) << name;
  EXPECT_EQ(first.at("index.html").find("<script"), std::string::npos);
  EXPECT_NE(first.at("index.html").find("Content-Security-Policy"), std::string::npos);
}

TEST_F(ReportFiles, FilesOfTheLastReportGoAndFilesOfOthersStay) {
  report(testing::realistic_sweep(1));
  std::ofstream(folder_ / "report" / "figures" / "mine.txt") << "keep";
  FixtureSweep other;
  other.runs = {FixtureRun{.evals = {{0, 6}, {10, 5}}}};
  const auto files = report(other);
  EXPECT_FALSE(files.contains("figures/lr-qwen3-nano.svg"));
  EXPECT_TRUE(files.contains("figures/lr-m.svg"));
  EXPECT_TRUE(files.contains("figures/mine.txt"));
}

TEST_F(ReportFiles, EmptyAndUnfinishedSweepsAreReported) {
  EXPECT_NE(report({}).at("report.md").find("The sweep has no runs yet."), std::string::npos);
  FixtureSweep queued;
  for (const std::string state : {"queued", "running", "failed", "lost"}) {
    queued.runs.push_back({.stack = "only " + state, .baseline = true, .state = state, .evals = {}});
  }
  const auto files = report(queued);
  EXPECT_NE(files.at("index.html").find("0 of 4 runs have a result"), std::string::npos);
}

TEST_F(ReportFiles, OnlyTheFormatsThatAreAskedForAndLinksToNoOther) {
  const fs::path sweep_db = folder_ / "sweep.db";
  testing::write_sweep(sweep_db, testing::realistic_sweep(1));
  write_report(sweep_db, folder_ / "all");
  EXPECT_TRUE(fs::exists(folder_ / "all/tables/main.tex"));
  write_report(sweep_db, folder_ / "all", {.formats = {ReportFormat::csv, ReportFormat::latex}, .figures = false});
  EXPECT_FALSE(fs::exists(folder_ / "all/index.html")) << "of the last report";
  EXPECT_TRUE(fs::exists(folder_ / "all/tables/main.tex") && fs::exists(folder_ / "all/tables/main.csv"));
  write_report(sweep_db, folder_ / "page", {.formats = {ReportFormat::html}, .figures = false});
  const auto page = all_files(folder_ / "page");
  EXPECT_EQ(page.size(), 2U) << "the page and the manifest";
  EXPECT_EQ(page.at("index.html").find("href=\"tables/"), std::string::npos);
  EXPECT_EQ(page.at("index.html").find("report.md"), std::string::npos);
}

TEST_F(ReportFiles, ALinkIsNotFollowed) {
  fs::create_directories(folder_ / "report");
  fs::create_directories(folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", folder_ / "report" / "tables");
  EXPECT_THROW(report(testing::realistic_sweep(1)), Error);
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
}

const std::vector<std::string>& hostile_names() {
  static const std::vector<std::string> names = {"../x",
                                                 std::string("nul\0nul", 7),
                                                 std::string(300, 'x'),
                                                 "<script>alert(1)</script>",
                                                 "\"><img src=x onerror=alert(1)>",
                                                 "=cmd|' /C calc'!A0",
                                                 "+1+1",
                                                 "@SUM(1)",
                                                 "\x1b[31mred\x1b[0m",
                                                 "'; DROP TABLE runs; --",
                                                 "`touch pwned`",
                                                 "$(touch pwned)",
                                                 "'\nset output 'pwned'\n!touch pwned\n'",
                                                 "x'.system('touch pwned').'",
                                                 "{/Symbol a}_b^c",
                                                 "%s%n%d",
                                                 "[x](javascript:alert(1))",
                                                 "a | b | c",
                                                 "EOD",
                                                 "\xE2\x80\xAE"
                                                 "desrever",
                                                 "\xff\xfe not utf-8",
                                                 "fill=\"black\" </text></svg><script>alert(2)</script>"};
  return names;
}

TEST_F(ReportFiles, HostileNamesStayData) {
  FixtureSweep sweep;
  sweep.meta = {{"name", hostile_names()[3]}, {"notes", "</pre><script>alert(3)</script>\n```\n"}};
  bool baseline = true;
  for (const std::string& name : hostile_names()) {
    for (const std::int64_t seed : {0, 1}) {
      sweep.runs.push_back({.model = "<script>m</script>",
                            .stack = name,
                            .baseline = baseline,
                            .seed = seed,
                            .evals = {{0, 6}, {10, 5}, {20, 4.5}},
                            .message = name});
    }
    baseline = false;
  }
  sweep.runs.push_back({.model = "../../m", .stack = hostile_names()[0], .evals = {{0, 6}, {20, 4.5}}});
  sweep.runs.push_back(
      {.stack = hostile_names()[5], .axes = R"({"<script>":"=1+1"})", .state = "failed", .message = "=cmd"});
  testing::write_sweep(folder_ / "sweep.db", sweep);
  for (const std::string& name : hostile_names()) {
    SQLite::Database db((folder_ / "sweep.db").string(), SQLite::OPEN_READWRITE);
    for (const char* sql :
         {"INSERT INTO blocks SELECT run, (SELECT count(*) FROM blocks b WHERE b.run = runs.run), ?1, ?1, 0, ?1, "
          "?1, ?1 FROM runs WHERE length(?1) > 0",
          "UPDATE runs SET config = json_set(config, '$.stack.' || json_quote(?1), json_object('rule', ?1, 'lr', "
          "run)) WHERE ?1 NOT LIKE '%' || char(34) || '%'"}) {
      // A config that is not JSON is no config at all, and would hide the other names.
      if (name.find('\xff') != std::string::npos && std::string_view(sql).starts_with("UPDATE")) continue;
      SQLite::Statement statement(db, sql);
      statement.bind(1, name);
      statement.exec();
    }
  }
  for (const char* sql :
       {"INSERT INTO equivariance (run, attempt, step, block, \"group\", error, floor, ratio) SELECT run, 1, 10, "
        "block, role, 0.1, 0.1, 1 FROM blocks",
        "UPDATE attempts SET device = '<script>', environment = '{\"commit\":\"=<script>\"}'"})
    testing::change_sweep(folder_ / "sweep.db", sql);
  write_report(folder_ / "sweep.db", folder_ / "report");
  const auto files = all_files(folder_ / "report");
  for (const auto& [name, content] : files) {
    EXPECT_TRUE(std::all_of(name.begin(), name.end(), [](char c) {
      return std::islower(c) || std::isdigit(c) || c == '-' || c == '_' || c == '.' || c == '/';
    })) << name;
    EXPECT_EQ(name.find(".."), std::string::npos);
    if (name.ends_with(".pdf") || name.ends_with(".png")) continue;
    EXPECT_TRUE(std::all_of(content.begin(), content.end(), [](char c) {
      return c == '\n' || c == '\t' || c < 0 || (c >= 0x20 && c != 0x7f);
    })) << name;
    if (name.ends_with(".csv")) {
      for (std::size_t at = 0; at < content.size(); ++at) {
        const bool begins = at == 0 || content[at - 1] == '\n' || content[at - 1] == ',';
        const std::size_t text = begins && content[at] == '"' ? at + 1 : at;
        if (begins) {
          EXPECT_EQ(std::string("=+@").find(content[text]), std::string::npos) << name << ": " << content.substr(at, 40);
        }
      }
    } else if (name != "manifest.json") {
      for (const std::string tag : {"<script", "<img", "</pre><"}) {
        for (std::size_t at = 0; (at = content.find(tag, at)) != std::string::npos; ++at) {
          // An indented line of Markdown is code: shown as it is.
          const std::size_t line = content.rfind('\n', at) + 1;
          EXPECT_TRUE(name == "report.md" && content.compare(line, 4, "    ") == 0) << tag << " in " << name;
        }
      }
    }
  }
  const std::string& svg = files.at("figures/lr-script-m-script.svg");
  EXPECT_EQ(svg.find("</svg>"), svg.rfind("</svg>"));
  EXPECT_EQ(files.at("report.md").find("[x](javascript"), std::string::npos);
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) EXPECT_NE(entry.path().filename(), "pwned");
  const std::string terminal = report_summary(folder_ / "sweep.db");
  EXPECT_EQ(terminal.find('\x1b'), std::string::npos);
}

TEST(LongTables, AreCutInDocumentsAndWholeAsCsv) {
  Table table{.id = "runs", .caption = "c", .columns = {{.title = "Job", .csv_name = "job"}}, .rows = {}};
  for (std::size_t i = 1; i <= kShownRows + 3; ++i) table.rows.push_back({text("job" + std::to_string(i) + "x")});
  Document document{
      .title = "t", .subtitle = {}, .sections = {{"runs", "All runs", {table}}}, .baseline = {}, .stacks = {}, .svg = {}};
  const std::string last = "job" + std::to_string(kShownRows) + "x", cut = "job" + std::to_string(kShownRows + 1) + "x";
  for (const std::string& shown : {write_html(document), write_markdown(document)}) {
    EXPECT_NE(shown.find(last), std::string::npos);
    EXPECT_EQ(shown.find(cut), std::string::npos);
    EXPECT_NE(shown.find("Rows 1 to 500 of 503; tables/runs.csv has all."), std::string::npos);
  }
  EXPECT_NE(write_csv(table).find("job" + std::to_string(kShownRows + 3)), std::string::npos);
  document.links_csv = false;
  EXPECT_EQ(write_html(document).find("tables/runs.csv"), std::string::npos) << "a file that is not there";
}

TEST(Escape, EachSink) {
  EXPECT_EQ(visible("a\tb\x1b"
                    "c"),
            "a\\x09b\\x1bc");
  EXPECT_EQ(visible("\xff"
                    "ok"),
            "\\xffok");
  EXPECT_EQ(visible("\xE2\x80\xAE"), "\\xe2\\x80\\xae");
  EXPECT_EQ(visible("größe"), "größe");
  EXPECT_EQ(visible("abcdef", 3), "abc…");
  EXPECT_EQ(html_escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(csv_text("=1+1"), "\"'=1+1\"");
  EXPECT_EQ(csv_text("-x"), "\"'-x\"");
  EXPECT_EQ(csv_text("a,\"b\""), "\"a,\"\"b\"\"\"");
  EXPECT_EQ(csv_text("plain-name_1"), "plain-name_1");
  EXPECT_EQ(gnuplot_string("it's\n"), "'it’s\\x0a'");
  EXPECT_EQ(markdown_escape("a|b*c"), "a\\|b\\*c");
  EXPECT_EQ(file_stem("../../etc/passwd"), "etc-passwd");
  EXPECT_EQ(file_stem("\n"), "unnamed");
}

}  // namespace test_report_files
}  // namespace equisweep
