#include "core/run_store.h"

#include <SQLiteCpp/VariadicBind.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <ctime>

#include "core/database.h"
#include "core/error.h"
#include "core/row_binder.h"

namespace equisweep {
namespace {

struct Event {
  std::string at;
  std::int64_t step;
  std::string kind, message;
};

}  // namespace

struct RunStore::Impl {
  using Clock = std::chrono::steady_clock;

  Impl(const std::filesystem::path& path, std::int64_t number)
      : file(path),
        attempt(number),
        db(open_writable(path)),
        insert_step(*db, "INSERT INTO steps VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_eval(*db, "INSERT INTO evals VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_stats(*db, "INSERT INTO block_stats VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_router(*db, "INSERT INTO router_stats VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_load(*db, "INSERT INTO expert_load VALUES (1, ?, ?, ?, ?, ?)"),
        insert_matrix(*db, "INSERT INTO matrix_stats VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_equivariance(*db, "INSERT INTO equivariance VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_logit(*db, "INSERT INTO logit_stats VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
        insert_attention(*db, "INSERT INTO attention_stats VALUES (1, ?, ?, ?, ?, ?, ?)"),
        insert_event(*db, "INSERT INTO events VALUES (1, ?, ?, ?, ?, ?, ?)") {}

  /// A newer attempt owns the run from the moment it has registered; whatever an older one still writes is refused.
  void check_fence() {
    const std::int64_t newest = db->execAndGet("SELECT attempt FROM runs WHERE run = 1").getInt64();
    if (newest == attempt) return;
    throw DatabaseError(
        file.string(),
        fmt::format("attempt {} of this run has been replaced by attempt {}; nothing more is written", attempt, newest));
  }

  void write_rows() {
    for (const StepRow& r : steps) {
      RowBinder(insert_step, attempt)
          .integer(r.step)
          .integer(r.tokens)
          .real(r.seconds)
          .real(r.loss)
          .real(r.lr)
          .real(r.grad_norm)
          .real(r.step_seconds)
          .real(r.optimizer_seconds)
          .real(r.diagnostics_seconds)
          .insert_with_mask();
    }
    for (const EvalRow& r : evals) {
      RowBinder(insert_eval, attempt)
          .integer(r.step)
          .integer(r.tokens)
          .real(r.seconds)
          .real(r.loss)
          .real(r.bits_per_byte)
          .integer(r.eval_tokens)
          .insert_with_mask();
    }
    for (const BlockStatsRow& r : stats) {
      RowBinder(insert_stats, attempt)
          .integer(r.step)
          .integer(r.block)
          .real(r.spectral_norm)
          .real(r.stable_rank)
          .real(r.update_spectral_norm)
          .real(r.update_to_weight)
          .real(r.gradient_norm)
          .real(r.lr)
          .insert_with_mask();
    }
    for (const RouterStatsRow& r : routers) {
      RowBinder(insert_router, attempt)
          .integer(r.step)
          .integer(r.layer)
          .real(r.load_cv)
          .real(r.load_entropy)
          .real(r.dead_fraction)
          .real(r.z_loss)
          .real(r.balance_loss)
          .real(r.logit_norm)
          .real(r.max_violation)
          .real(r.logit_mean)
          .real(r.logit_std)
          .real(r.logit_max)
          .real(r.margin)
          .real(r.margin_min)
          .real(r.dropped)
          .insert_with_mask();
    }
    for (const MatrixStatsRow& r : matrices) {
      RowBinder(insert_matrix, attempt)
          .integer(r.step)
          .integer(r.block)
          .text(r.quantity)
          .integer(r.matrix)
          .real(r.spectral_norm)
          .real(r.frobenius_norm)
          .real(r.stable_rank)
          .real(r.row_min)
          .real(r.row_median)
          .real(r.row_max)
          .integer(r.dead_rows)
          .real(r.exact_norm)
          .real(r.nuclear_norm)
          .real(r.effective_rank)
          .insert_with_mask();
    }
    for (const EquivarianceRow& r : audits) {
      RowBinder(insert_equivariance, attempt)
          .integer(r.step)
          .integer(r.block)
          .text(r.group)
          .text(r.precision)
          .integer(r.claimed ? 1 : 0)
          .integer(r.gradients)
          .text(r.verdict)
          .real(r.error)
          .real(r.floor)
          .real(r.ratio)
          .real(r.horizontality)
          .real(r.shift)
          .real(r.removed)
          .real(r.seconds)
          .insert_with_mask();
    }
    for (const LogitStatsRow& r : logits) {
      RowBinder(insert_logit, attempt)
          .integer(r.step)
          .real(r.logit_mean)
          .real(r.logit_std)
          .real(r.logit_max)
          .real(r.logsumexp)
          .real(r.shift_share)
          .real(r.growth)
          .insert_with_mask();
    }
    for (const AttentionStatsRow& r : attention) {
      RowBinder(insert_attention, attempt)
          .integer(r.step)
          .integer(r.layer)
          .integer(r.head)
          .real(r.max_logit)
          .insert_with_mask();
    }
    for (const ExpertLoadRow& r : loads) {
      RowBinder(insert_load, attempt).integer(r.step).integer(r.layer).integer(r.expert).integer(r.tokens).insert();
    }
    std::int64_t sequence = written_events;
    for (const Event& e : events) {
      RowBinder(insert_event, attempt).integer(++sequence).text(e.at).integer(e.step).text(e.kind).text(e.message).insert();
    }
  }

  /// One transaction: the fence, all buffered rows, then `rest`. The buffers are emptied only after it is committed.
  template <typename Rest>
  void commit(Durability durability, Rest&& rest) {
    in_database(file, [&] {
      WriteTransaction transaction(*db, durability);
      check_fence();
      write_rows();
      rest();
      transaction.commit();
    });
    written_events += static_cast<std::int64_t>(events.size());
    steps.clear();
    evals.clear();
    stats.clear();
    routers.clear();
    loads.clear();
    matrices.clear();
    audits.clear();
    logits.clear();
    attention.clear();
    events.clear();
    first_pending.reset();
  }

  void added() {
    const auto now = Clock::now();
    if (!first_pending) first_pending = now;
    if (now - *first_pending >= interval) commit(Durability::process_death, [] {});
  }

  std::filesystem::path file;
  std::int64_t attempt;
  std::unique_ptr<SQLite::Database> db;
  SQLite::Statement insert_step, insert_eval, insert_stats, insert_router, insert_load, insert_matrix, insert_equivariance,
      insert_logit, insert_attention, insert_event;  // after db: they must go first
  std::vector<StepRow> steps;
  std::vector<EvalRow> evals;
  std::vector<BlockStatsRow> stats;
  std::vector<RouterStatsRow> routers;
  std::vector<ExpertLoadRow> loads;
  std::vector<MatrixStatsRow> matrices;
  std::vector<EquivarianceRow> audits;
  std::vector<LogitStatsRow> logits;
  std::vector<AttentionStatsRow> attention;
  std::vector<Event> events;
  std::int64_t written_events = 0;
  std::optional<Clock::time_point> first_pending;
  std::chrono::milliseconds interval{1000};
};

RunStore::RunStore(const std::filesystem::path& path, const std::string& job, const std::string& config,
                   const AttemptRow& a) {
  in_database(path, [&] {
    impl_ = std::make_unique<Impl>(path, a.attempt);
    SQLite::Database& db = *impl_->db;
    WriteTransaction transaction(db, Durability::power_loss);
    SQLite::Statement known(db, "SELECT job, config, attempt FROM runs WHERE run = 1");
    if (known.executeStep()) {
      const std::string its_job = known.getColumn(0).getString();
      const std::int64_t newest = known.getColumn(2).getInt64();
      if (its_job != job || known.getColumn(1).getString() != config) {
        throw DatabaseError(path.string(),
                            fmt::format("holds job {} with another config than that of job {}; move it away", its_job, job));
      }
      if (a.attempt <= newest) {
        throw DatabaseError(
            path.string(),
            fmt::format("attempt {} may not write: attempt {} owns this run; use a larger number", a.attempt, newest));
      }
      known.reset();
    } else {
      SQLite::Statement insert(db, "INSERT INTO runs (run, job, config) VALUES (1, ?, ?)");
      SQLite::bind(insert, job, config);
      insert.exec();
    }
    SQLite::Statement run(db, "UPDATE runs SET state = ?, message = '', attempt = ? WHERE run = 1");
    SQLite::bind(run, std::string(name_of(a.state)), a.attempt);
    run.exec();
    SQLite::Statement attempt(
        db,
        "INSERT INTO attempts (run, attempt, resume_step, state, started_at, device, threads, environment) "
        "VALUES (1, ?, ?, ?, ?, ?, ?, ?)");
    SQLite::bind(attempt, a.attempt, a.resume_step, std::string(name_of(a.state)), a.started_at, a.device, a.threads,
                 a.environment);
    attempt.exec();
    transaction.commit();
  });
}

RunStore::~RunStore() {
  if (!impl_) return;
  try {
    flush();
  } catch (...) {  // a destructor must not throw; callers that care have called flush() or finish()
  }
}

void RunStore::set_corpus(const std::string& json, std::int64_t parameters) {
  impl_->commit(Durability::process_death, [&] {
    SQLite::Statement update(*impl_->db, "UPDATE runs SET corpus = ?, parameters = ? WHERE run = 1");
    SQLite::bind(update, json, parameters);
    update.exec();
  });
}

void RunStore::add_blocks(const std::vector<BlockRow>& rows) {
  impl_->commit(Durability::process_death, [&] {
    // A later attempt declares the same blocks again.
    SQLite::Statement insert(*impl_->db, "INSERT OR REPLACE INTO blocks VALUES (1, ?, ?, ?, ?, ?, ?, ?)");
    for (const BlockRow& r : rows) {
      insert.reset();
      SQLite::bind(insert, r.block, r.name, r.role, r.layer, r.shape, r.entry, r.rule);
      insert.exec();
    }
  });
}

void RunStore::add(const StepRow& row) {
  impl_->steps.push_back(row);
  impl_->added();
}

void RunStore::add(const EvalRow& row) {
  impl_->evals.push_back(row);
  impl_->added();
}

void RunStore::add(const BlockStatsRow& row) {
  impl_->stats.push_back(row);
  impl_->added();
}

void RunStore::add(const RouterStatsRow& row) {
  impl_->routers.push_back(row);
  impl_->added();
}

void RunStore::add(const ExpertLoadRow& row) {
  impl_->loads.push_back(row);
  impl_->added();
}

void RunStore::add(const MatrixStatsRow& row) {
  impl_->matrices.push_back(row);
  impl_->added();
}

void RunStore::add(const EquivarianceRow& row) {
  impl_->audits.push_back(row);
  impl_->added();
}

void RunStore::add(const LogitStatsRow& row) {
  impl_->logits.push_back(row);
  impl_->added();
}

void RunStore::add(const AttentionStatsRow& row) {
  impl_->attention.push_back(row);
  impl_->added();
}

void RunStore::add_event(std::int64_t step, const std::string& kind, const std::string& message) {
  impl_->events.push_back({utc_now(), step, kind, message});
  impl_->added();
}

void RunStore::flush() {
  if (impl_->first_pending) impl_->commit(Durability::power_loss, [] {});
}

void RunStore::check_owner() {
  in_database(impl_->file, [&] { impl_->check_fence(); });
}

void RunStore::finish(const AttemptEnd& end) {
  impl_->commit(Durability::power_loss, [&] {
    const std::string state(name_of(end.state));
    SQLite::Statement attempt(
        *impl_->db,
        "UPDATE attempts SET state = ?, message = ?, ended_at = ?, peak_rss_bytes = ?, state_bytes = ? "
        "WHERE run = 1 AND attempt = ?");
    SQLite::bind(attempt, state, end.message, end.ended_at);
    if (end.peak_rss_bytes) attempt.bind(4, *end.peak_rss_bytes);
    if (end.state_bytes) attempt.bind(5, *end.state_bytes);
    attempt.bind(6, impl_->attempt);
    attempt.exec();
    SQLite::Statement run(*impl_->db, "UPDATE runs SET state = ?, message = ? WHERE run = 1");
    SQLite::bind(run, state, end.message);
    run.exec();
  });
}

void RunStore::set_flush_interval(std::chrono::milliseconds interval) { impl_->interval = interval; }

std::string utc_now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

}  // namespace equisweep
