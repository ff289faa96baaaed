#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/requests.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct RetryOptions {
  std::string sweep, states;
  std::vector<std::string> jobs;
  std::filesystem::path results;
};

/// The states in "failed,oom".
std::set<RunState> parse_states(const std::string& list) {
  std::vector<std::string> allowed;
  for (const RunState state : kRunStates) {
    if (applies(Request::What::retry, state)) allowed.emplace_back(name_of(state));
  }
  std::set<RunState> states;
  std::string_view rest = list;
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view name = rest.substr(0, comma);
    const auto state = run_state_from_name(name);
    if (!state || !applies(Request::What::retry, *state)) {
      throw UsageError(std::vector<Problem>{{{},
                                             fmt::format("--state: '{}' is no state to start again from", printable(name)),
                                             "one or more of: " + join(allowed),
                                             nearest_name(name, allowed)}});
    }
    states.insert(*state);
    if (comma == std::string_view::npos) return states;
    rest.remove_prefix(comma + 1);
  }
}

ExitCode retry(const RetryOptions& options) {
  const std::set<RunState> states = options.states.empty() ? kRetried : parse_states(options.states);
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  Request request{.what = Request::What::retry};
  request.jobs = choose_jobs(folder, request.what, options.jobs, states);
  if (const auto supervisor = carry_out(folder, request)) {
    fmt::print("process {}, which runs this sweep, is asked to run {} jobs again\n", *supervisor, request.jobs.size());
  } else {
    fmt::print("{} jobs wait again; `equisweep run` with the file of the sweep starts them\n", request.jobs.size());
  }
  return ExitCode::ok;
}

}  // namespace

void add_retry(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("retry",
                             "Puts jobs of a sweep that ended without a result back into the queue: at once "
                             "where it is running, else for the next `equisweep run`.\n\n"
                             "  equisweep retry demo                      all that failed; not the cancelled\n"
                             "  equisweep retry demo --state oom,cancelled\n"
                             "  equisweep retry demo 1f0c93a4             this one\n");
  auto options = std::make_shared<RetryOptions>();
  add_sweep_argument(*command, options->sweep);
  auto* jobs = command->add_option("job", options->jobs, "ids of jobs, or their first digits");
  command->add_option("--state", options->states, "failed, oom, timeout, lost, preempted, cancelled")
      ->type_name("STATE,...")
      ->excludes(jobs);
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return retry(*options); }; });
}

}  // namespace equisweep
