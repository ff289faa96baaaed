// The whole road through the real program: sweep file -> jobs -> workers -> databases -> report.

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/shard_bytes.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_first_light {

constexpr const char* kSweep = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 16, batch_tokens: 128, seed: 1}
train: {steps: 12, precision: fp32, eval: {every: 6, tokens: 256}}
model: {vocab: 61, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}
grid:
  model: qwen3-nano
  stack: [adamw, muon]
  seed: [0]
stacks:
  adamw:
    baseline: true
    default: {rule: adamw, lr: 3e-3}
  muon:
    default: {rule: adamw, lr: 3e-3}
    matrix:  {rule: muon, lr: 0.02}
log: {spectral: {every: 4}}
)";

class FirstLight : public ::testing::Test {
 protected:
  void SetUp() override { write_text(folder_.path() / "small.yaml", kSweep); }

  ProcessResult equisweep(std::vector<std::string> args) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), {{"NO_COLOR", "1"}});
  }

  std::unique_ptr<SQLite::Database> database() const { return open_read_only(folder_.path() / "results/small/sweep.db"); }

  static std::string text(SQLite::Database& db, const std::string& sql) {
    SQLite::Statement q(db, sql);
    std::string out;
    while (q.executeStep()) {
      for (int c = 0; c < q.getColumnCount(); ++c) out += (c ? "|" : "") + q.getColumn(c).getString();
      out += "\n";
    }
    return out;
  }

  TempFolder folder_;
};

TEST_F(FirstLight, SweepRunsAndItsDatabaseHoldsEveryStep) {
  const ProcessResult run = equisweep({"run", "small.yaml"});
  ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
  const auto db = database();
  EXPECT_EQ(text(*db, "SELECT stack, state, step FROM final_losses ORDER BY cell"), "adamw|done|12\nmuon|done|12\n");
  EXPECT_EQ(text(*db, "SELECT count(*), min(step), max(step), min(tokens), max(tokens) FROM loss_curve"),
            "24|1|12|128|1536\n");
  EXPECT_EQ(text(*db, "SELECT group_concat(DISTINCT step) FROM (SELECT step FROM eval_curve ORDER BY step)"), "0,6,12\n");
  EXPECT_EQ(text(*db, "SELECT count(*) FROM loss_curve WHERE nonfinite <> 0 OR loss IS NULL OR NOT (loss BETWEEN 0 AND 8)"),
            "0\n");
  // embedding, head, final norm, and of the one block 4 + 3 matrices, 2 + 2 gains: each at steps 1, 4, 8, 12
  EXPECT_EQ(text(*db, "SELECT count(*) FROM blocks WHERE run = 1"), "14\n");
  EXPECT_EQ(text(*db, "SELECT count(*) FROM block_stats WHERE spectral_norm > 0"),
            text(*db, "SELECT count(*) * 4 FROM blocks"));
  // Same seed: the weights before step 1 and the first batch are the same whatever the stack, so the first losses are
  // bitwise equal.
  EXPECT_EQ(text(*db, "SELECT count(DISTINCT loss) FROM loss_curve WHERE step = 1"), "1\n");
  EXPECT_EQ(text(*db, "SELECT count(DISTINCT loss) FROM loss_curve WHERE step = 3"), "2\n");
  // An untrained model knows nothing: the loss is close to log(vocabulary).
  SQLite::Statement first(*db, "SELECT avg(loss) FROM eval_curve WHERE step = 0");
  ASSERT_TRUE(first.executeStep());
  EXPECT_NEAR(first.getColumn(0).getDouble(), std::log(61.0), 0.05);
}

TEST_F(FirstLight, RunAgainSkipsWhatIsDoneAndRunsOnlyWhatIsNew) {
  ASSERT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  const std::string before = text(*database(), "SELECT job, attempt FROM runs ORDER BY job");
  ASSERT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  EXPECT_EQ(text(*database(), "SELECT job, attempt FROM runs ORDER BY job"), before);
  const ProcessResult more = equisweep({"run", "small.yaml", "--set", "grid.seed=[0, 1]"});
  ASSERT_EQ(more.exit_code, 0) << more.err;
  EXPECT_EQ(text(*database(), "SELECT state, attempt, count(*) FROM runs GROUP BY 1, 2"), "done|1|4\n");
}

TEST_F(FirstLight, SameConfigGivesBitwiseTheSameLosses) {
  ASSERT_EQ(equisweep({"run", "small.yaml", "--results", "a", "--jobs", "1"}).exit_code, 0);
  ASSERT_EQ(equisweep({"run", "small.yaml", "--results", "b", "--jobs", "1"}).exit_code, 0);
  const auto losses = [&](const char* results) {
    const auto db = open_read_only(folder_.path() / results / "small/sweep.db");
    return text(*db, "SELECT job, step, printf('%.17g', loss) FROM loss_curve JOIN runs USING (run) ORDER BY job, step");
  };
  EXPECT_EQ(losses("a"), losses("b"));
}

TEST_F(FirstLight, DivergedRunIsAResultAndStopsBeforeTheUpdate) {
  const ProcessResult run =
      equisweep({"run", "small.yaml", "--set", "stacks.muon.matrix.lr=1e30", "--set", "train.grad_clip=0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(text(*database(), "SELECT stack, state FROM final_losses ORDER BY cell"), "adamw|done\nmuon|diverged\n");
  EXPECT_EQ(text(*database(), "SELECT count(*) FROM events WHERE kind = 'diverged'"), "1\n");
  // NaN has a sign, which says nothing; and no loss is shown for a step that had none.
  const std::string why = text(*database(), "SELECT message FROM runs WHERE state = 'diverged'");
  EXPECT_TRUE(why.starts_with("loss is nan at step ") || why.starts_with("gradient norm is ")) << why;
  EXPECT_EQ(why.find(" -nan"), std::string::npos) << why;
  EXPECT_EQ(run.err.find(" -nan"), std::string::npos) << run.err;
  EXPECT_EQ(run.err.find("loss 0.0000"), std::string::npos) << run.err;
}

TEST_F(FirstLight, FailedJobLeavesItsNeighboursAlone) {
  // Token 600 is beyond the 512 of qwen3-nano, but not beyond the 2048 of qwen3-tiny.
  std::filesystem::create_directory(folder_.path() / "corpus");
  write_text(folder_.path() / "corpus/train.bin", shard_of(4000, [](std::int32_t i) { return i == 77 ? 600 : i % 50; }));
  write_text(folder_.path() / "corpus/val.bin", shard_of(1000, [](std::int32_t i) { return i % 50; }));
  std::string sweep = kSweep;
  sweep.replace(sweep.find("vocab: 61, "), 11, "");
  sweep.replace(sweep.find("synthetic"), 9, "./corpus");
  write_text(folder_.path() / "small.yaml", sweep);
  const ProcessResult run = equisweep({"run", "small.yaml", "--set", "grid.model=[qwen3-nano, qwen3-tiny]"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  EXPECT_EQ(text(*database(), "SELECT model, state, count(*) FROM final_losses GROUP BY 1, 2"),
            "qwen3-nano|failed|2\nqwen3-tiny|done|2\n");
  const std::string why = text(*database(), "SELECT message FROM runs WHERE state = 'failed' LIMIT 1");
  EXPECT_NE(why.find("train.bin"), std::string::npos) << why;
  EXPECT_NE(why.find("600"), std::string::npos) << why;
  EXPECT_NE(why.find("1178"), std::string::npos) << why;  // the byte offset: 1024 + 77 * 2
}

TEST_F(FirstLight, ReportIsWrittenFromTheDatabase) {
  ASSERT_EQ(equisweep({"run", "small.yaml", "--set", "grid.seed=[0, 1]", "--set", "grid.lr_scale=[0.5, 1]"}).exit_code, 0);
  const ProcessResult report = equisweep({"report", "small"});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  const auto out = folder_.path() / "results/small/report";
  for (const char* file : {"index.html", "report.md", "manifest.json"})
    EXPECT_GT(read_text(out / file).size(), 100u) << file;
  EXPECT_NE(read_text(out / "report.md").find("muon"), std::string::npos);
}

TEST_F(FirstLight, MistakesAreRefusedWithExitCodeTwoBeforeAnythingStarts) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"validate", "small.yaml", "--set", "grid.model=qwen4-nano"}, "qwen4-nano"},
      {{"run", "small.yaml", "--set", "stacks.muon.matrix.rule=mouon"}, "mouon"},
      {{"run", "small.yaml", "--set", "stacks.adamw.default.lr=nan"}, "nan"},
      {{"run", "small.yaml", "--set", "train.stepz=3"}, "stepz"},
      {{"run", "small.yaml", "--no-such-option"}, "no-such-option"},
      {{"run", "absent.yaml"}, "absent.yaml"}};
  for (const auto& [args, mention] : cases) {
    const ProcessResult r = equisweep(args);
    EXPECT_EQ(r.exit_code, 2) << mention;
    EXPECT_NE((r.out + r.err).find(mention), std::string::npos) << r.err;
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "results/small"));
}

TEST_F(FirstLight, UnknownSweepMatchesNothing) { EXPECT_EQ(equisweep({"report", "no-such-sweep"}).exit_code, 3); }

}  // namespace test_first_light
}  // namespace equisweep::testing
