// What a sweep's database says and what the disk holds: they may drift apart, and nobody may be misled by it.

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/process_lock.h"
#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/shard_bytes.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_books {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kBooksSweep = R"(version: 1
name: small
data:  {corpus: ./corpus, seq_len: 16, batch_tokens: 64, seed: 1}
train: {steps: 4, precision: fp32, eval: {every: 4, tokens: 64}}
model: {vocab: 61, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}
grid: {model: qwen3-nano, stack: adamw, seed: [0, 1]}
stacks:
  adamw: {baseline: true, default: {rule: adamw, lr: 3e-3}}
)";

class Books : public ::testing::Test {
 protected:
  void SetUp() override {
    write_text(folder_ / "small.yaml", kBooksSweep);
    fs::create_directory(folder_ / "corpus");
    write_corpus(3);
  }
  void write_corpus(std::int32_t factor) const {
    const auto token = [&](std::int32_t i) { return i % 59 * factor % 59; };
    write_text(folder_ / "corpus/train.bin", shard_of(2000, token));
    write_text(folder_ / "corpus/val.bin", shard_of(500, token));
  }
  ProcessResult equisweep(std::vector<std::string> args) const {
    args.insert(args.begin(), EQUISWEEP_PROGRAM);
    return run_process(args, folder_.path(), {{"NO_COLOR", "1"}});
  }
  fs::path file() const { return folder_ / "results/small/sweep.db"; }
  std::string rows(const std::string& sql) const {
    const auto db = open_read_only(file());
    SQLite::Statement query(*db, sql);
    std::string all;
    while (query.executeStep()) all += query.getColumn(0).getString() + ";";
    return all;
  }

  TempFolder folder_;
};

// The id of a job has the corpus's name in it, not its text.
TEST_F(Books, ResultsOfAnotherTextAreNotTakenForThisOnes) {
  ASSERT_EQ(equisweep({"run", "small.yaml", "--only", "seed=0"}).exit_code, 0);
  const std::string losses = "SELECT printf('%.17g', loss) FROM loss_curve ORDER BY run, step", before = rows(losses);
  const std::string job = rows("SELECT job FROM runs WHERE state = 'done'");
  write_corpus(5);
  const ProcessResult refused = equisweep({"run", "small.yaml"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("corpus corpus has changed since 1 of the jobs of this sweep was trained on it: " +
                                     job.substr(0, 16)));
  EXPECT_EQ(rows(losses), before);
  EXPECT_EQ(rows("SELECT count(*) FROM attempts"), "1;");
  write_corpus(3);  // as it was: also where the files are new
  EXPECT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  EXPECT_EQ(rows("SELECT state || attempt FROM runs"), "done1;done1;");
  write_corpus(5);
  EXPECT_EQ(equisweep({"run", "small.yaml", "--set", "name=other"}).exit_code, 0);
}

// A sweep that lies elsewhere and is linked has its corpora where those of the other sweeps are.
TEST_F(Books, ALinkedSweepUsesTheCorporaOfItsResults) {
  fs::create_directories(folder_ / "disk/deep/big");
  fs::create_directories(folder_ / "results/corpora");
  fs::create_directory_symlink(folder_ / "disk/deep/big", folder_ / "results/small");
  fs::rename(folder_ / "corpus", folder_ / "results/corpora/kjv-61");  // as if it had been prepared
  const ProcessResult run = equisweep({"run", "small.yaml", "--set", "data.corpus=kjv"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_FALSE(fs::exists(folder_ / "disk/deep/corpora"));
}

// As the books are after a supervisor was killed: what its workers have left is in their run.db alone.
class BooksBehind : public Books {
 protected:
  void SetUp() override {
    Books::SetUp();
    ASSERT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
    SQLite::Database db(file(), SQLite::OPEN_READWRITE);
    db.exec("UPDATE runs SET state = 'running' WHERE run = 2");
    for (const char* table : {"attempts", "steps", "evals", "events"})
      db.exec(fmt::format("DELETE FROM {} WHERE run = 2", table));
  }
};

TEST_F(BooksBehind, AReportTakesInWhatIsNew) {
  const ProcessResult report = equisweep({"report", "small", "--format", "md"});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_EQ(rows("SELECT state FROM runs"), "done;done;");
  EXPECT_EQ(rows("SELECT count(*) FROM steps"), "8;");
}

TEST_F(BooksBehind, AReportOfARunningSweepSaysThatItMayLackSome) {
  const ProcessLock lock(folder_ / "results/small/supervisor.lock", "");
  const ProcessResult report = equisweep({"report", "small", "--format", "md"});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(report.err, HasSubstr(fmt::format("process {} ", ::getpid())));
  EXPECT_EQ(rows("SELECT state FROM runs"), "done;running;");
}

TEST_F(BooksBehind, ARunThatCannotBeTakenInIsNamedAndTheReportIsWritten) {
  const std::string job = rows("SELECT job FROM runs WHERE run = 2").substr(0, 16);
  write_text(folder_ / "results/small/runs" / job / "run.db",
             "no database, but longer than a header of one would be: " + std::string(100, 'x'));
  const ProcessResult report = equisweep({"report", "small", "--format", "md"});
  EXPECT_EQ(report.exit_code, 0) << report.err;
  EXPECT_THAT(report.err, HasSubstr(job + "/run.db: is not a database"));
}

// What is complete is only read: a report of an archived sweep writes no more than the report.
TEST_F(Books, AReportOfACompleteSweepDoesNotWriteIntoIt) {
  ASSERT_EQ(equisweep({"run", "small.yaml"}).exit_code, 0);
  for (const char* name : {"supervisor.lock", "sweep.db-wal", "sweep.db-shm"}) fs::remove(folder_ / "results/small" / name);
  const auto before = fs::last_write_time(file());
  EXPECT_EQ(equisweep({"report", "small", "--format", "md"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(folder_ / "results/small/supervisor.lock"));
  EXPECT_EQ(fs::last_write_time(file()), before);
}

}  // namespace test_books
}  // namespace equisweep::testing
