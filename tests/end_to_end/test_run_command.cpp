// What `run --dry-run` and the options around it say, before and after a sweep has run.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <map>
#include <sstream>

#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/sweep_fixture.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_run_command {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kSweep = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 16, batch_tokens: 64}
train: {steps: 4, eval: {every: 4, tokens: 64}}
model: {vocab: 61, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}
grid: {model: qwen3-nano, lr_scale: [0.5, 1, 2]}
stacks: {adamw: {default: {rule: adamw, lr: 3e-3}}}
)";

class RunCommand : public ::testing::Test {
 protected:
  void SetUp() override { write_text(folder_.path() / "small.yaml", kSweep); }

  ProcessResult equisweep(std::vector<std::string> args, const std::map<std::string, std::string>& environment = {}) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), environment);
  }

  /// The lines of `run --dry-run` with `args`.
  std::vector<std::string> dry(std::vector<std::string> args) const {
    args.insert(args.begin(), {"run", "small.yaml", "--dry-run"});
    const ProcessResult result = equisweep(args);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<std::string> lines;
    std::istringstream out(result.out);
    for (std::string line; std::getline(out, line);) lines.push_back(line);
    return lines;
  }

  std::vector<std::string> ids() const {
    std::istringstream out(equisweep({"plan", "small.yaml", "--ids"}).out);
    return {std::istream_iterator<std::string>(out), {}};
  }

  TempFolder folder_;
};

TEST_F(RunCommand, ADryRunSaysWhatAWorkerIsToldAndWritesNothing) {
  const std::vector<std::string> plain = dry({}), often = dry({"--set", "checkpoint={every: 7, minutes: 2.5, keep: 3}"});
  EXPECT_THAT(plain, SizeIs(3));
  EXPECT_THAT(plain, Each(AllOf(HasSubstr(" --attempt 1 "), HasSubstr("--checkpoint-minutes 10 --checkpoint-keep 2"),
                                Not(HasSubstr("--checkpoint-every")))));
  EXPECT_THAT(often, Each(HasSubstr("--checkpoint-every 7 --checkpoint-minutes 2.5 --checkpoint-keep 3")));
  EXPECT_FALSE(fs::exists(folder_.path() / "results"));
}

TEST_F(RunCommand, ADryRunGoesOnWhereTheRecordsStop) {
  const std::vector<std::string> id = ids();
  ASSERT_THAT(id, SizeIs(3));
  // The first fails; the second is cancelled; the third is done, but its supervisor was killed before it heard.
  ASSERT_EQ(
      equisweep({"run", "small.yaml", "--only", "lr_scale=0.5"}, {{"EQUISWEEP_FAULT", "train.step:2=raise"}}).exit_code, 1);
  ASSERT_EQ(equisweep({"run", "small.yaml", "--only", "lr_scale=2"}).exit_code, 0);
  change_sweep(folder_.path() / "results/small/sweep.db", "UPDATE runs SET state = 'running' WHERE job = '" + id[2] + "'");
  ASSERT_EQ(equisweep({"cancel", "small", id[1]}).exit_code, 0);
  EXPECT_THAT(dry({}), ElementsAre(AllOf(HasSubstr("/runs/" + id[0]), HasSubstr(" --attempt 2 "))));
  // What is printed is what happens.
  ASSERT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  const auto db = open_read_only(folder_.path() / "results/small/sweep.db");
  SQLite::Statement query(*db, "SELECT job || ' ' || state || ' ' || attempt FROM runs ORDER BY run");
  std::vector<std::string> rows;
  while (query.executeStep()) rows.push_back(query.getColumn(0).getString());
  EXPECT_THAT(rows, ElementsAre(id[0] + " done 2", id[1] + " cancelled 0", id[2] + " done 1"));
  EXPECT_THAT(dry({}), IsEmpty());
}

// The threads of a job decide the order of its sums. Where there is one core they are one in any case.
TEST_F(RunCommand, APartOfASweepHasTheThreadsOfTheWhole) {
  const auto threads = [](const std::string& line) { return line.substr(line.find("--threads")); };
  const std::string whole = threads(dry({}).front());
  const std::vector<std::string> part = dry({"--only", "lr_scale=1"});
  ASSERT_THAT(part, SizeIs(1));
  EXPECT_EQ(threads(part.front()), whole);
}

TEST_F(RunCommand, ASelectionThatSaysNothingOrTwoThingsIsRefused) {
  for (const char* only : {"", "seed=0,seed=1", "seed=0,"})
    EXPECT_EQ(equisweep({"plan", "small.yaml", "--only", only}).exit_code, 2) << only;
  EXPECT_THAT(dry({"--only", "lr_scale=1", "--only", "lr_scale=2"}), SizeIs(2));
}

}  // namespace test_run_command
}  // namespace equisweep::testing
