#include <SQLiteCpp/VariadicBind.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include "core/database.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

/// The attached run.db; detached whatever happens.
class Attached {
 public:
  Attached(SQLite::Database& db, const std::filesystem::path& file) : db_(db) {
    SQLite::Statement attach(db, "ATTACH ? AS incoming");
    attach.bind(1, read_only_uri(file));
    attach.exec();
  }
  ~Attached() { db_.tryExec("DETACH incoming"); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;

 private:
  SQLite::Database& db_;
};

std::vector<std::string> strings(SQLite::Database& db, const std::string& sql) {
  std::vector<std::string> result;
  SQLite::Statement query(db, sql);
  while (query.executeStep()) result.push_back(query.getColumn(0).getString());
  return result;
}

/// The tables of our schema; a sweep's file may hold others, e.g. those of `equisweep audit --db`.
const std::vector<std::string>& schema_tables() {
  static const std::vector<std::string> tables = [] {
    SQLite::Database schema(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    schema.exec(std::string(kSchemaText));
    return strings(schema, "SELECT name FROM sqlite_schema WHERE type = 'table'");
  }();
  return tables;
}

/// Those whose rows belong to a run and are written once: all that the schema adds later is among them by itself.
std::vector<std::string> row_tables(SQLite::Database& db) {
  std::vector<std::string> tables = schema_tables();
  std::erase_if(tables, [&](const std::string& table) {
    return table == "runs" || table == "attempts" ||
           strings(db, fmt::format("SELECT name FROM pragma_table_info('{}') WHERE name = 'run'", table)).empty();
  });
  return tables;
}

/// The columns of `table` beside `run`, quoted; of a file of an older schema those that it has.
std::vector<std::string> common_columns(SQLite::Database& db, const std::string& table, bool older) {
  return strings(
      db, fmt::format(
              "SELECT '\"' || name || '\"' FROM pragma_table_info('{0}', 'main') WHERE name <> 'run' {1} "
              "ORDER BY cid",
              table, older ? fmt::format("AND name IN (SELECT name FROM pragma_table_info('{}', 'incoming'))", table) : ""));
}

RunState state_of(const std::filesystem::path& file, const std::string& name) {
  const auto state = run_state_from_name(name);
  if (!state) throw DatabaseError(file.string(), fmt::format("has an unknown state '{}'", printable(name)));
  return *state;
}

/// Runs `body`, which copies from `run_db`, checked and open, into the sweep's `file`. That is the only one of the two that
/// is written, so what a lock or a full disk refuses is refused there.
template <typename Body>
auto taking_in(const std::filesystem::path& run_db, const std::filesystem::path& file, Body&& body) {
  try {
    return body();
  } catch (const SQLite::Exception& error) {
    if (error.getErrorCode() == SQLITE_BUSY || error.getErrorCode() == SQLITE_FULL)
      throw SweepStoreError(file.string(), database_problem(file, error));
    throw_database_error(run_db, error);
  }
}

}  // namespace

struct SweepStore::Impl {
  explicit Impl(const std::filesystem::path& path) : file(path), db(open_writable(path)) {}

  struct Run {
    std::int64_t run;
    std::string state, message;
    std::int64_t attempt;
    std::string config;
  };

  std::optional<Run> find(const std::string& job) const {
    SQLite::Statement query(*db, "SELECT run, state, message, attempt, config FROM runs WHERE job = ?");
    query.bind(1, job);
    if (!query.executeStep()) return std::nullopt;
    return Run{query.getColumn(0).getInt64(), query.getColumn(1).getString(), query.getColumn(2).getString(),
               query.getColumn(3).getInt64(), query.getColumn(4).getString()};
  }

  Run get(const std::string& job) const {
    return in_database(file, [&] {
      auto run = find(job);
      if (!run)
        throw DatabaseError(file.string(), fmt::format("has no job '{}'; run the sweep again to plan it", printable(job)));
      return *run;
    });
  }

  void plan_job(const CellRow& cell) {
    if (const auto known = find(cell.job)) {
      if (known->config == cell.config) return;
      throw DatabaseError(file.string(),
                          fmt::format("holds job {} with another config; move it away and run again", cell.job));
    }
    SQLite::Statement insert(*db, "INSERT INTO runs (job, config) VALUES (?, ?)");
    SQLite::bind(insert, cell.job, cell.config);
    insert.exec();
  }

  std::filesystem::path file;
  std::unique_ptr<SQLite::Database> db;
};

SweepStore::SweepStore(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
SweepStore::~SweepStore() = default;

void SweepStore::set_meta(const std::string& key, const std::string& value) {
  in_database(impl_->file, [&] {
    WriteTransaction transaction(*impl_->db, Durability::power_loss);
    SQLite::Statement insert(*impl_->db, "INSERT OR REPLACE INTO meta VALUES (?, ?)");
    SQLite::bind(insert, key, value);
    insert.exec();
    transaction.commit();
  });
}

void SweepStore::set_plan(const std::vector<CellRow>& cells) {
  in_database(impl_->file, [&] {
    SQLite::Database& db = *impl_->db;
    WriteTransaction transaction(db, Durability::power_loss);
    // Every cell that stays keeps its number, also when the order of the file changes; equal cells are matched one to one.
    using Key = std::tuple<std::string, std::string, std::string, bool, double, std::int64_t, std::string, std::string>;
    std::map<Key, std::vector<std::int64_t>> known;
    SQLite::Statement query(db,
                            "SELECT job, model, stack, baseline, lr_scale, seed, axes, phase, cell FROM cells "
                            "ORDER BY cell DESC");
    while (query.executeStep()) {
      const Key key{query.getColumn(0).getString(),   query.getColumn(1).getString(), query.getColumn(2).getString(),
                    query.getColumn(3).getInt() != 0, query.getColumn(4).getDouble(), query.getColumn(5).getInt64(),
                    query.getColumn(6).getString(),   query.getColumn(7).getString()};
      known[key].push_back(query.getColumn(8).getInt64());
    }
    db.exec("UPDATE cells SET retired = 1");
    SQLite::Statement revive(db, "UPDATE cells SET retired = 0 WHERE cell = ?");
    SQLite::Statement insert(
        db, "INSERT INTO cells (job, model, stack, baseline, lr_scale, seed, axes, phase) VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    for (const CellRow& c : cells) {
      impl_->plan_job(c);
      auto& same = known[Key{c.job, c.model, c.stack, c.baseline, c.lr_scale, c.seed, c.axes, c.phase}];
      SQLite::Statement& statement = same.empty() ? insert : revive;
      statement.reset();
      if (same.empty()) {
        SQLite::bind(insert, c.job, c.model, c.stack, c.baseline ? 1 : 0, c.lr_scale, c.seed, c.axes, c.phase);
      } else {
        revive.bind(1, same.back());
        same.pop_back();
      }
      statement.exec();
    }
    transaction.commit();
  });
}

RunState SweepStore::state(const std::string& job) const { return state_of(impl_->file, impl_->get(job).state); }
std::string SweepStore::message(const std::string& job) const { return impl_->get(job).message; }
std::int64_t SweepStore::attempt(const std::string& job) const { return impl_->get(job).attempt; }

bool SweepStore::set_state(const std::string& job, RunState state, const std::string& message, std::int64_t attempt) {
  return in_database(impl_->file, [&] {
    SQLite::Database& db = *impl_->db;
    WriteTransaction transaction(db, Durability::power_loss);
    const Impl::Run run = impl_->get(job);
    if (attempt < run.attempt) return false;
    SQLite::Statement update(db, "UPDATE runs SET state = ?, message = ?, attempt = ? WHERE run = ?");
    SQLite::bind(update, std::string(name_of(state)), message, attempt, run.run);
    update.exec();
    // It is the last word about the attempt as well, unless that has brought a result.
    if (state != RunState::queued && state != RunState::running) {
      SQLite::Statement end(db,
                            "UPDATE attempts SET state = ?, message = ?, ended_at = coalesce(ended_at, ?) "
                            "WHERE run = ? AND attempt = ? AND state NOT IN ('done', 'diverged')");
      SQLite::bind(end, std::string(name_of(state)), message, utc_now(), run.run, attempt);
      end.exec();
    }
    transaction.commit();
    return true;
  });
}

std::optional<double> SweepStore::validation_loss(const std::string& job) const {
  const std::int64_t run = impl_->get(job).run;
  return in_database(impl_->file, [&]() -> std::optional<double> {
    SQLite::Statement query(*impl_->db, "SELECT loss FROM eval_curve WHERE run = ? ORDER BY step DESC LIMIT 1");
    query.bind(1, run);
    if (!query.executeStep()) return std::nullopt;
    const SQLite::Column loss = query.getColumn(0);
    return loss.isNull() ? std::numeric_limits<double>::infinity() : loss.getDouble();
  });
}

void SweepStore::set_exit_status(const std::string& job, std::int64_t attempt, const std::string& exit_status) {
  const std::int64_t run = impl_->get(job).run;
  in_database(impl_->file, [&] {
    WriteTransaction transaction(*impl_->db, Durability::power_loss);
    SQLite::Statement update(*impl_->db, "UPDATE attempts SET exit_status = ? WHERE run = ? AND attempt = ?");
    SQLite::bind(update, exit_status, run, attempt);
    update.exec();
    transaction.commit();
  });
}

std::int64_t SweepStore::ingest(const std::filesystem::path& run_db) {
  if (is_unborn(run_db)) return 0;
  // Kept open while its rows are copied: it is the file that was checked.
  const auto checked = open_as_it_is(run_db);
  return taking_in(run_db, impl_->file, [&]() -> std::int64_t {
    SQLite::Database& db = *impl_->db;
    const Attached attached(db, run_db);
    WriteTransaction transaction(db, Durability::power_loss);
    const auto held = strings(db, "SELECT name FROM incoming.sqlite_schema WHERE type = 'table'");
    std::vector<std::string> missing = schema_tables();
    std::erase_if(missing, [&](const auto& table) { return std::find(held.begin(), held.end(), table) != held.end(); });
    const bool older = db.execAndGet("PRAGMA incoming.user_version").getInt() < kSchemaVersion;
    if (!missing.empty() && !older)
      throw DatabaseError(run_db.string(), fmt::format("lacks the tables {}; move it away", join(missing)));
    if (db.execAndGet("SELECT count(*) FROM incoming.cells").getInt64() != 0) {
      throw DatabaseError(run_db.string(), "is the database of a sweep, not of a run");
    }
    SQLite::Statement query(db, "SELECT run, job, config, attempt, parameters, corpus FROM incoming.runs");
    if (!query.executeStep()) return 0;  // made, but its worker had not registered yet
    const std::int64_t source = query.getColumn(0).getInt64();
    const std::string job = query.getColumn(1).getString();
    const std::string config = query.getColumn(2).getString();
    const std::int64_t attempt = query.getColumn(3).getInt64();
    const std::int64_t parameters = query.getColumn(4).getInt64();
    const std::string corpus = query.getColumn(5).getString();
    if (query.executeStep()) throw DatabaseError(run_db.string(), "holds several runs; it is not the run.db of one job");
    query.reset();
    const auto known = impl_->find(job);
    if (!known)
      throw DatabaseError(run_db.string(),
                          fmt::format("holds job '{}', which this sweep has never planned", printable(job)));
    if (known->config != config) {
      throw DatabaseError(run_db.string(), fmt::format("its config is not that of job {}; move it away and run again", job));
    }
    const std::int64_t run = known->run;

    // What has been trained after a result counts nowhere: a result stays a result.
    std::int64_t last = attempt;
    if (is_result(state_of(impl_->file, known->state))) {
      if (attempt > known->attempt)
        throw DatabaseError(run_db.string(),
                            fmt::format("attempt {} was made after attempt {} had become a result ({}); a result stays a "
                                        "result: move the file away",
                                        attempt, known->attempt, known->state));
    } else {
      const SQLite::Column first =
          db.execAndGet("SELECT min(attempt) FROM incoming.attempts WHERE state IN ('done', 'diverged')");
      if (!first.isNull()) last = std::min(last, first.getInt64());
    }

    std::int64_t added = 0;
    const auto copy = [&](const std::string& table, const std::string& on_conflict) {
      const std::vector<std::string> names = common_columns(db, table, older);
      if (names.empty()) return 0;
      const std::string columns = join(names);
      const bool by_attempt = std::find(names.begin(), names.end(), "\"attempt\"") != names.end();
      SQLite::Statement insert(
          db, fmt::format("INSERT INTO main.{0} (run, {1}) SELECT ?1, {1} FROM incoming.{0} WHERE run = ?2 {2} {3}", table,
                          columns, by_attempt ? "AND attempt <= ?3" : "", on_conflict));
      insert.bind(1, run);
      insert.bind(2, source);
      if (by_attempt) insert.bind(3, last);
      return insert.exec();
    };
    // The first last word counts, the worker's or what the supervisor has made of its end; a result always counts.
    const std::int64_t before = db.execAndGet("SELECT count(*) FROM main.attempts").getInt64();
    copy("attempts",
         "ON CONFLICT DO UPDATE SET state = excluded.state, message = excluded.message, ended_at = excluded.ended_at, "
         "peak_rss_bytes = excluded.peak_rss_bytes, state_bytes = excluded.state_bytes WHERE (attempts.state = 'running' "
         "AND excluded.state <> 'running') OR "
         "(attempts.state NOT IN ('done', 'diverged') AND excluded.state IN ('done', 'diverged'))");
    added += db.execAndGet("SELECT count(*) FROM main.attempts").getInt64() - before;
    for (const std::string& table : row_tables(db)) added += copy(table, "ON CONFLICT DO NOTHING");

    SQLite::Statement facts(db, "UPDATE main.runs SET parameters = ?, corpus = ? WHERE run = ?");
    SQLite::bind(facts, parameters, corpus, run);
    facts.exec();
    // A result counts although a newer attempt was begun here, which then never came to register.
    const std::string later =
        last < attempt ? fmt::format("; run.db holds attempt {}, made after this result: it is not taken in", attempt) : "";
    SQLite::Statement state(
        db,
        "UPDATE main.runs SET state = a.state, message = a.message || ?3, attempt = max(main.runs.attempt, a.attempt) "
        "FROM main.attempts a WHERE main.runs.run = ?1 AND a.run = ?1 AND a.attempt = ?2 AND "
        "(a.state IN ('done', 'diverged') OR main.runs.attempt < ?2 OR "
        "(main.runs.attempt = ?2 AND main.runs.state NOT IN ('queued', 'cancelled')))");
    SQLite::bind(state, run, last, later);
    state.exec();
    transaction.commit();
    return added;
  });
}

std::int64_t SweepStore::rows() const {
  return in_database(impl_->file, [&] {
    std::int64_t sum = 0;
    for (const std::string& table :
         strings(*impl_->db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")) {
      sum += impl_->db->execAndGet("SELECT count(*) FROM " + table).getInt64();
    }
    return sum;
  });
}

bool SweepStore::locked() const { return is_locked(*impl_->db); }

}  // namespace equisweep
