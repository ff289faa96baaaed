// `equisweep report A B`: where it writes, what it refuses and with which exit code.
#include <gmock/gmock.h>

#include "tests/support/process.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_report_several {

using ::testing::HasSubstr;

class ReportSeveral : public ::testing::Test {
 protected:
  void SetUp() override {
    write("a", {"base", "muon"}, "");
    write("b", {"scion"}, "");
    write("longer", {"scion"}, "UPDATE runs SET config = json_set(config, '$.train.steps', 900)");
  }

  void write(const std::string& name, const std::vector<std::string>& stacks, const std::string& sql) {
    FixtureSweep sweep;
    sweep.meta = {{"name", name}};
    for (const std::string& stack : stacks)
      for (const std::int64_t seed : {0, 1, 2})
        sweep.runs.push_back({.stack = stack,
                              .baseline = stack == "base",
                              .seed = seed,
                              .evals = {{0, 6}, {300, 4 - 0.01 * static_cast<double>(seed)}}});
    std::filesystem::create_directories(folder_.path() / "results" / name);
    write_sweep(folder_.path() / "results" / name / "sweep.db", sweep);
    if (!sql.empty()) change_sweep(folder_.path() / "results" / name / "sweep.db", sql);
  }

  ProcessResult report(std::vector<std::string> words) {
    words.insert(words.begin(), {EQUISWEEP_PROGRAM, "report", "--format", "md"});
    return run_process(words, folder_.path());
  }

  TempFolder folder_;
};

TEST_F(ReportSeveral, WritesOnePageOfBothIntoTheFolderOfTheFirst) {
  const ProcessResult r = report({"a", "b"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("scion"));
  EXPECT_THAT(read_text(folder_.path() / "results/a/report-with-b/report.md"),
              HasSubstr("This report joins the sweeps a, b."));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "results/a/report"));
  EXPECT_EQ(report({"a", "b", "a", "--out", "all"}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "all/report.md"));
}

TEST_F(ReportSeveral, RefusesSweepsThatDoNotCompare) {
  const ProcessResult refused = report({"a", "longer"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_THAT(refused.err, HasSubstr("train.steps: 300 in a and 900 in longer"));
  EXPECT_THAT(refused.err, HasSubstr("--mix"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "results/a/report-with-longer"));
  EXPECT_EQ(report({"a", "longer", "--mix"}).exit_code, 0);
  const ProcessResult unknown = report({"a", "b", "--baseline", "sciom"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'scion'?"));
  EXPECT_EQ(report({"a", "absent"}).exit_code, 3);
}

}  // namespace test_report_several
}  // namespace equisweep::testing
