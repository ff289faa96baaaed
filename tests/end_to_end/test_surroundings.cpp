// What surrounds the program must not show in its results: a clock that jumps, another time zone, a locale with comma
// decimals. And what the commands that steer a sweep answer.

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_surroundings {

using ::testing::HasSubstr;

constexpr const char* kSurroundingsSweep = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 16, batch_tokens: 128, seed: 1}
train: {steps: 6, precision: fp32, eval: {every: 3, tokens: 256}}
model: {vocab: 61, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}
grid:
  model: qwen3-nano
  stack: adamw
  lr_scale: [0.5, 1.5]
  seed: [0]
stacks:
  adamw:
    baseline: true
    default: {rule: adamw, lr: 3.5e-3}
)";

class Surroundings : public ::testing::Test {
 protected:
  using Environment = std::map<std::string, std::string>;
  void SetUp() override { write_text(folder_.path() / "small.yaml", kSurroundingsSweep); }

  ProcessResult equisweep(std::vector<std::string> args, const Environment& environment = {}) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), environment);
  }
  std::string rows(const std::string& results, const std::string& sql) const {
    const auto db = open_read_only(folder_.path() / results / "small/sweep.db");
    SQLite::Statement q(*db, sql);
    std::string out;
    while (q.executeStep()) {
      for (int c = 0; c < q.getColumnCount(); ++c) out += q.getColumn(c).getString() + "|";
      out += "\n";
    }
    return out;
  }

  TempFolder folder_;
};

/// Surroundings as odd as they get. The locale is made here where the machine can make one; where it cannot, the variable is
/// set all the same.
std::map<std::string, std::string> odd_surroundings(const std::filesystem::path& folder) {
  if (std::filesystem::exists("/usr/share/i18n/locales/de_DE") && std::filesystem::exists("/usr/bin/localedef"))
    run_process({"/usr/bin/localedef", "-i", "de_DE", "-f", "UTF-8", (folder / "de_DE.UTF-8").string()}, folder);
  return {{"LOCPATH", folder.string()},
          {"LC_ALL", "de_DE.UTF-8"},
          {"LANG", "de_DE.UTF-8"},
          {"TZ", "Pacific/Kiritimati"},
          {"LD_PRELOAD", EQUISWEEP_JUMPING_CLOCK},
          {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
}

TEST_F(Surroundings, NumbersHashesAndOrderAreTheSame) {
  const Environment odd = odd_surroundings(folder_.path());
  const ProcessResult plain_plan = equisweep({"plan", "small.yaml", "--json"}),
                      odd_plan = equisweep({"plan", "small.yaml", "--json"}, odd);
  EXPECT_EQ(plain_plan.exit_code, 0) << plain_plan.err;
  EXPECT_EQ(odd_plan.out, plain_plan.out);
  ASSERT_EQ(equisweep({"run", "small.yaml", "--results", "plain", "--jobs", "1"}).exit_code, 0);
  const ProcessResult run = equisweep({"run", "small.yaml", "--results", "odd", "--jobs", "1"}, odd);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* sql : {"SELECT cell, job, model, stack, printf('%.17g', lr_scale), seed, axes FROM cells ORDER BY cell",
                          "SELECT run, job, config, state, message, attempt, parameters FROM runs ORDER BY run",
                          "SELECT run, step, tokens, printf('%.17g|%.17g|%.17g', loss, lr, grad_norm), nonfinite FROM "
                          "loss_curve ORDER BY run, step",
                          "SELECT run, step, printf('%.17g', loss), eval_tokens FROM eval_curve ORDER BY run, step",
                          "SELECT run, attempt, sequence, step, kind FROM events ORDER BY run, attempt, sequence"})
    EXPECT_EQ(rows("odd", sql), rows("plain", sql));
  // Times of training come from the steady clock. That the other one was off shows in what is there for people.
  EXPECT_EQ(rows("odd", "SELECT count(*) FROM steps WHERE seconds < 0 OR step_seconds < 0 OR seconds > 1e6"), "0|\n");
  const char* long_ago = "SELECT min(julianday('now') - julianday(started_at)) > 3000 FROM attempts";
  EXPECT_EQ(rows("odd", long_ago), "1|\n");
  EXPECT_EQ(rows("plain", long_ago), "0|\n");
}

TEST_F(Surroundings, CancelAndRetryFromTheCommandLine) {
  EXPECT_EQ(equisweep({"cancel", "small"}).exit_code, 3);
  ASSERT_EQ(equisweep({"run", "small.yaml", "--only", "lr_scale=0.5"}).exit_code, 0);
  const std::string states = "SELECT state FROM runs ORDER BY run";
  EXPECT_EQ(rows("results", states), "done|\nqueued|\n");
  EXPECT_EQ(equisweep({"cancel", "small", "no-such-job"}).exit_code, 3);
  EXPECT_EQ(equisweep({"retry", "small"}).exit_code, 3);
  EXPECT_EQ(equisweep({"retry", "small", "--state", "faild"}).exit_code, 2);
  EXPECT_EQ(equisweep({"retry", "small", "--state", "done"}).exit_code, 2);
  const ProcessResult cancel = equisweep({"cancel", "small"});
  EXPECT_EQ(cancel.exit_code, 0) << cancel.err;
  EXPECT_THAT(cancel.out, HasSubstr("1 jobs cancelled"));
  EXPECT_EQ(rows("results", states), "done|\ncancelled|\n");
  EXPECT_EQ(equisweep({"cancel", "small"}).exit_code, 3);
  EXPECT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  EXPECT_EQ(rows("results", states), "done|\ncancelled|\n");
  EXPECT_EQ(equisweep({"retry", "small"}).exit_code, 3);  // the cancelled are not meant
  EXPECT_EQ(equisweep({"retry", "small", "--state", "cancelled"}).exit_code, 0);
  EXPECT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  EXPECT_EQ(rows("results", states), "done|\ndone|\n");
}

}  // namespace test_surroundings
}  // namespace equisweep::testing
