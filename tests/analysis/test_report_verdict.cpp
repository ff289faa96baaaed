// The verdict of several models: one sentence for all comparisons, then a paragraph a model, the same in every format.
#include <gmock/gmock.h>

#include <algorithm>

#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"
#include "tests/support/process.h"

namespace equisweep {
namespace test_report_verdict {

using testing::FixtureRun;
using testing::FixtureSweep;
using ::testing::HasSubstr;
using ::testing::StartsWith;

void add(FixtureSweep& sweep, const std::string& model, const std::string& stack, double loss, double noise = 0.001) {
  for (const int seed : {0, 1, 2})
    sweep.runs.push_back({.model = model,
                          .stack = stack,
                          .baseline = stack == "base",
                          .seed = seed,
                          .evals = {{0, 6}, {100, 5}, {200, loss + noise * (seed == 1 ? 2 : seed)}}});
}

// On a: up is better, down worse, none is lost. On b: up is better, down noisy.
FixtureSweep two_models() {
  FixtureSweep sweep;
  add(sweep, "a", "base", 4), add(sweep, "a", "up", 3.5), add(sweep, "a", "down", 4.5), add(sweep, "a", "none", 4);
  add(sweep, "b", "base", 4), add(sweep, "b", "up", 3.4), add(sweep, "b", "down", 4, 0.5);
  for (std::size_t i = 9; i < 12; ++i) sweep.runs[i].state = "diverged";
  // Differences that vary with the seed, or t would be infinite.
  for (FixtureRun& run : sweep.runs)
    if (run.stack != "base") run.evals[2].second += 0.0001 * static_cast<double>(run.seed * run.seed);
  return sweep;
}

class ReportVerdict : public SweepFolder {
 protected:
  std::vector<std::string> paragraphs(const FixtureSweep& sweep) {
    const ReportData data(database(sweep));
    const auto results = compare(data);
    return verdict_paragraphs({data, results});
  }
};

TEST_F(ReportVerdict, OpensWithWhatAllComparisonsCameTo) {
  const auto found = paragraphs(two_models());
  ASSERT_EQ(found.size(), 4U);
  EXPECT_EQ(
      found[0],
      "Of 5 comparisons with the baseline base (3 stacks, 2 models, n = 3), 2 are better, 1 is worse, 1 is not "
      "distinguishable and 1 allows no claim, at a level of 0.05 after Holm's correction for 4 tests. Better: up (a, b). "
      "Worse: down (a).");
  EXPECT_THAT(found[1], StartsWith("On a, the base baseline"));
  EXPECT_THAT(found[1], HasSubstr("No claim about none: no run ended with a finite loss."));
  EXPECT_THAT(found[2], StartsWith("On b, the base baseline"));
  EXPECT_THAT(found[3], StartsWith("The lowest mean loss, 3.4"));
  for (const std::string& paragraph : found) {
    EXPECT_EQ(paragraph.find("  "), std::string::npos) << paragraph;
    EXPECT_NE(paragraph.front(), ' ');
    EXPECT_EQ(paragraph.back(), '.');
  }
}

TEST_F(ReportVerdict, AStackOfATunedSweepThatIsNotConfirmedIsNoClaim) {
  FixtureSweep sweep = two_models();
  for (FixtureRun& run : sweep.runs) run.phase = run.model == "b" && run.stack == "down" ? "tune" : "confirm";
  for (const char* stack : {"base", "up"})
    for (const double scale : {1.0, 2.0})
      sweep.runs.push_back({.model = "b",
                            .stack = stack,
                            .baseline = stack == std::string("base"),
                            .lr_scale = scale,
                            .seed = 9,
                            .evals = {{0, 6}, {200, 4 + scale}},
                            .phase = "tune"});
  const auto found = paragraphs(sweep);
  EXPECT_THAT(found.at(0), StartsWith("Of 5 comparisons with the tuned base (3 stacks, 2 models, n = 3), 2 are better, 1 is "
                                      "worse and 2 allow no claim"));
  EXPECT_THAT(found.at(2), HasSubstr("No claim about down on b: its learning rate is still being chosen."));
}

TEST_F(ReportVerdict, OneComparisonIsOneParagraphAndNoneSaysSo) {
  FixtureSweep sweep;
  add(sweep, "a", "base", 4), add(sweep, "a", "up", 3.5);
  EXPECT_EQ(paragraphs(sweep).size(), 1U);
  sweep.runs.resize(3);
  EXPECT_EQ(paragraphs(sweep).size(), 1U);
  add(sweep, "b", "base", 4);
  EXPECT_EQ(paragraphs(sweep).at(0), "Nothing to compare with base yet.");
}

TEST_F(ReportVerdict, IsTheSameInEveryFormatAndOnTheTerminal) {
  const auto found = paragraphs(two_models());
  const auto path = folder_ / "sweep.db";
  write_report(path, folder_ / "report", {.figures = false});
  const std::string page = testing::read_text(folder_ / "report/index.html");
  const std::string markdown = testing::read_text(folder_ / "report/report.md");
  const std::string terminal = report_summary(path, 80);
  EXPECT_THAT(page, HasSubstr("<p class=\"lead\">Of 5 comparisons"));
  EXPECT_THAT(page, HasSubstr("<p>On b, the base baseline"));
  EXPECT_THAT(markdown, HasSubstr("> Of 5 comparisons"));
  EXPECT_THAT(markdown, HasSubstr("\n\nOn b, the base baseline"));
  EXPECT_THAT(terminal, HasSubstr("\n\nOn b, the base baseline"));
  std::string joined;
  for (const std::string& paragraph : found) joined += paragraph + " ";
  std::string unwrapped = terminal.substr(terminal.find("Of 5 comparisons"));
  for (std::size_t at = 0; (at = unwrapped.find('\n', at)) != std::string::npos;) {
    if (unwrapped[at + 1] == '\n') unwrapped.erase(at, 1);
    unwrapped[at] = ' ';
  }
  EXPECT_EQ(unwrapped, joined);
  for (std::size_t begin = 0; begin < terminal.size();) {
    const std::size_t end = terminal.find('\n', begin);
    const auto columns =
        std::count_if(terminal.begin() + static_cast<std::ptrdiff_t>(begin),
                      terminal.begin() + static_cast<std::ptrdiff_t>(end), [](char c) { return (c & 0xC0) != 0x80; });
    if (begin >= terminal.find("Of 5 comparisons")) {
      EXPECT_LE(columns, 80) << terminal.substr(begin, end - begin);
    }
    begin = end + 1;
  }
}

}  // namespace test_report_verdict
}  // namespace equisweep
