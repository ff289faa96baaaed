#include <algorithm>

#include "core/run_store.h"
#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

/// Takes in what is new in each run.db. One that cannot be read costs the others nothing.
ExitCode sync(const std::filesystem::path& folder) {
  const ProcessLock lock = lock_sweep(folder);
  SweepStore store(folder / "sweep.db");
  std::vector<std::filesystem::path> databases;
  std::error_code none;
  for (const auto& run : std::filesystem::directory_iterator(folder / "runs", none))
    if (std::filesystem::is_regular_file(run.path() / "run.db", none)) databases.push_back(run.path() / "run.db");
  std::sort(databases.begin(), databases.end());
  std::int64_t rows = 0;
  std::size_t refused = 0;
  for (const auto& database : databases) {
    try {
      rows += store.ingest(database);
    } catch (const DatabaseError& e) {
      ++refused;
      fmt::print(stderr, "{}\n", e.what());
    }
  }
  fmt::print("{} new rows from {} runs\n", rows, databases.size() - refused);
  return refused == 0 ? ExitCode::ok : ExitCode::database;
}

}  // namespace

void add_sync(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("sync",
                             "Takes what the workers of a sweep have written since into its database, where no "
                             "supervisor does.\n\n"
                             "  equisweep sync demo\n");
  struct Options {
    std::string sweep;
    std::filesystem::path results;
  };
  auto options = std::make_shared<Options>();
  add_sweep_argument(*command, options->sweep);
  add_results_option(*command, options->results);
  command->callback(
      [&action, options] { action = [options] { return sync(find_sweep(options->results, options->sweep)); }; });
}

}  // namespace equisweep
