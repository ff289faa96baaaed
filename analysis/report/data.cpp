#include "analysis/report/data.h"

#include <SQLiteCpp/SQLiteCpp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "analysis/statistics/statistics.h"
#include "core/error.h"

namespace equisweep {
namespace {

nlohmann::json object_of(const std::string& text) {
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_object() ? value : nlohmann::json::object();
}

double real(const SQLite::Column& column) { return column.isNull() ? kNan : column.getDouble(); }

std::size_t index_of(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  names.push_back(name);
  return names.size() - 1;
}

void load_runs(SQLite::Database& db, std::vector<std::unique_ptr<RunRecord>>& runs) {
  SQLite::Statement query(
      db,
      "SELECT r.run, r.job, r.state, r.message, r.attempt, r.parameters, r.config, r.corpus FROM runs r "
      "JOIN (SELECT job, min(cell) AS first FROM cells WHERE retired = 0 GROUP BY job) c ON c.job = r.job "
      "ORDER BY c.first");
  while (query.executeStep()) {
    auto run = std::make_unique<RunRecord>();
    run->run = query.getColumn(0).getInt64();
    run->job = query.getColumn(1).getString();
    run->state = run_state_from_name(query.getColumn(2).getString()).value_or(RunState::failed);
    run->message = query.getColumn(3).getString();
    run->attempt = query.getColumn(4).getInt64();
    run->parameters = query.getColumn(5).getInt64();
    run->config = object_of(query.getColumn(6).getString());
    run->corpus = object_of(query.getColumn(7).getString());
    runs.push_back(std::move(run));
  }
  SQLite::Statement evals(
      db, "SELECT step, tokens, seconds, loss, bits_per_byte, eval_tokens FROM eval_curve WHERE run = ? ORDER BY step");
  for (const auto& run : runs) {
    evals.reset();
    evals.bind(1, run->run);
    while (evals.executeStep()) {
      EvalRow row{.step = evals.getColumn(0).getInt64(),
                  .tokens = evals.getColumn(1).getInt64(),
                  .seconds = real(evals.getColumn(2)),
                  .loss = real(evals.getColumn(3)),
                  .bits_per_byte = {},
                  .eval_tokens = evals.getColumn(5).getInt64()};
      if (!evals.getColumn(4).isNull()) row.bits_per_byte = evals.getColumn(4).getDouble();
      run->evals.push_back(row);
    }
  }
}

void rank(Arm& arm) {
  std::sort(arm.points.begin(), arm.points.end(),
            [](const LrPoint& a, const LrPoint& b) { return std::tie(a.lr_scale, a.axes) < std::tie(b.lr_scale, b.axes); });
  for (LrPoint& point : arm.points) {
    std::sort(point.cells.begin(), point.cells.end(), [](auto* a, auto* b) { return a->seed < b->seed; });
    std::vector<double> losses;
    for (const CellRecord* cell : point.cells) {
      const double loss = cell->run->final_loss();
      if (cell->run->pending()) {
        point.complete = false;
      } else {
        losses.push_back(loss);
        point.lost += std::isinf(loss) ? 1 : 0;
      }
    }
    point.mean = ranking_mean(losses);
  }
  for (std::size_t i = 1; i < arm.points.size(); ++i) {
    const LrPoint &a = arm.points[i], &b = arm.points[arm.best];
    if (std::pair(!a.complete, a.mean) < std::pair(!b.complete, b.mean)) arm.best = i;
  }
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

bool RunRecord::pending() const {
  return state == RunState::queued || state == RunState::running || state == RunState::preempted;
}

double RunRecord::final_loss() const {
  if (pending()) return kNan;
  if (state != RunState::done || evals.empty() || !std::isfinite(evals.back().loss)) return kInfinity;
  return evals.back().loss;
}

ReportData::ReportData(const std::filesystem::path& sweep_db)
    : db_(open_read_only(sweep_db)), folder_(sweep_db.parent_path()) {
  try {
    db_->exec("BEGIN");  // one snapshot for everything that the sections read, also while a sweep runs
    SQLite::Statement keys(*db_, "SELECT key, value FROM meta");
    while (keys.executeStep()) meta.emplace(keys.getColumn(0).getString(), keys.getColumn(1).getString());
    load_runs(*db_, runs);

    std::map<std::string, const RunRecord*> by_job;
    for (const auto& run : runs) by_job.emplace(run->job, run.get());
    SQLite::Statement query(
        *db_, "SELECT job, model, stack, baseline, lr_scale, seed, axes, phase FROM cells WHERE retired = 0 ORDER BY cell");
    while (query.executeStep()) {
      const auto run = by_job.find(query.getColumn(0).getString());
      if (run == by_job.end())
        throw DatabaseError(sweep_db.string(), "a cell of the sweep names a job that is not in `runs`");
      CellRecord cell{.model = index_of(models, query.getColumn(1).getString()),
                      .stack = index_of(stacks, query.getColumn(2).getString()),
                      .lr_scale = query.getColumn(4).getDouble(),
                      .seed = query.getColumn(5).getInt64(),
                      .axes = query.getColumn(6).getString(),
                      .phase = query.getColumn(7).getString(),
                      .run = run->second};
      tuned = tuned || !cell.phase.empty();
      if (query.getColumn(3).getInt() == 1 && !baseline) baseline = cell.stack;
      cells.push_back(std::move(cell));
    }
  } catch (const SQLite::Exception& error) {
    throw DatabaseError(sweep_db.string(), error.what());
  }

  tuning_arms = arms_of(cells, tuned ? "tune" : "");
  arms = arms_of(cells, tuned ? "confirm" : "");
}

ReportData::~ReportData() = default;

std::string ReportData::name() const {
  for (const char* key : {"name", "sweep"}) {
    if (const auto found = meta.find(key); found != meta.end()) return found->second;
  }
  return "sweep";
}

const Arm* ReportData::arm(std::size_t model, std::size_t stack) const {
  for (const Arm& a : arms) {
    if (a.model == model && a.stack == stack) return &a;
  }
  return nullptr;
}

const Arm* ReportData::baseline_arm(std::size_t model) const { return baseline ? arm(model, *baseline) : nullptr; }

std::vector<std::int64_t> ReportData::seeds(const std::string& phase) const {
  std::set<std::int64_t> seeds;
  for (const CellRecord& cell : cells)
    if (cell.phase == phase) seeds.insert(cell.seed);
  return {seeds.begin(), seeds.end()};
}

nlohmann::json ReportData::setting(const char* key) const {
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

}  // namespace equisweep
