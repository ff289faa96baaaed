#include "sweeps/sweep_folder.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/document.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace fs = std::filesystem;

namespace {

/// The document in a column of sweep.db.
nlohmann::json document_in(const SQLite::Column& column, const fs::path& file) {
  if (auto document = document_of(column.getString())) return *std::move(document);
  throw DatabaseError(file.string(), "holds a config that is no JSON, or nested more than 64 deep; it is damaged");
}

}  // namespace

fs::path find_sweep(const fs::path& results, const std::string& sweep) {
  for (const fs::path& folder : {results / sweep, fs::path(sweep)})
    if (fs::is_regular_file(folder / "sweep.db")) return folder;
  if (fs::path(sweep).filename() == "sweep.db" && fs::is_regular_file(sweep)) return fs::path(sweep).parent_path();

  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(results, none))
    if (fs::exists(entry.path() / "sweep.db")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  std::string message = fmt::format("no sweep '{}' in {}", printable(sweep), results.string());
  message += names.empty() ? "; there is none yet: equisweep run FILE makes one" : "; there are: " + join(names);
  if (const std::string nearest = nearest_name(sweep, names); !nearest.empty())
    message += fmt::format("; did you mean '{}'?", nearest);
  throw Error(message, ExitCode::nothing_matches);
}

fs::path find_run(const fs::path& results, const std::string& run) {
  if (fs::is_regular_file(fs::path(run) / "config.yaml")) return fs::path(run);
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& sweep : fs::directory_iterator(results, none))
    for (const auto& folder : fs::directory_iterator(sweep.path() / "runs", none))
      if (!run.empty() && folder.path().filename().string().starts_with(run) && fs::exists(folder.path() / "config.yaml"))
        found.push_back(folder.path());
  std::sort(found.begin(), found.end());
  if (found.size() == 1) return found[0];
  if (found.empty())
    throw Error(fmt::format("no run '{}': neither a folder with config.yaml nor a job of a sweep in {}; the table of "
                            "`equisweep plan FILE` has the ids of jobs",
                            printable(run), results.string()),
                ExitCode::nothing_matches);
  std::vector<std::string> names;
  for (const auto& path : found) names.push_back(path.string());
  throw Error(fmt::format("'{}' is the beginning of several runs: {}", printable(run), join(names)),
              ExitCode::nothing_matches);
}

std::map<std::string, RunState> recorded_states(const fs::path& folder) {
  std::map<std::string, RunState> states;
  if (!fs::exists(folder / "sweep.db")) return states;
  const auto db = open_read_only(folder / "sweep.db");
  SQLite::Statement query(*db, "SELECT job, state FROM runs");
  while (query.executeStep())
    if (const auto state = run_state_from_name(query.getColumn(1).getString()))
      states.emplace(query.getColumn(0).getString(), *state);
  return states;
}

nlohmann::json read_job_config(const fs::path& run_folder) {
  const fs::path file = run_folder / "config.yaml";
  std::ifstream in(file);
  if (!in) throw DataError(file.string(), "cannot be read; a run folder holds the config that `equisweep run` wrote");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (auto config = document_of(text)) return *std::move(config);
  throw DataError(file.string(),
                  "is not the config of a job: no JSON, or nested more than 64 deep; delete the folder and "
                  "run the sweep again");
}

std::map<std::string, JobResult> recorded_results(const fs::path& folder) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::map<std::string, JobResult> results;
  if (!fs::exists(folder / "sweep.db")) return results;
  const auto db = open_read_only(folder / "sweep.db");
  SQLite::Statement query(*db,
                          "SELECT r.job, r.state, (SELECT e.loss FROM eval_curve e WHERE e.run = r.run ORDER BY e.step DESC "
                          "LIMIT 1) FROM runs r WHERE r.state IN ('done', 'diverged')");
  while (query.executeStep()) {
    const RunState state = *run_state_from_name(query.getColumn(1).getString());
    const SQLite::Column loss = query.getColumn(2);  // NULL: not a number, or no evaluation
    const bool known = state == RunState::done && !loss.isNull();
    results.emplace(query.getColumn(0).getString(), JobResult{.state = state, .loss = known ? loss.getDouble() : kInfinity});
  }
  return results;
}

std::vector<Job> recorded_jobs(const fs::path& folder) {
  std::vector<Job> jobs;
  if (!fs::exists(folder / "sweep.db")) return jobs;
  const auto db = open_read_only(folder / "sweep.db");
  SQLite::Statement query(*db,
                          "SELECT c.job, r.config, c.model, c.stack, c.baseline, c.lr_scale, c.seed, c.axes FROM cells c "
                          "JOIN runs r ON r.job = c.job WHERE c.retired = 0 ORDER BY c.cell");
  while (query.executeStep())
    jobs.push_back({.id = query.getColumn(0).getString(),
                    .config = document_in(query.getColumn(1), folder / "sweep.db"),
                    .model = query.getColumn(2).getString(),
                    .stack = query.getColumn(3).getString(),
                    .baseline = query.getColumn(4).getInt() != 0,
                    .lr_scale = query.getColumn(5).getDouble(),
                    .seed = query.getColumn(6).getInt64(),
                    .axes = document_in(query.getColumn(7), folder / "sweep.db")});
  return jobs;
}

}  // namespace equisweep
