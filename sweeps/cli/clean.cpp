#include "sweeps/retention.h"

#include <map>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct CleanOptions {
  std::string sweep;
  std::filesystem::path results;
  bool yes = false;
};

ExitCode clean(const CleanOptions& options) {
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  const ProcessLock lock = lock_sweep(folder);
  const std::vector<Removable> files = removable_files(folder);
  std::map<std::string, std::pair<std::size_t, std::int64_t>> sums;
  for (const Removable& file : files) {
    ++sums[file.why].first;
    sums[file.why].second += file.bytes;
  }
  for (const auto& [why, sum] : sums)
    fmt::print("{} file{}, {:.1f} MB: {}\n", sum.first, sum.first == 1 ? "" : "s", static_cast<double>(sum.second) / 1e6,
               why);
  if (files.empty()) {
    fmt::print("nothing to remove\n");
  } else if (options.yes) {
    fmt::print("removed: {:.1f} MB are free again\n", static_cast<double>(remove_files(files)) / 1e6);
  } else {
    fmt::print("nothing was removed; --yes removes them. Databases, configs and logs always stay.\n");
  }
  return ExitCode::ok;
}

}  // namespace

void add_clean(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "clean",
      "Removes what a sweep needs no more: checkpoints of jobs that are finished or that its file does not ask for any\n"
      "more, and what interrupted writes have left. Says what and how much first. Never a database, config or log.\n\n"
      "  equisweep clean demo            only says what would go\n"
      "  equisweep clean demo --yes\n");
  auto options = std::make_shared<CleanOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_flag("--yes", options->yes, "remove it");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return clean(*options); }; });
}

}  // namespace equisweep
