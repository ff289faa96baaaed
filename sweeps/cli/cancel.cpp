#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/requests.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct CancelOptions {
  std::string sweep;
  std::vector<std::string> jobs;
  std::filesystem::path results;
};

ExitCode cancel(const CancelOptions& options) {
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  Request request{.what = Request::What::cancel};
  request.jobs = choose_jobs(folder, request.what, options.jobs, {kRunStates.begin(), kRunStates.end()});
  if (const auto supervisor = carry_out(folder, request)) {
    fmt::print("process {}, which runs this sweep, is asked to cancel {} jobs\n", *supervisor, request.jobs.size());
  } else {
    fmt::print("{} jobs cancelled; `equisweep retry {} --state cancelled` puts them back\n", request.jobs.size(),
               printable(options.sweep));
  }
  return ExitCode::ok;
}

}  // namespace

void add_cancel(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("cancel",
                                             "Takes jobs of a sweep out: those that run are stopped, and `equisweep run` "
                                             "starts none of them until `equisweep retry`. Results stay.\n\n"
                                             "  equisweep cancel demo                     all that are not done\n"
                                             "  equisweep cancel demo 1f0c93a4 27ab       these two\n");
  auto options = std::make_shared<CancelOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_option("job", options->jobs, "ids of jobs, or their first digits; default: all that are not done");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return cancel(*options); }; });
}

}  // namespace equisweep
