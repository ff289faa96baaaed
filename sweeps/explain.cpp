#include "sweeps/explain.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/document.h"
#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace {

/// Whether run starts a job that is recorded in this state, and why.
std::pair<bool, std::string> verdict_of(const RunOverview& run, bool supervised) {
  const std::string why = run.message.empty() ? "" : ": " + run.message;
  switch (run.state) {
    case RunState::done:
      return {false, "done"};
    case RunState::diverged:
      return {false, "diverged, which is a result" + why};
    case RunState::cancelled:
      return {false, "cancelled; `equisweep retry` puts it back"};
    case RunState::running:
      if (supervised) return {false, fmt::format("running, attempt {}, step {} of {}", run.attempt, run.step, run.steps)};
      return {true, fmt::format("was interrupted after step {} of {}; continues as attempt {}", run.step, run.steps,
                                run.attempt + 1)};
    case RunState::queued:
      return {true, run.attempt == 0 ? "recorded, never started" : fmt::format("waits for attempt {}", run.attempt + 1)};
    default:
      return {true, fmt::format("{}{}; starts again as attempt {}", name_of(run.state), why, run.attempt + 1)};
  }
}

/// What stays of a job when its learning rates, steps or data change: its place in the sweep.
using Place = std::tuple<std::string, std::string, std::string, std::string, double, std::int64_t>;

/// Jobs by place, and one by model and stack.
struct Index {
  std::map<Place, std::string> places;
  std::map<std::pair<std::string, std::string>, std::string> stacks;

  void add(const std::string& job, const Place& place) {
    places.emplace(place, job);
    stacks.emplace(std::pair{std::get<0>(place), std::get<1>(place)}, job);
  }
  std::string nearest(const Place& place) const {
    if (const auto it = places.find(place); it != places.end()) return it->second;
    const auto it = stacks.find({std::get<0>(place), std::get<1>(place)});
    return it == stacks.end() ? "" : it->second;
  }
};

nlohmann::json value_at(const nlohmann::json& config, std::string_view path) {
  const nlohmann::json* at = &config;
  while (true) {
    const std::size_t dot = path.find('.');
    const auto it = at->is_object() ? at->find(path.substr(0, dot)) : at->end();
    if (!at->is_object() || it == at->end()) return nullptr;
    at = &*it;
    if (dot == std::string_view::npos) return *at;
    path.remove_prefix(dot + 1);
  }
}

}  // namespace

RecordedConfigs read_configs(const std::filesystem::path& folder) {
  RecordedConfigs configs;
  const std::filesystem::path file = folder / "sweep.db";
  try {
    const auto db = open_read_only(file);
    SQLite::Statement query(*db, "SELECT job, config FROM runs");
    while (query.executeStep()) {
      auto config = document_of(query.getColumn(1).getString());
      if (!config) throw DatabaseError(file.string(), "a config in `runs` is no JSON, or nested more than 64 deep");
      configs.emplace(query.getColumn(0).getString(), *std::move(config));
    }
  } catch (const SQLite::Exception& e) {
    throw DatabaseError(file.string(), e.what());
  }
  return configs;
}

std::vector<std::string> changes(const nlohmann::json& before, const nlohmann::json& after) {
  std::vector<std::string> lines;
  for (const std::string& path : difference(before, after)) {
    const auto text = [&](const nlohmann::json& config) {
      const nlohmann::json value = value_at(config, path);
      return value.is_null() ? std::string("-") : value.dump();
    };
    lines.push_back(fmt::format("{}: {} -> {}", path, text(before), text(after)));
  }
  return lines;
}

std::vector<Explanation> explain(std::span<const Job> jobs, const SweepOverview& recorded, const RecordedConfigs& configs) {
  const auto place_of = [](const auto& j, const std::string& axes) {
    return Place{j.model, j.stack, j.phase, axes, j.lr_scale, j.seed};
  };
  std::map<std::string, const RunOverview*> known;
  Index recorded_index, file_index;
  std::map<std::string, const Job*> wanted;
  for (const RunOverview& run : recorded.runs) {
    known.emplace(run.job, &run);
    recorded_index.add(run.job, place_of(run, run.axes));
  }
  for (const Job& job : jobs) {
    wanted.emplace(job.id, &job);
    file_index.add(job.id, place_of(job, canonical(job.axes)));
  }

  std::vector<Explanation> explanations;
  const auto begin = [&](const auto& j, const std::string& id, const std::string& axes) -> Explanation& {
    Explanation& e = explanations.emplace_back();
    e.job = id, e.model = j.model, e.stack = j.stack, e.phase = j.phase, e.axes = axes;
    e.lr_scale = j.lr_scale, e.seed = j.seed;
    return e;
  };
  std::set<std::string> seen;
  for (const Job& job : jobs) {
    if (!seen.insert(job.id).second) continue;
    const std::string axes = canonical(job.axes);
    Explanation& e = begin(job, job.id, axes);
    if (const auto it = known.find(job.id); it != known.end()) {
      std::tie(e.will_run, e.reason) = verdict_of(*it->second, recorded.supervisor.has_value());
      continue;
    }
    e.will_run = true;
    e.reason = "new";
    e.other = recorded_index.nearest(place_of(job, axes));
    if (const auto it = configs.find(e.other); it != configs.end()) e.changed = changes(it->second, job.config);
  }
  for (const RunOverview& run : recorded.runs) {
    if (!seen.insert(run.job).second) continue;
    Explanation& e = begin(run, run.job, run.axes);
    e.in_file = false;
    e.reason = fmt::format("{}; the sweep file does not ask for it any more", name_of(run.state));
    e.other = file_index.nearest(place_of(run, run.axes));
    const auto own = configs.find(run.job);
    if (const auto it = wanted.find(e.other); it != wanted.end() && own != configs.end())
      e.changed = changes(own->second, it->second->config);
  }
  return explanations;
}

}  // namespace equisweep
