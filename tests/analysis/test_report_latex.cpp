// Tables for papers: no name of a user is a command, and pdfLaTeX takes them where it is installed.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/writers.h"
#include "tests/support/temp_folder.h"

namespace equisweep {
namespace test_report_latex {

Table hostile_table() {
  Table table{.id = "hostile",
              .caption = "A caption of 100% & more_than $x^2$",
              .columns = {{.title = "Name", .csv_name = "name"},
                          {.title = "Loss ± 95%", .numeric = true, .csv_name = "loss"},
                          {.title = "Secret", .csv_name = "secret", .hidden = true}},
              .rows = {},
              .notes = {"1 – α: −0.5 × ∞ → √2 …"}};
  for (const std::string name : {"\\input{/etc/passwd}", "\\write18{touch pwned}", "}\\end{table}", "a & b \\\\ c",
                                 "% rest is gone", "$x_1^2$", "#1 ~ ^^M", "--- dashes", "[optional]", "*starred",
                                 "\"quoted\" `ticks'", "größe 中文 Ωμέγα", "|x|<y>", "\xff\x01 bytes"}) {
    table.rows.push_back({text(name), number(-3.25, 2), text("hidden")});
    table.rows.back()[1].strong = true;
  }
  return table;
}

TEST(Latex, EveryCommandIsOneOfOurs) {
  const std::string tex = write_latex(hostile_table());
  const std::set<std::string> ours = {
      "usepackage",      "begin",    "end",         "centering",   "caption",        "label",
      "toprule",         "midrule",  "bottomrule",  "textbf",      "textbackslash",  "textasciitilde",
      "textasciicircum", "textless", "textgreater", "textbar",     "textasciigrave", "pm",
      "times",           "infty",    "to",          "surd",        "dots",           "par",
      "smallskip",       "parbox",   "linewidth",   "footnotesize"};
  std::size_t depth = 0;
  for (std::size_t i = 0; i < tex.size(); ++i) {
    EXPECT_LT(static_cast<unsigned char>(tex[i]), 0x80) << "nothing that needs a package for its letters";
    if (tex[i] == '\\') {
      std::size_t end = i + 1;
      while (end < tex.size() && std::isalpha(static_cast<unsigned char>(tex[end]))) ++end;
      if (end > i + 1) {
        EXPECT_TRUE(ours.contains(tex.substr(i + 1, end - i - 1))) << tex.substr(i, 30);
        i = end - 1;
      } else {
        EXPECT_NE(std::string("\\{}$&#_%,").find(tex[++i]), std::string::npos) << tex.substr(i - 1, 10);
      }
    } else if (tex[i] == '{') {
      ++depth;
    } else if (tex[i] == '}') {
      ASSERT_GT(depth--, 0U);
    } else {
      // The first line is a comment; columns are parted by &; signs stand in mathematics.
      EXPECT_EQ(std::string("~^_#").find(tex[i]), std::string::npos) << tex.substr(i, 20);
      EXPECT_TRUE(tex[i] != '%' || i == 0);
    }
  }
  EXPECT_EQ(depth, 0U);
  EXPECT_EQ(tex.find("hidden"), std::string::npos);
  EXPECT_NE(tex.find("\\textbf{$-$3.25} \\\\\n"), std::string::npos);
  EXPECT_NE(tex.find("\\begin{tabular}{@{}lr@{}}"), std::string::npos);
  EXPECT_EQ(latex_escape("a--b"), "a-{}-{}b");
  EXPECT_EQ(latex_escape("[x] *"), "{[}x{]} {*}");
}

// Where there is no pdfLaTeX the test above is what there is.
TEST(Latex, PdfLatexTakesATable) {
  if (std::system("command -v pdflatex > /dev/null 2>&1") != 0) GTEST_SKIP() << "pdflatex is not installed";
  const TempFolder folder;
  std::ofstream(folder / "table.tex") << write_latex(hostile_table());
  std::ofstream(folder / "paper.tex")
      << "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}\n";
  const std::string command =
      "cd '" + (folder / "").string() + "' && pdflatex -halt-on-error -no-shell-escape paper > log 2>&1";
  const int status = std::system(command.c_str());
  std::ifstream log(folder / "log");
  EXPECT_EQ(WEXITSTATUS(status), 0) << std::string(std::istreambuf_iterator<char>(log), {});
  EXPECT_TRUE(std::filesystem::exists(folder / "paper.pdf"));
}

}  // namespace test_report_latex
}  // namespace equisweep
