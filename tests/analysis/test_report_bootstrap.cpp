// `report --bootstrap`: the same interval wherever it stands, the same bytes twice, and tests that stay Student's.
#include <gmock/gmock.h>

#include <fstream>
#include <iterator>

#include "analysis/report/format.h"
#include "analysis/report/report.h"
#include "tests/analysis/report_tables.h"

namespace equisweep {
namespace test_report_bootstrap {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr IntervalMethod kResampled{.resamples = 2000, .seed = 5};
const std::vector<double> kBase = {3.50, 3.52, 3.57, 3.49}, kNew = {3.40, 3.45, 3.47, 3.36};

testing::FixtureSweep two_stacks() {
  testing::FixtureSweep sweep;
  for (std::size_t seed = 0; seed < kBase.size(); ++seed)
    for (const bool baseline : {true, false})
      sweep.runs.push_back({.stack = baseline ? "base" : "new",
                            .baseline = baseline,
                            .seed = static_cast<std::int64_t>(seed),
                            .evals = {{0, 6.0}, {100, baseline ? kBase[seed] : kNew[seed]}}});
  return sweep;
}

class ReportBootstrap : public SweepFolder {
 protected:
  /// A section's content with intervals made by `method`.
  Content content(Content (*section)(const SectionInput&), const IntervalMethod& method) {
    ReportData data(database(two_stacks()));
    data.intervals = method;
    const auto results = compare(data);
    return section({data, results});
  }
  std::string file(const std::string& name) {
    std::ifstream in(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(ReportBootstrap, TheMainTableAndTheVerdictHaveTheBoundsOfTheSameInterval) {
  const Table main = table_of(content(main_table_section, kResampled));
  const Bounds base = bootstrap_mean(kBase, kResampled);
  EXPECT_EQ(number_at(main, 0, "low_nats"), base.low);
  EXPECT_EQ(number_at(main, 0, "high_nats"), base.high);
  EXPECT_EQ(shown_at(main, 0, "half_width_nats"), fixed(base.low, 4) + " to " + fixed(base.high, 4));
  EXPECT_THAT(main.caption, HasSubstr("and 95% bootstrap interval (BCa, 2000 resamples, seed 5)"));

  std::vector<double> differences;
  for (std::size_t i = 0; i < kBase.size(); ++i) differences.push_back(kNew[i] - kBase[i]);
  const Bounds d = bootstrap_mean(differences, kResampled);
  const Content verdict = content(verdict_section, kResampled);
  const Table table = table_of(verdict);
  EXPECT_EQ(number_at(table, 0, "low_nats"), d.low);
  EXPECT_EQ(number_at(table, 0, "high_nats"), d.high);
  const std::string words = std::get<Paragraph>(verdict.front()).text;
  EXPECT_THAT(words, HasSubstr("95% interval " + fixed(-d.high, 4) + " to " + fixed(-d.low, 4) + ", paired by seed"));
  EXPECT_THAT(words, HasSubstr(fixed(base.low, 4) + " to " + fixed(base.high, 4)));

  const Table student = table_of(content(verdict_section, {}));
  EXPECT_EQ(number_at(student, 0, "p_holm"), number_at(table, 0, "p_holm"));
  EXPECT_NEAR(number_at(student, 0, "high_nats") - number_at(student, 0, "difference_nats"),
              number_at(student, 0, "half_width_nats"), 1e-12);
}

TEST_F(ReportBootstrap, TheMethodSaysHowAndFromWhichSeed) {
  const auto formulas = [&](const IntervalMethod& method) {
    const Content section = content(method_section, method);
    std::string all;
    for (const std::string& item : std::get<List>(section.front()).items) all += item + "\n";
    return all;
  };
  EXPECT_THAT(formulas(kResampled), HasSubstr("2000 resamples of the seeds, from seed 5"));
  EXPECT_THAT(formulas({}), HasSubstr("Intervals: mean ± t(0.975; n − 1)"));
  EXPECT_THAT(formulas({}), Not(HasSubstr("bootstrap")));
}

TEST_F(ReportBootstrap, TheSameBytesTwiceAndOthersFromAnotherSeed) {
  const auto sweep_db = database(two_stacks());
  const auto write = [&](const std::string& name, const IntervalMethod& method) {
    write_report(sweep_db, folder_ / name, {.figures = false, .intervals = method});
    return file(name + "/manifest.json");
  };
  EXPECT_EQ(write("first", kResampled), write("second", kResampled));
  EXPECT_NE(file("first/manifest.json"), write("third", {.resamples = 2000, .seed = 6}));
  EXPECT_THAT(report_summary(sweep_db, 100, kResampled), HasSubstr("95% interval"));
}

}  // namespace test_report_bootstrap
}  // namespace equisweep
