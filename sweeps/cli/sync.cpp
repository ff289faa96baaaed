#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/take_in.h"

namespace equisweep {
namespace {

ExitCode sync(const std::filesystem::path& folder) {
  const TakenIn taken = take_in_runs(folder);
  for (const std::string& why : taken.refused) fmt::print(stderr, "{}\n", why);
  fmt::print("{} new rows from {} runs\n", taken.rows, taken.runs);
  return taken.refused.empty() ? ExitCode::ok : ExitCode::database;
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
