#include "analysis/report/data.h"

#include <SQLiteCpp/SQLiteCpp.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "analysis/report/join.h"
#include "analysis/statistics/statistics.h"
#include "core/database.h"
#include "core/document.h"
#include "core/error.h"

namespace equisweep {
namespace {

double real(const SQLite::Column& column) { return column.isNull() ? kNan : column.getDouble(); }

EvalRow eval_row(SQLite::Statement& query) {
  EvalRow row{.step = query.getColumn(0).getInt64(),
              .tokens = query.getColumn(1).getInt64(),
              .seconds = real(query.getColumn(2)),
              .loss = real(query.getColumn(3)),
              .bits_per_byte = {},
              .eval_tokens = query.getColumn(5).getInt64()};
  if (!query.getColumn(4).isNull()) row.bits_per_byte = query.getColumn(4).getDouble();
  return row;
}

// The evaluation after the step at which an attempt resumed may be its own (the one before training is that of an attempt
// that resumed after step 0) or that of an older one: the newest that is there.
constexpr const char* kEvals =
    "SELECT step, tokens, seconds, loss, bits_per_byte, eval_tokens FROM evals WHERE run = ?1 AND attempt = ?2 AND step >= "
    "?3 AND step <= ?4 ORDER BY step";

/// The first and the last evaluation that count, without reading those between them.
struct EndsOfEvals {
  explicit EndsOfEvals(SQLite::Database& db)
      : first(db, std::string(kEvals) + " LIMIT 1"), last(db, std::string(kEvals) + " DESC LIMIT 1") {}

  void read(RunRecord& run) {
    for (const LiveAttempt& a : run.live) {
      const std::optional<EvalRow> early = one_of(first, run.run, a), late = one_of(last, run.run, a);
      if (early && (!run.first_eval || early->step <= run.first_eval->step)) run.first_eval = early;
      if (late && (!run.last_eval || late->step >= run.last_eval->step)) run.last_eval = late;
    }
  }

  static std::optional<EvalRow> one_of(SQLite::Statement& query, std::int64_t run, const LiveAttempt& a) {
    query.reset();
    query.bind(1, run);
    query.bind(2, a.attempt);
    query.bind(3, a.after);
    query.bind(4, a.until);
    if (!query.executeStep()) return std::nullopt;
    return eval_row(query);
  }

  SQLite::Statement first, last;
};

/// Runs of which an attempt was made to fail.
std::set<std::int64_t> faulted_runs(SQLite::Database& db) {
  std::set<std::int64_t> runs;
  SQLite::Statement query(db, "SELECT DISTINCT run FROM events WHERE kind = 'fault'");
  while (query.executeStep()) runs.insert(query.getColumn(0).getInt64());
  return runs;
}

LoadedSweep load_sweep(SQLite::Database& db, std::size_t number) {
  LoadedSweep sweep;
  SQLite::Statement query(
      db,
      "SELECT r.run, r.job, r.state, r.message, r.attempt, r.parameters, r.config, r.corpus FROM runs r "
      "JOIN (SELECT job, min(cell) AS first FROM cells WHERE retired = 0 GROUP BY job) c ON c.job = r.job "
      "ORDER BY c.first");
  EndsOfEvals ends(db);
  const std::set<std::int64_t> faulted = faulted_runs(db);
  auto live = live_attempts(db);
  std::map<std::string, std::size_t> by_job;
  while (query.executeStep()) {
    auto run = std::make_unique<RunRecord>();
    run->run = query.getColumn(0).getInt64();
    run->sweep = number;
    run->job = query.getColumn(1).getString();
    run->state = run_state_from_name(query.getColumn(2).getString()).value_or(RunState::failed);
    run->message = query.getColumn(3).getString();
    run->attempt = query.getColumn(4).getInt64();
    run->parameters = query.getColumn(5).getInt64();
    run->config = object_of(query.getColumn(6).getString());
    run->corpus = object_of(query.getColumn(7).getString());
    run->live = std::move(live[run->run]);
    run->faulted = faulted.contains(run->run);
    ends.read(*run);
    by_job.emplace(run->job, sweep.runs.size());
    sweep.runs.push_back(std::move(run));
  }
  SQLite::Statement cells(
      db, "SELECT job, model, stack, baseline, lr_scale, seed, axes, phase FROM cells WHERE retired = 0 ORDER BY cell");
  while (cells.executeStep()) {
    const auto run = by_job.find(cells.getColumn(0).getString());
    if (run == by_job.end()) throw DatabaseError(db.getFilename(), "a cell of the sweep names a job that is not in `runs`");
    sweep.cells.push_back({.model = cells.getColumn(1).getString(),
                           .stack = cells.getColumn(2).getString(),
                           .baseline = cells.getColumn(3).getInt() == 1,
                           .lr_scale = cells.getColumn(4).getDouble(),
                           .seed = cells.getColumn(5).getInt64(),
                           .axes = cells.getColumn(6).getString(),
                           .phase = cells.getColumn(7).getString(),
                           .run = run->second});
  }
  return sweep;
}

std::map<std::string, std::string> load_meta(SQLite::Database& db) {
  std::map<std::string, std::string> meta;
  SQLite::Statement keys(db, "SELECT key, value FROM meta");
  while (keys.executeStep()) meta.emplace(keys.getColumn(0).getString(), keys.getColumn(1).getString());
  return meta;
}

std::string sweep_name(const std::map<std::string, std::string>& meta) {
  for (const char* key : {"name", "sweep"}) {
    if (const auto found = meta.find(key); found != meta.end()) return found->second;
  }
  return "sweep";
}

void rank(Arm& arm) {
  std::sort(arm.points.begin(), arm.points.end(),
            [](const LrPoint& a, const LrPoint& b) { return std::tie(a.lr_scale, a.axes) < std::tie(b.lr_scale, b.axes); });
  std::size_t most = 0;
  for (LrPoint& point : arm.points) {
    std::sort(point.cells.begin(), point.cells.end(), [](auto* a, auto* b) { return a->seed < b->seed; });
    std::vector<double> losses;
    for (const CellRecord* cell : point.cells) {
      const RunRecord& run = *cell->run;
      point.complete = point.complete && is_result(run.state);
      point.gone += run.gone() ? 1 : 0;
      point.lost += run.gone() || std::isinf(run.final_loss()) ? 1 : 0;
      if (is_result(run.state)) losses.push_back(run.final_loss());
    }
    point.mean = ranking_mean(losses);
    most = std::max(most, point.seeds().size());
  }
  for (LrPoint& point : arm.points) point.partial = point.seeds().size() < most;
  // A point without all of its results may not win by the seeds that it has, nor lose to one that diverged.
  const auto key = [](const LrPoint& p) { return std::tuple(p.partial, !(p.complete && std::isfinite(p.mean)), p.mean); };
  for (std::size_t i = 1; i < arm.points.size(); ++i)
    if (key(arm.points[i]) < key(arm.points[arm.best])) arm.best = i;
}

/// Models x stacks of the cells of `phase`.
std::vector<Arm> arms_of(const std::vector<CellRecord>& cells, const std::string& phase) {
  std::map<std::pair<std::size_t, std::size_t>, Arm> by_arm;
  for (const CellRecord& cell : cells) {
    if (cell.phase != phase) continue;
    Arm& arm = by_arm.try_emplace({cell.model, cell.stack}, Arm{.model = cell.model, .stack = cell.stack, .points = {}})
                   .first->second;
    auto point = std::find_if(arm.points.begin(), arm.points.end(),
                              [&](const LrPoint& p) { return p.lr_scale == cell.lr_scale && p.axes == cell.axes; });
    if (point == arm.points.end()) {
      arm.points.push_back({.lr_scale = cell.lr_scale, .axes = cell.axes, .cells = {}});
      point = arm.points.end() - 1;
    }
    point->cells.push_back(&cell);
  }
  std::vector<Arm> arms;
  for (auto& [key, arm] : by_arm) {
    rank(arm);
    arms.push_back(std::move(arm));
  }
  return arms;
}

}  // namespace

std::set<std::int64_t> LrPoint::seeds() const {
  std::set<std::int64_t> all;
  for (const CellRecord* cell : cells) all.insert(cell->seed);
  return all;
}

std::set<std::int64_t> Arm::seeds() const {
  std::set<std::int64_t> all;
  for (const LrPoint& point : points) all.merge(point.seeds());
  return all;
}

std::size_t Arm::trials() const {
  return static_cast<std::size_t>(std::count_if(points.begin(), points.end(), [](const LrPoint& p) { return !p.partial; }));
}

const LrPoint* Arm::rival() const {
  const std::map<std::int64_t, double> own = finite_losses(chosen());
  for (const LrPoint& point : points) {
    if (&point == &chosen() || point.partial || point.gone == 0 || point.lost > point.gone) continue;
    double ahead = 0;  // of the chosen point, over the seeds that both have
    for (const auto& [seed, loss] : finite_losses(point))
      if (const auto same = own.find(seed); same != own.end()) ahead += same->second - loss;
    if (ahead >= 0 || !std::isfinite(chosen().mean)) return &point;
  }
  return nullptr;
}

bool RunRecord::pending() const {
  return state == RunState::queued || state == RunState::running || state == RunState::preempted;
}

bool RunRecord::gone() const { return !pending() && !is_result(state); }

double RunRecord::final_loss() const {
  if (pending()) return kNan;
  if (state != RunState::done || !last_eval || !std::isfinite(last_eval->loss)) return kInfinity;
  return last_eval->loss;
}

ReportData::ReportData(const ReportSource& source) {
  std::vector<LoadedSweep> loaded;
  std::set<std::string> names;
  for (const std::filesystem::path& file : source.databases) {
    databases_.push_back(open_read_only(file));
    SQLite::Database& db = *databases_.back();
    try {
      db.exec("BEGIN");  // one snapshot for everything that the sections read, also while a sweep runs
      SweepRecord record{.name = {}, .folder = file.parent_path(), .meta = load_meta(db)};
      const std::string name = sweep_name(record.meta);
      record.name = name;
      for (int i = 2; !names.insert(record.name).second; ++i) record.name = fmt::format("{} ({})", name, i);
      LoadedSweep sweep = load_sweep(db, sweeps.size());
      sweep.name = record.name;
      record.runs = sweep.runs.size();
      for (const auto& run : sweep.runs) record.results += is_result(run->state) ? 1 : 0;
      sweeps.push_back(std::move(record));
      loaded.push_back(std::move(sweep));
    } catch (const SQLite::Exception& error) {
      throw_database_error(file, error);
    }
  }
  Joined all = join_sweeps(std::move(loaded), source.mix, source.baseline);
  models = std::move(all.models);
  stacks = std::move(all.stacks);
  baseline = all.baseline;
  runs = std::move(all.runs);
  cells = std::move(all.cells);
  mixed = std::move(all.mixed);
  joined = std::move(all.notes);
  tuned = std::any_of(cells.begin(), cells.end(), [](const CellRecord& cell) { return !cell.phase.empty(); });
  tuning_arms = arms_of(cells, tuned ? "tune" : "");
  arms = arms_of(cells, tuned ? "confirm" : "");
}

ReportData::~ReportData() = default;

std::string ReportData::name() const {
  std::string all;
  for (const SweepRecord& sweep : sweeps) all.append(all.empty() ? "" : " + ").append(sweep.name);
  return all;
}

const Arm* ReportData::arm(std::size_t model, std::size_t stack) const {
  for (const Arm& a : arms) {
    if (a.model == model && a.stack == stack) return &a;
  }
  return nullptr;
}

const Arm* ReportData::baseline_arm(std::size_t model) const { return baseline ? arm(model, *baseline) : nullptr; }

const Arm* ReportData::tuning_arm(std::size_t model, std::size_t stack) const {
  for (const Arm& a : tuning_arms) {
    if (a.model == model && a.stack == stack) return &a;
  }
  return nullptr;
}

bool ReportData::chose() const {
  return std::any_of(tuning_arms.begin(), tuning_arms.end(), [](const Arm& arm) { return arm.points.size() > 1; });
}

std::vector<std::int64_t> ReportData::seeds(const std::string& phase) const {
  std::set<std::int64_t> seeds;
  for (const CellRecord& cell : cells)
    if (cell.phase == phase) seeds.insert(cell.seed);
  return {seeds.begin(), seeds.end()};
}

nlohmann::json ReportData::setting(const char* key) const {
  const auto& meta = sweeps.front().meta;
  const auto found = meta.find("report");
  const nlohmann::json settings = found == meta.end() ? nlohmann::json() : object_of(found->second);
  return settings.contains(key) ? settings[key] : nlohmann::json();
}

std::size_t ReportData::count(RunState state) const {
  return static_cast<std::size_t>(std::count_if(runs.begin(), runs.end(), [&](const auto& r) { return r->state == state; }));
}

std::size_t ReportData::results() const { return count(RunState::done) + count(RunState::diverged); }

bool ReportData::complete() const {
  return std::none_of(runs.begin(), runs.end(), [](const auto& r) { return r->pending(); });
}

std::vector<EvalRow> ReportData::evals(const RunRecord& run) const {
  std::vector<EvalRow> rows;
  visit(run, kEvals, [&](SQLite::Statement& query) {
    EvalRow row = eval_row(query);
    if (!rows.empty() && rows.back().step == row.step) rows.pop_back();
    rows.push_back(row);
  });
  return rows;
}

double ReportData::unigram_entropy(const RunRecord& run) {
  const auto found = run.corpus.find("unigram_entropy");
  return found != run.corpus.end() && found->is_number() ? found->get<double>() : kNan;
}

std::map<std::int64_t, double> finite_losses(const LrPoint& point) {
  std::map<std::int64_t, double> losses;
  for (const CellRecord* cell : point.cells) {
    const double loss = cell->run->final_loss();
    if (std::isfinite(loss)) losses.emplace(cell->seed, loss);
  }
  return losses;
}

std::string why_copies(const LrPoint& point) {
  if (point.seeds().size() < 2) return "";
  for (const CellRecord* cell : point.cells)
    if (cell->run->config.contains("init_from"))
      return "all its seeds begin from the same weights (init_from), so they are copies of one run";
  const std::map<std::int64_t, double> losses = finite_losses(point);
  const bool same =
      std::all_of(losses.begin(), losses.end(), [&](const auto& l) { return l.second == losses.begin()->second; });
  if (losses.size() < 2 || !same) return "";
  return "all its seeds ended at the same loss to the last bit, as copies of one run do";
}

}  // namespace equisweep
