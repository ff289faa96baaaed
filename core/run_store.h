#pragma once
// The results on disk: one SQLite file with one writer.
//
// A worker writes its run.db and nobody else does; the supervisor alone writes sweep.db and takes each run.db in. Rows are
// buffered and written in one transaction about once a second; flush() makes them durable at once. SQL errors become
// DatabaseError in one place. The schema is core/schema.sql; docs/database.md explains it.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/run_state.h"

namespace SQLite {
class Database;
}

namespace equisweep {

inline constexpr int kSchemaVersion = 2;

struct StepRow {
  std::int64_t step = 0, tokens = 0;
  double seconds = 0, loss = 0, lr = 0, grad_norm = 0, step_seconds = 0, optimizer_seconds = 0, diagnostics_seconds = 0;
};

struct EvalRow {
  std::int64_t step = 0, tokens = 0;
  double seconds = 0, loss = 0;
  std::optional<double> bits_per_byte = {};
  std::int64_t eval_tokens = 0;
};

struct BlockRow {
  std::int64_t block = 0;
  std::string name = {}, role = {};
  std::int64_t layer = -1;
  std::string shape = {}, entry = {}, rule = {};
};

struct BlockStatsRow {
  std::int64_t step = 0, block = 0;
  double spectral_norm = 0, stable_rank = 0, update_spectral_norm = 0, update_to_weight = 0, gradient_norm = 0, lr = 0;
};

/// One matrix of a block (analysis/diagnostics/spectral.h).
struct MatrixStatsRow {
  std::int64_t step = 0, block = 0;
  std::string quantity = {};
  std::int64_t matrix = 0;
  double spectral_norm = 0, frobenius_norm = 0, stable_rank = 0, row_min = 0, row_median = 0, row_max = 0;
  std::int64_t dead_rows = 0;
  std::optional<double> exact_norm = {}, nuclear_norm = {}, effective_rank = {};
};

/// One audit of a block during training (analysis/diagnostics/equivariance.h).
struct EquivarianceRow {
  std::int64_t step = 0, block = 0;
  std::string group = {}, precision = {};
  bool claimed = false;
  std::int64_t gradients = 0;
  std::string verdict = {};
  double error = 0, floor = 0, ratio = 0, horizontality = 0;
  std::optional<double> shift = {};
  double removed = 0, seconds = 0;
};

/// One MoE layer in one step (analysis/diagnostics/router.h).
struct RouterStatsRow {
  std::int64_t step = 0, layer = 0;
  double load_cv = 0, load_entropy = 0, dead_fraction = 0, z_loss = 0, balance_loss = 0, logit_norm = 0;
  double max_violation = 0, logit_mean = 0, logit_std = 0, logit_max = 0, margin = 0, margin_min = 0, dropped = 0;
};

/// The LM head in one step (analysis/diagnostics/logits.h).
struct LogitStatsRow {
  std::int64_t step = 0;
  double logit_mean = 0, logit_std = 0, logit_max = 0, logsumexp = 0, shift_share = 0, growth = 0;
};

/// One query head in one step (analysis/diagnostics/attention.h).
struct AttentionStatsRow {
  std::int64_t step = 0, layer = 0, head = 0;
  double max_logit = 0;
};

struct ExpertLoadRow {
  std::int64_t step = 0, layer = 0, expert = 0, tokens = 0;
};

struct AttemptRow {
  std::int64_t attempt = 1, resume_step = 0;
  RunState state = RunState::running;
  std::string started_at = {}, device = {};
  std::int64_t threads = 0;
  std::string environment = "{}";
};

struct AttemptEnd {
  RunState state = RunState::done;
  std::string message = {}, ended_at = {};
  std::optional<std::int64_t> peak_rss_bytes = {}, state_bytes = {};
};

/// Opens `path` read-only with trusted_schema off, after checking that it is a database of equisweep with a schema that this
/// program knows. One of an older schema is left as it is: what comes back is a copy in memory, brought to ours.
/// Throws DatabaseError (missing, not ours, newer schema, damaged, locked too long).
std::unique_ptr<SQLite::Database> open_read_only(const std::filesystem::path& path);

/// Writer of a run.db, for one attempt of one job.
class RunStore {
 public:
  /// Opens or creates `path` and registers the attempt; its number must be larger than every earlier one (else
  /// DatabaseError: a newer attempt owns this run). `config` is the canonical JSON of the job.
  RunStore(const std::filesystem::path& path, const std::string& job, const std::string& config, const AttemptRow& attempt);
  /// Flushes; errors at this point are swallowed (call finish() or flush() to hear of them).
  ~RunStore();

  void set_corpus(const std::string& json, std::int64_t parameters);
  void add_blocks(const std::vector<BlockRow>& rows);

  // Buffered; written together at most flush_interval after the first of them, when the next one is added.
  void add(const StepRow& row);
  void add(const EvalRow& row);
  void add(const BlockStatsRow& row);
  void add(const RouterStatsRow& row);
  void add(const ExpertLoadRow& row);
  void add(const MatrixStatsRow& row);
  void add(const EquivarianceRow& row);
  void add(const LogitStatsRow& row);
  void add(const AttentionStatsRow& row);
  void add_event(std::int64_t step, const std::string& kind, const std::string& message);

  void flush();
  /// Throws DatabaseError if a newer attempt owns the run; what this one would still write outside of the database must not
  /// be written either.
  void check_owner();
  /// The final row of the attempt and the state of the run; flushes. `done` needs this row.
  void finish(const AttemptEnd& end);

  void set_flush_interval(std::chrono::milliseconds interval);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One line of a sweep's plan, as sweep.db keeps it.
struct CellRow {
  std::string job = {}, model = {}, stack = {};
  bool baseline = false;
  double lr_scale = 1;
  std::int64_t seed = 0;
  std::string axes = "{}";
  std::string phase = {};   ///< "", "tune" or "confirm"
  std::string config = {};  ///< canonical JSON of the job
};

/// sweep.db itself is locked or full: no fault of the run that was to be taken in.
class SweepStoreError : public DatabaseError {
 public:
  using DatabaseError::DatabaseError;
};

/// Writer of a sweep.db.
class SweepStore {
 public:
  explicit SweepStore(const std::filesystem::path& path);
  ~SweepStore();

  void set_meta(const std::string& key, const std::string& value);

  /// Makes the cells of the sweep exactly `cells`: new jobs are added as queued, cells that are gone are marked retired,
  /// results stay. In one transaction.
  void set_plan(const std::vector<CellRow>& cells);

  RunState state(const std::string& job) const;
  std::string message(const std::string& job) const;
  std::int64_t attempt(const std::string& job) const;
  /// Of the newest evaluation that counts; +infinity where it was no number, nothing where there was none.
  std::optional<double> validation_loss(const std::string& job) const;

  /// Records a state that no run.db can tell (running, lost, failed before the first row, cancelled, ...). Raises `attempt`
  /// if it is larger than the recorded one; refuses (returns false) if it is smaller.
  bool set_state(const std::string& job, RunState state, const std::string& message, std::int64_t attempt);

  /// How the process of an attempt ended: "exit 1", "signal 9". Does nothing where the attempt never registered.
  void set_exit_status(const std::string& job, std::int64_t attempt, const std::string& exit_status);

  /// Takes in the rows of a run.db that are new, and the state that its newest attempt ended with, in one transaction.
  /// Idempotent. Of an attempt whose end set_state() has told already only a result is still believed; a job that was put
  /// back into the queue or cancelled stays so unless a newer attempt or a result says otherwise. A result stays a result:
  /// of attempts that were made after the first nothing is taken in (the message of the run says so), and DatabaseError is
  /// thrown if the result stands here already. Returns the number of new rows. Throws SweepStoreError where this database is
  /// the one that cannot be written, DatabaseError on anything else.
  std::int64_t ingest(const std::filesystem::path& run_db);

  std::int64_t rows() const;  ///< in all tables together
  /// Whether another process holds the file for writing at this moment; does not wait for it.
  bool locked() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "2026-11-22T00:21:48Z", for people.
std::string utc_now();

}  // namespace equisweep
