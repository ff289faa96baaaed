// Workers as processes: killed, told to stop, out of room, in each other's way; and `equisweep rerun`.

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/process_lock.h"
#include "core/run_store.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace equisweep::testing {
namespace test_resume {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kResumeSweep = R"(version: 1
name: small
data:  {corpus: synthetic, seq_len: 16, batch_tokens: 64, seed: 1}
train: {steps: 12, precision: fp32, eval: {every: 5, tokens: 128}}
model: {vocab: 61, d: 16, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, ff: 24}
grid: {model: qwen3-nano, stack: muon}
stacks:
  muon: {default: {rule: adamw, lr: 3e-3}, matrix: {rule: muon, lr: 0.02}}
)";

std::string rows_of(const fs::path& db_file, const std::string& sql) {
  const auto db = open_read_only(db_file);
  SQLite::Statement query(*db, sql);
  std::string out;
  while (query.executeStep()) {
    for (int c = 0; c < query.getColumnCount(); ++c) out += (c ? "|" : "") + query.getColumn(c).getString();
    out += "\n";
  }
  return out;
}

class Resume : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<TempFolder>();
    write_text(*shared_ / "small.yaml", kResumeSweep);
    const ProcessResult run = run_process({EQUISWEEP_PROGRAM, "run", "small.yaml"}, shared_->path(), {{"NO_COLOR", "1"}});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    recorded_ = fs::directory_iterator(*shared_ / "results/small/runs")->path();
  }
  static void TearDownTestSuite() { shared_.reset(); }

  /// A folder with the job alone.
  fs::path fresh_run(const std::string& name) const {
    const fs::path folder = folder_ / name / "sweep/runs" / recorded_.filename();
    fs::create_directories(folder);
    fs::copy_file(recorded_ / "config.yaml", folder / "config.yaml");
    return folder;
  }

  static ProcessResult exec(const fs::path& run, const std::string& fault = "", std::vector<std::string> more = {}) {
    std::vector<std::string> argv = {EQUISWEEP_PROGRAM, "exec",   run.string(), "--checkpoint-every", "3",
                                     "--threads",       threads()};
    argv.insert(argv.end(), more.begin(), more.end());
    return run_process(argv, run, {{"EQUISWEEP_FAULT", fault}});
  }

  static std::string threads() { return "1"; }

  static std::string losses(const fs::path& run) {
    return rows_of(run / "run.db",
                   "SELECT step, printf('%.17g', loss) FROM loss_curve UNION ALL "
                   "SELECT step, printf('%.17g', loss) FROM (SELECT * FROM eval_curve ORDER BY step)");
  }

  /// The job trained without interruption in the same way.
  static const std::string& uninterrupted() {
    static const std::string text = [] {
      const TempFolder folder;
      fs::copy_file(recorded_ / "config.yaml", folder / "config.yaml");
      EXPECT_EQ(exec(folder.path()).exit_code, 0);
      return losses(folder.path());
    }();
    return text;
  }

  static bool is_done(const fs::path& run) {
    return fs::exists(run / "run.db") && rows_of(run / "run.db", "SELECT state FROM runs") == "done\n";
  }

  void expect_done(const fs::path& run) const {
    EXPECT_EQ(rows_of(run / "run.db", "SELECT state FROM runs"), "done\n");
    EXPECT_EQ(losses(run), uninterrupted());
    EXPECT_FALSE(fs::exists(run / "ckpt"));
    for (const auto& entry : fs::directory_iterator(run))
      EXPECT_FALSE(entry.path().filename().string().ends_with(".tmp")) << entry.path();
  }

  static inline std::unique_ptr<TempFolder> shared_;
  static inline fs::path recorded_;
  TempFolder folder_;
};

TEST_F(Resume, KilledAnywhereAndContinued) {
  struct Kill {
    const char* fault;
    int resumes_at;
  };
  for (const auto& [fault, resumes_at] :
       {Kill{"worker.setup:1", 0}, Kill{"train.eval:2", 0}, Kill{"train.step:9", 6}, Kill{"train.eval:3", 3},
        Kill{"checkpoint.write:4", 0}, Kill{"checkpoint.rename:2", 3}, Kill{"checkpoint.renamed:3", 9}}) {
    SCOPED_TRACE(fault);
    const fs::path run = fresh_run(fault);
    EXPECT_EQ(exec(run, fault).exit_code, 128 + 9);
    EXPECT_EQ(rows_of(run / "run.db", "SELECT state FROM runs"), "running\n");
    const ProcessResult second = exec(run);
    EXPECT_EQ(second.exit_code, 0) << second.err;
    EXPECT_EQ(rows_of(run / "run.db", "SELECT attempt, resume_step, state FROM attempts"),
              fmt::format("1|0|running\n2|{}|done\n", resumes_at));
    EXPECT_EQ(rows_of(run / "run.db", "SELECT count(*) FROM events WHERE kind = 'resume'"), resumes_at ? "1\n" : "0\n");
    // Rows that were made durable with the checkpoint.
    EXPECT_EQ(
        rows_of(run / "run.db", fmt::format("SELECT count(*) FROM steps WHERE attempt = 1 AND step <= {}", resumes_at)),
        fmt::format("{}\n", resumes_at));
    expect_done(run);
  }
}

TEST_F(Resume, AFaultIsWrittenDown) {
  const fs::path run = fresh_run("run");
  exec(run, "train.step:7=raise");
  EXPECT_EQ(rows_of(run / "run.db", "SELECT message FROM events WHERE kind = 'fault'"),
            "EQUISWEEP_FAULT=train.step:7=raise: this run is made to fail\n");
  EXPECT_EQ(rows_of(run / "run.db", "SELECT state, message FROM runs"), "failed|fault injected at train.step\n");
  const ProcessResult unknown = exec(run, "train.stop:1");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("train.step"));
}

TEST_F(Resume, ToldToStopAtAnyPhase) {
  struct Stop {
    const char* fault;
    const char* where;
    int resumes_at;
  };
  for (const auto& [fault, where, resumes_at] :
       {Stop{"worker.setup:1=term", "before step 1", 0}, Stop{"worker.resume:1=usr2", "before step 1", 0},
        Stop{"train.eval:1=term", "before step 1", 0}, Stop{"train.step:4=usr2,train.step:4=term", "after step 4", 4},
        Stop{"train.eval:3=term", "after step 5", 5}, Stop{"checkpoint.rename:1=term", "after step 4", 4}}) {
    SCOPED_TRACE(fault);
    const fs::path run = fresh_run(fault);
    const ProcessResult first = exec(run, fault);
    EXPECT_EQ(first.exit_code, 75) << first.err;
    EXPECT_EQ(rows_of(run / "run.db", "SELECT state, message FROM runs"),
              std::string("preempted|asked to stop ") + where + "\n");
    EXPECT_EQ(exec(run).exit_code, 0);
    EXPECT_EQ(rows_of(run / "run.db", "SELECT resume_step FROM attempts"), fmt::format("0\n{}\n", resumes_at));
    expect_done(run);
  }
}

// However the signals fall, from when the worker has begun or from its first checkpoint on, what is continued afterwards
// ends the same.
TEST_F(Resume, AStormOfSignals) {
  const fs::path run = fresh_run("run");
  for (const char* begun :
       {"[ \"$(cat worker.lock 2>/dev/null)\" = $! ]", "[ \"$(cat worker.lock 2>/dev/null)\" = $! ] && [ -e ckpt ]"}) {
    const std::string script = fmt::format(
        "\"$0\" exec . --checkpoint-every 3 --threads 1 & until {} || ! kill -0 $! 2>/dev/null; do :; done; "
        "while kill -TERM $! 2>/dev/null && kill -USR2 $! 2>/dev/null; do :; done; wait $!",
        begun);
    const int code = run_process({"/bin/bash", "-c", script, EQUISWEEP_PROGRAM}, run).exit_code;
    EXPECT_TRUE(code == 75 || code == 0 || (code == 3 && is_done(run))) << code;
  }
  EXPECT_EQ(exec(run).exit_code, is_done(run) ? 3 : 0);
  expect_done(run);
}

TEST_F(Resume, ASecondWorkerOnTheSameRunIsRefused) {
  const fs::path run = fresh_run("run");
  {
    const ProcessLock lock(run / "worker.lock", "");
    const ProcessResult second = exec(run);
    EXPECT_EQ(second.exit_code, 5);
    EXPECT_THAT(second.err, HasSubstr(fmt::format("process {} is training this job", ::getpid())));
    EXPECT_FALSE(fs::exists(run / "run.db"));
  }
  EXPECT_EQ(exec(run).exit_code, 0);
  expect_done(run);
}

TEST_F(Resume, DamagedCheckpointsAreNamedAndTheOlderOneIsUsed) {
  const fs::path run = fresh_run("run");
  EXPECT_EQ(exec(run, "train.step:11").exit_code, 128 + 9);
  std::string bytes = read_text(run / "ckpt/step-000000009.ckpt");
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 4);
  write_text(run / "ckpt/step-000000009.ckpt", bytes);
  EXPECT_EQ(exec(run).exit_code, 0);
  EXPECT_EQ(rows_of(run / "run.db", "SELECT attempt, step, kind, message FROM events WHERE kind IN ('warning', 'resume')"),
            "2|6|warning|checkpoint not used: step-000000009.ckpt: is damaged: its content is not that of its checksum\n"
            "2|6|resume|from ckpt/step-000000006.ckpt\n");
  expect_done(run);
}

// A header that is JSON, but with a number that no double holds.
TEST_F(Resume, ACheckpointWithAHeaderThatCannotBeReadIsNamedAndTheOlderOneIsUsed) {
  const fs::path run = fresh_run("run");
  EXPECT_EQ(exec(run, "train.step:11").exit_code, 128 + 9);
  const std::string header = R"({"weight/a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e400]}})";
  write_text(run / "ckpt/step-000000009.ckpt", static_cast<char>(header.size()) + std::string(7, '\0') + header);
  EXPECT_EQ(exec(run).exit_code, 0);
  EXPECT_EQ(rows_of(run / "run.db", "SELECT resume_step FROM attempts"), "0\n6\n");
  EXPECT_THAT(rows_of(run / "run.db", "SELECT message FROM events WHERE kind = 'warning'"),
              HasSubstr("checkpoint not used: step-000000009.ckpt: the header"));
  expect_done(run);
}

TEST_F(Resume, AResultStaysAResult) {
  const fs::path run = fresh_run("run");
  EXPECT_EQ(exec(run).exit_code, 0);
  const std::string before = read_text(run / "run.db");
  for (const char* fault : {"", "train.gradient:5=nan"}) {
    const ProcessResult again = exec(run, fault);
    EXPECT_EQ(again.exit_code, 3);
    EXPECT_THAT(again.err, HasSubstr("attempt 1 is done: a result stays a result; `equisweep rerun"));
  }
  EXPECT_EQ(read_text(run / "run.db"), before);
  const fs::path diverged = fresh_run("diverged");
  EXPECT_EQ(exec(diverged, "train.gradient:5=nan").exit_code, 0);
  EXPECT_EQ(exec(diverged).exit_code, 3);
  EXPECT_EQ(rows_of(diverged / "run.db", "SELECT state, message FROM runs"), "diverged|gradient norm is nan at step 5\n");
}

// Killed while it made run.db, a worker leaves a file of nothing.
TEST_F(Resume, AnEmptyDatabaseIsABeginning) {
  const fs::path run = fresh_run("run");
  write_text(run / "run.db", "");
  EXPECT_EQ(exec(run).exit_code, 0);
  expect_done(run);
}

// Without run.db the steps before a checkpoint have no rows: it is not used.
TEST_F(Resume, ALostDatabaseMeansAnotherBeginning) {
  const fs::path run = fresh_run("run");
  EXPECT_EQ(exec(run, "train.step:8").exit_code, 128 + 9);
  for (const char* file : {"run.db", "run.db-wal", "run.db-shm"}) fs::remove(run / file);
  EXPECT_EQ(exec(run).exit_code, 0);
  EXPECT_EQ(rows_of(run / "run.db", "SELECT attempt, resume_step FROM attempts"), "1|0\n");
  expect_done(run);
}

// A limit on the size of files stands for a full disk. Wherever it strikes, the message names a file, and what is continued
// when there is room ends the same.
TEST_F(Resume, OutOfRoom) {
  int failures = 0;
  for (const int kilobytes : {4, 40, 150, 250, 4000}) {
    SCOPED_TRACE(kilobytes);
    const fs::path run = fresh_run(std::to_string(kilobytes));
    const std::string script = fmt::format("ulimit -f {}; exec \"$0\" exec . --checkpoint-every 3 --threads 1", kilobytes);
    const ProcessResult limited = run_process({"/bin/bash", "-c", script, EQUISWEEP_PROGRAM}, run);
    EXPECT_TRUE(limited.exit_code == 0 || limited.exit_code == 1 || limited.exit_code == 5) << limited.exit_code;
    if (limited.exit_code != 0) {
      ++failures;
      EXPECT_THAT(limited.err, HasSubstr("cannot be")) << limited.err;
    }
    EXPECT_EQ(exec(run).exit_code, limited.exit_code == 0 ? 3 : 0);
    EXPECT_EQ(rows_of(run / "run.db", "PRAGMA integrity_check"), "ok\n");
    expect_done(run);
  }
  EXPECT_GE(failures, 2);
}

// No machine has the petabyte that one weight of this model takes.
TEST_F(Resume, MemoryThatCannotBeHadOnTheCpuIsOom) {
  const fs::path run = fresh_run("run");
  std::string config = read_text(run / "config.yaml");
  for (const auto& [from, to] : {std::pair{"\"d\": 16,", "\"d\": 65536,"}, {"\"ff\": 24,", "\"ff\": 4294967296,"}}) {
    ASSERT_NE(config.find(from), std::string::npos) << config;
    config.replace(config.find(from), std::string(from).size(), to);
  }
  write_text(run / "config.yaml", config);
  const ProcessResult worker = run_process({EQUISWEEP_PROGRAM, "exec", ".", "--threads", "1"}, run,
                                           {{"ASAN_OPTIONS", "allocator_may_return_null=1"}});
  EXPECT_EQ(worker.exit_code, 1) << worker.err;
  EXPECT_EQ(rows_of(run / "run.db", "SELECT state FROM runs"), "oom\n");
  EXPECT_THAT(rows_of(run / "run.db", "SELECT message FROM runs"), HasSubstr("memory"));
}

TEST_F(Resume, RerunSaysWhetherTheLossesAreThoseRecorded) {
  const auto rerun = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {EQUISWEEP_PROGRAM, "rerun"});
    return run_process(more, shared_->path());
  };
  const std::string before = read_text(recorded_ / "run.db");
  const ProcessResult same = rerun({recorded_.filename().string().substr(0, 6), "--verify"});
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_THAT(same.out, HasSubstr("same: 12 training losses and 4 validation losses are bitwise those recorded\n"));
  EXPECT_THAT(rerun({recorded_.string(), "--steps", "7"}).out, HasSubstr("same: 7 training losses and 2 validation"));
  EXPECT_EQ(read_text(recorded_ / "run.db"), before);

  const fs::path copy = folder_ / "copy";
  fs::create_directory(copy);
  for (const char* file : {"config.yaml", "run.db"}) fs::copy_file(recorded_ / file, copy / file);
  SQLite::Database((copy / "run.db").string(), SQLite::OPEN_READWRITE)
      .exec(
          "UPDATE steps SET loss = loss * (1 + 2.3e-16) WHERE step = 8; UPDATE steps SET loss = NULL WHERE step = 9;"
          "UPDATE attempts SET environment = json_set(environment, '$.cpu', 'abacus')");
  const ProcessResult different = rerun({copy.string(), "--verify"});
  EXPECT_EQ(different.exit_code, 1) << different.err;
  EXPECT_THAT(different.out, HasSubstr("different: the first of 12 training losses and 4 validation losses that differs is "
                                       "the training loss of step 8: "));
  EXPECT_THAT(different.out, HasSubstr("cpu: abacus recorded, "));
  EXPECT_EQ(rerun({copy.string()}).exit_code, 0);
  EXPECT_EQ(rerun({copy.string(), "--verify", "--steps", "7"}).exit_code, 0);
  EXPECT_EQ(rerun({"ffffffff"}).exit_code, 3);
}

TEST_F(Resume, RerunThatEndsInAnotherWayIsDifferent) {
  const auto rerun = [&](const char* fault, std::vector<std::string> more) {
    more.insert(more.begin(), {EQUISWEEP_PROGRAM, "rerun", recorded_.filename().string(), "--verify"});
    return run_process(more, shared_->path(), {{"EQUISWEEP_FAULT", fault}});
  };
  const ProcessResult diverged = rerun("train.gradient:5=nan", {});
  EXPECT_EQ(diverged.exit_code, 1) << diverged.err;
  EXPECT_THAT(diverged.out, HasSubstr("different: the first of 5 training losses"));
  EXPECT_THAT(diverged.out, HasSubstr("is the gradient norm of step 5: "));
  EXPECT_THAT(diverged.out, HasSubstr("end: done recorded, diverged (gradient norm is nan at step 5) now\n"));
  EXPECT_EQ(rerun("train.gradient:5=nan", {"--steps", "7"}).exit_code, 1);
  EXPECT_EQ(rerun("train.gradient:5=nan", {"--steps", "4"}).exit_code, 0);
}

}  // namespace test_resume
}  // namespace equisweep::testing
