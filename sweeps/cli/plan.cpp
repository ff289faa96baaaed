#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/file/spec.h"
#include "sweeps/plan.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct PlanOptions {
  std::filesystem::path file, results;
  std::vector<std::string> sets, only;
  bool json = false, ids = false;
};

/// What is known of a job from earlier runs; queued where nothing is.
std::string_view state_of(const std::map<std::string, RunState>& states, const std::string& id) {
  const auto it = states.find(id);
  return name_of(it == states.end() ? RunState::queued : it->second);
}

void print_table(const std::vector<Job>& jobs, const std::map<std::string, RunState>& states) {
  std::vector<std::vector<std::string>> rows;
  for (const Job& job : jobs)
    rows.push_back({job.id, job.model, job.stack + (job.baseline ? " (baseline)" : ""), fmt::format("{}", job.lr_scale),
                    std::to_string(job.seed), job.axes.empty() ? "" : job.axes.dump(),
                    std::string(state_of(states, job.id))});
  fmt::print("{}", text_table({"job", "model", "stack", "lr_scale", "seed", "axes", "state"}, rows));
}

ExitCode plan(const PlanOptions& options) {
  const SweepSpec spec = read_sweep_file(options.file, options.sets);
  const std::vector<Job> jobs = select(spec, expand(spec), options.only);
  const auto states = recorded_states(options.results / spec.name);
  const PlanSummary summary = summarize(spec, jobs);
  if (options.ids) {
    for (const Job& job : jobs) fmt::print("{}\n", job.id);
    return ExitCode::ok;
  }
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Job& job : jobs)
      list.push_back({{"id", job.id},
                      {"model", job.model},
                      {"stack", job.stack},
                      {"baseline", job.baseline},
                      {"lr_scale", job.lr_scale},
                      {"seed", job.seed},
                      {"axes", job.axes},
                      {"state", state_of(states, job.id)},
                      {"config", job.config}});
    fmt::print("{}\n", nlohmann::json({{"name", spec.name}, {"jobs", list}}).dump(2));
    return ExitCode::ok;
  }
  print_table(jobs, states);
  std::size_t finished = 0;
  std::set<std::string> seen;
  for (const Job& job : jobs)
    if (const auto it = states.find(job.id); it != states.end() && is_result(it->second) && seen.insert(job.id).second)
      ++finished;
  fmt::print("\n{} jobs, {} different, {} already done\n", summary.jobs, summary.unique, finished);
  for (const auto& model : summary.models)
    fmt::print("{}: {} parameters, {} jobs\n", model.name, model.parameters, model.jobs);
  fmt::print("{} tokens a run, {:.4g} in all\n", summary.tokens_per_run, summary.tokens);
  return ExitCode::ok;
}

}  // namespace

void add_plan(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("plan",
                             "The jobs of a sweep file: what would run, how much it is, and what is already done.\n\n"
                             "  equisweep plan sweeps/examples/demo.yaml\n"
                             "  equisweep plan sweeps/examples/demo.yaml --set grid.seed=[0,1,2] --json\n"
                             "  equisweep plan sweeps/examples/demo.yaml --only stack=muon,seed=0 --ids\n");
  auto options = std::make_shared<PlanOptions>();
  add_sweep_options(*command, options->file, options->sets, &options->only);
  command->add_flag("--json", options->json, "every job with its resolved config");
  command->add_flag("--ids", options->ids, "job ids only");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return plan(*options); }; });
}

}  // namespace equisweep
