#include "sweeps/take_in.h"

#include <algorithm>

#include "core/error.h"
#include "core/run_store.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {

TakenIn take_in_runs(const std::filesystem::path& folder) {
  const ProcessLock lock = lock_sweep(folder);
  SweepStore store(folder / "sweep.db");
  std::vector<std::filesystem::path> databases;
  std::error_code none;
  for (const auto& run : std::filesystem::directory_iterator(folder / "runs", none))
    if (std::filesystem::is_regular_file(run.path() / "run.db", none)) databases.push_back(run.path() / "run.db");
  std::sort(databases.begin(), databases.end());
  TakenIn taken;
  for (const auto& database : databases) {
    try {
      taken.rows += store.ingest(database);
      ++taken.runs;
    } catch (const SweepStoreError&) {
      throw;
    } catch (const DatabaseError& e) {
      taken.refused.emplace_back(e.what());
    }
  }
  return taken;
}

bool may_be_behind(const std::filesystem::path& folder) {
  const auto states = recorded_states(folder);
  return std::any_of(states.begin(), states.end(), [&](const auto& known) {
    std::error_code none;
    return !is_result(known.second) && std::filesystem::is_regular_file(folder / "runs" / known.first / "run.db", none);
  });
}

}  // namespace equisweep
