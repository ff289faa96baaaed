#include "sweeps/sweep_folder.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/run_store.h"

namespace equisweep {
namespace fs = std::filesystem;

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

}  // namespace equisweep
