#include "sweeps/overview.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/run_store.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

std::optional<double> real_or_nothing(const SQLite::Column& column) {
  if (column.isNull()) return std::nullopt;
  return column.getDouble();
}

/// How far run number `run` of a database is. Each row is one look at the primary key, however long the run.
void read_progress(const SQLite::Database& db, std::int64_t run, RunOverview& overview) {
  SQLite::Statement newest(db,
                           "SELECT step, tokens, seconds, loss FROM steps WHERE run = ? "
                           "ORDER BY attempt DESC, step DESC LIMIT 1");
  newest.bind(1, run);
  if (newest.executeStep()) {
    overview.step = newest.getColumn(0).getInt64();
    overview.tokens = newest.getColumn(1).getInt64();
    overview.seconds = newest.getColumn(2).getDouble();
    overview.train_loss = real_or_nothing(newest.getColumn(3));
  }
  SQLite::Statement evaluated(db, "SELECT loss FROM eval_curve WHERE run = ? ORDER BY step DESC LIMIT 1");
  evaluated.bind(1, run);
  if (evaluated.executeStep()) overview.val_loss = real_or_nothing(evaluated.getColumn(0));
}

/// What the run.db of a running job knows beyond the sweep's. A worker that has only begun has none that can be read yet.
void read_newest(const std::filesystem::path& run_db, RunOverview& overview) {
  if (!std::filesystem::exists(run_db)) return;
  try {
    const auto db = open_read_only(run_db);
    SQLite::Statement own(*db, "SELECT run FROM runs WHERE job = ?");
    own.bind(1, overview.job);
    if (own.executeStep()) read_progress(*db, own.getColumn(0).getInt64(), overview);
  } catch (const DatabaseError&) {
  } catch (const SQLite::Exception&) {
  }
}

double number_or_nan(const std::optional<double>& value) { return value.value_or(std::numeric_limits<double>::quiet_NaN()); }

using Value = std::variant<double, std::string>;

constexpr std::array kOverviewColumns = {
    OverviewColumn{"job", "id: hash of its config", [](const RunOverview& r) -> Value { return r.job; }},
    OverviewColumn{"model", "", [](const RunOverview& r) -> Value { return r.model; }},
    OverviewColumn{"stack", "", [](const RunOverview& r) -> Value { return r.stack; }},
    OverviewColumn{"lr_scale", "multiplies every learning rate of the stack",
                   [](const RunOverview& r) -> Value { return r.lr_scale; }},
    OverviewColumn{"axes", "values of the stack's own axes, JSON", [](const RunOverview& r) -> Value { return r.axes; }},
    OverviewColumn{"seed", "", [](const RunOverview& r) -> Value { return static_cast<double>(r.seed); }},
    OverviewColumn{"phase", "tune, confirm, or nothing", [](const RunOverview& r) -> Value { return r.phase; }},
    OverviewColumn{"state", "", [](const RunOverview& r) -> Value { return std::string(name_of(r.state)); }},
    OverviewColumn{"step", "updates made", [](const RunOverview& r) -> Value { return static_cast<double>(r.step); }},
    OverviewColumn{"loss", "newest validation loss, nats per token",
                   [](const RunOverview& r) -> Value { return number_or_nan(r.val_loss); }},
    OverviewColumn{"train_loss", "of the newest step, nats per token",
                   [](const RunOverview& r) -> Value { return number_or_nan(r.train_loss); }},
    OverviewColumn{"tokens_per_second", "", [](const RunOverview& r) -> Value { return r.tokens_per_second(); }},
    OverviewColumn{"seconds", "of training", [](const RunOverview& r) -> Value { return r.seconds; }},
    OverviewColumn{"attempt", "how often it was started",
                   [](const RunOverview& r) -> Value { return static_cast<double>(r.attempt); }},
    OverviewColumn{"retired", "1: no longer in the sweep file",
                   [](const RunOverview& r) -> Value { return r.retired ? 1.0 : 0.0; }},
    OverviewColumn{"message", "why it is in this state", [](const RunOverview& r) -> Value { return r.message; }}};

const OverviewColumn& find_column(std::string_view name, std::string_view option) {
  const auto* const found =
      std::find_if(kOverviewColumns.begin(), kOverviewColumns.end(), [&](const auto& c) { return c.name == name; });
  if (found != kOverviewColumns.end()) return *found;
  std::vector<std::string> names;
  for (const OverviewColumn& c : kOverviewColumns) names.emplace_back(c.name);
  throw UsageError({Problem{{},
                            fmt::format("{}: unknown column '{}'", option, printable(name)),
                            "one of: " + join(names),
                            nearest_name(name, names)}});
}

/// -1, 0 or 1; nothing where the two cannot be compared.
std::optional<int> compare(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::nullopt;
  return a < b ? -1 : (a > b ? 1 : 0);
}

struct Filter {
  const OverviewColumn* column;
  std::string_view sign;
  std::string text;
  double number = 0;

  bool holds(const RunOverview& run) const {
    const Value value = column->value(run);
    if (const auto* own = std::get_if<std::string>(&value)) return (*own == text) == (sign == "=");
    const std::optional<int> order = compare(std::get<double>(value), number);
    if (!order) return sign == "!=";
    if (sign == "=") return *order == 0;
    if (sign == "!=") return *order != 0;
    if (sign == "<") return *order < 0;
    if (sign == ">") return *order > 0;
    return sign == "<=" ? *order <= 0 : *order >= 0;
  }
};

Filter parse_filter(const std::string& given) {
  const std::size_t at = given.find_first_of("=!<>");
  const auto refuse = [&](const std::string& why) {
    return UsageError({Problem{
        {}, fmt::format("--filter '{}': {}", printable(given), why), "COLUMN=VALUE, or != < > <= >= between them", ""}});
  };
  if (at == std::string::npos) throw refuse("is no comparison");
  std::string_view sign;
  for (const std::string_view candidate : {"!=", "<=", ">=", "=", "<", ">"})
    if (sign.empty() && std::string_view(given).substr(at).starts_with(candidate)) sign = candidate;
  if (sign.empty()) throw refuse("is no comparison");
  Filter filter{&find_column(std::string_view(given).substr(0, at), "--filter"), sign, given.substr(at + sign.size())};
  if (std::holds_alternative<std::string>(filter.column->value(RunOverview{}))) {
    if (sign != "=" && sign != "!=") throw refuse(fmt::format("{} is text, which has no order", filter.column->name));
    return filter;
  }
  const auto* end = filter.text.data() + filter.text.size();
  const auto [stop, error] = std::from_chars(filter.text.data(), end, filter.number);
  if (error != std::errc() || stop != end) throw refuse(fmt::format("{} is a number", filter.column->name));
  return filter;
}

}  // namespace

std::map<RunState, std::size_t> SweepOverview::counts() const {
  std::map<RunState, std::size_t> counts;
  std::set<std::string> seen;
  for (const RunOverview& run : runs)
    if (!run.retired && seen.insert(run.job).second) ++counts[run.state];
  return counts;
}

std::optional<double> SweepOverview::seconds_left() const {
  double steps_left = 0, steps_per_second = 0;
  std::set<std::string> seen;
  for (const RunOverview& run : runs) {
    const bool waits = run.state == RunState::queued || run.state == RunState::running || run.state == RunState::preempted;
    if (run.retired || !waits || !seen.insert(run.job).second) continue;
    steps_left += static_cast<double>(run.steps - run.step);
    if (run.state == RunState::running && run.seconds > 0) steps_per_second += static_cast<double>(run.step) / run.seconds;
  }
  if (steps_per_second <= 0) return std::nullopt;
  return steps_left / steps_per_second;
}

SweepOverview read_overview(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "sweep.db";
  SweepOverview overview;
  overview.folder = folder;
  overview.supervisor = lock_holder(folder / kSupervisorLock);
  try {
    const auto db = open_read_only(file);
    const SQLite::Transaction snapshot(*db);
    SQLite::Statement name(*db, "SELECT value FROM meta WHERE key = 'name'");
    overview.name = name.executeStep() ? name.getColumn(0).getString() : folder.filename().string();
    SQLite::Statement cells(*db,
                            "SELECT c.job, c.model, c.stack, c.phase, c.axes, c.baseline, c.retired, c.lr_scale, c.seed, "
                            "r.state, r.message, r.attempt, r.parameters, json_extract(r.config, '$.train.steps'), r.run "
                            "FROM cells c JOIN runs r ON r.job = c.job ORDER BY c.cell");
    while (cells.executeStep()) {
      RunOverview run;
      run.job = cells.getColumn(0).getString();
      run.model = cells.getColumn(1).getString();
      run.stack = cells.getColumn(2).getString();
      run.phase = cells.getColumn(3).getString();
      run.axes = cells.getColumn(4).getString();
      run.baseline = cells.getColumn(5).getInt() != 0;
      run.retired = cells.getColumn(6).getInt() != 0;
      run.lr_scale = cells.getColumn(7).getDouble();
      run.seed = cells.getColumn(8).getInt64();
      run.state = run_state_from_name(cells.getColumn(9).getString()).value_or(RunState::queued);
      run.message = cells.getColumn(10).getString();
      run.attempt = cells.getColumn(11).getInt64();
      run.parameters = cells.getColumn(12).getInt64();
      run.steps = cells.getColumn(13).getInt64();
      read_progress(*db, cells.getColumn(14).getInt64(), run);
      if (run.state == RunState::running) read_newest(folder / "runs" / run.job / "run.db", run);
      overview.runs.push_back(std::move(run));
    }
  } catch (const SQLite::Exception& e) {
    throw DatabaseError(file.string(), e.what());
  }
  return overview;
}

std::span<const OverviewColumn> overview_columns() { return kOverviewColumns; }

void filter_runs(std::vector<RunOverview>& runs, std::span<const std::string> filters) {
  std::vector<Filter> parsed;
  for (const std::string& filter : filters) parsed.push_back(parse_filter(filter));
  std::erase_if(runs, [&](const RunOverview& run) {
    return !std::all_of(parsed.begin(), parsed.end(), [&](const Filter& f) { return f.holds(run); });
  });
}

void sort_runs(std::vector<RunOverview>& runs, std::string_view column) {
  const bool falling = column.starts_with('-');
  const OverviewColumn& key = find_column(column.substr(falling ? 1 : 0), "--sort");
  std::stable_sort(runs.begin(), runs.end(), [&](const RunOverview& a, const RunOverview& b) {
    const Value left = key.value(a), right = key.value(b);
    if (const auto* text = std::get_if<std::string>(&left))
      return falling ? *text > std::get<std::string>(right) : *text < std::get<std::string>(right);
    const double x = std::get<double>(left), y = std::get<double>(right);
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
    return falling ? x > y : x < y;
  });
}

}  // namespace equisweep
