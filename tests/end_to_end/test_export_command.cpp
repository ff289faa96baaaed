// `equisweep export` and `equisweep report --strict` through the real program, on made-up sweeps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/process.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_export_command {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

FixtureRun tuned_run(const char* phase, const std::string& stack, double lr_scale, std::int64_t seed, double loss) {
  return {.stack = stack,
          .baseline = stack == "base",
          .lr_scale = lr_scale,
          .seed = seed,
          .evals = {{0, 6.0}, {100, 5.0}, {200, loss}},
          .phase = phase};
}

/// Learning rates tuned alike, confirmed on three fresh seeds each, from one commit on one machine.
void write_fair_sweep(const fs::path& sweep_db) {
  FixtureSweep sweep;
  for (const std::string stack : {"base", "new"}) {
    for (const double scale : {0.5, 1.0, 2.0})
      sweep.runs.push_back(tuned_run("tune", stack, scale, 0, scale == 1 ? 4.0 : 4.5));
    for (const std::int64_t seed : {10, 11, 12})
      sweep.runs.push_back(tuned_run("confirm", stack, 1, seed, 4.0 + 0.01 * static_cast<double>(seed)));
  }
  write_sweep(sweep_db, sweep);
  change_sweep(sweep_db,
               "UPDATE attempts SET environment = '{\"commit\":\"abc\",\"modified\":false,\"cpu\":\"made up\"}';"
               "INSERT INTO steps (run, attempt, step, tokens, seconds, loss, step_seconds, optimizer_seconds, "
               "diagnostics_seconds) SELECT run, 1, 1, 100, 0.1, 5.0, 0.1, 0.02, 0 FROM runs;");
}

class MadeUpSweep : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(sweep());
    write_fair_sweep(sweep() / "sweep.db");
  }
  fs::path sweep() const { return folder_.path() / "results/fair"; }
  ProcessResult equisweep(std::vector<std::string> args) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), {{"NO_COLOR", "1"}});
  }
  TempFolder folder_;
};

TEST_F(MadeUpSweep, ExportsInEveryFormat) {
  for (const std::string format : {"csv", "jsonl", "tensorboard"}) {
    const ProcessResult result = equisweep({"export", format, "fair", "out-" + format});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("out-" + format + ": "));
    EXPECT_THAT(result.err, IsEmpty()) << "progress is for terminals";
  }
  EXPECT_TRUE(fs::exists(folder_.path() / "out-csv/steps.csv"));
  EXPECT_TRUE(fs::exists(folder_.path() / "out-jsonl/steps.jsonl"));
  EXPECT_TRUE(fs::exists(folder_.path() / "out-tensorboard/runs.csv"));
  EXPECT_THAT(equisweep({"export", "--help"}).out, HasSubstr("equisweep export csv demo demo-tables"));
}

TEST_F(MadeUpSweep, ExportSaysWhatIsWrong) {
  fs::create_directory(folder_.path() / "full");
  write_text(folder_.path() / "full/mine", "keep");
  const ProcessResult full = equisweep({"export", "csv", "fair", "full"});
  EXPECT_EQ(full.exit_code, 2);
  EXPECT_THAT(full.err, HasSubstr("exists and is not empty"));
  const ProcessResult none = equisweep({"export", "csv", "fairr", "out"});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.err, HasSubstr("did you mean 'fair'?"));
  EXPECT_EQ(equisweep({"export", "excel", "fair", "out"}).exit_code, 2);
  EXPECT_EQ(equisweep({"export", "csv", "fair"}).exit_code, 2);
  change_sweep(sweep() / "sweep.db", "PRAGMA user_version = 99");
  EXPECT_EQ(equisweep({"export", "csv", "fair", "out"}).exit_code, 5);
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
}

TEST_F(MadeUpSweep, AStrictReportOfAFairSweepIsWritten) {
  const ProcessResult result = equisweep({"report", "fair", "--strict", "--format", "csv"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(sweep() / "report/tables/main.csv"));
}

TEST_F(MadeUpSweep, AStrictReportOfAnUnfairSweepIsRefusedWithEveryReason) {
  change_sweep(sweep() / "sweep.db",
               "DELETE FROM cells WHERE cell = 12; UPDATE runs SET config = json_set(config, '$.train.precision', "
               "'bf16' || char(27) || '[31m') WHERE run = 11");
  const ProcessResult result = equisweep({"report", "fair", "--strict"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.err, HasSubstr("At least 3 seeds: new on m: 2 seeds"));
  EXPECT_THAT(result.err, HasSubstr("Same precision: "));
  EXPECT_THAT(result.err, HasSubstr("no report is written"));
  EXPECT_EQ(result.err.find('\x1b'), std::string::npos);
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_FALSE(fs::exists(sweep() / "report"));
  EXPECT_EQ(equisweep({"report", "fair", "--format", "csv"}).exit_code, 0) << "without --strict the reasons stand in it";
}

TEST_F(MadeUpSweep, ReportTakesABootstrapWithinItsBounds) {
  const ProcessResult result =
      equisweep({"report", "fair", "--format", "md", "--bootstrap", "500", "--bootstrap-seed", "3"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(read_text(sweep() / "report/report.md"), HasSubstr("500 resamples of the seeds, from seed 3"));
  for (const char* resamples : {"99", "1000001"})
    EXPECT_EQ(equisweep({"report", "fair", "--bootstrap", resamples}).exit_code, 2) << resamples;
  EXPECT_EQ(equisweep({"report", "fair", "--bootstrap-seed", "3"}).exit_code, 2) << "the seed of nothing";
}

}  // namespace test_export_command
}  // namespace equisweep::testing
