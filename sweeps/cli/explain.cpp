#include "sweeps/explain.h"

#include <nlohmann/json.hpp>

#include "sweeps/cli/command.h"
#include "sweeps/file/spec.h"
#include "sweeps/plan.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct ExplainOptions {
  std::filesystem::path file, results;
  std::string job;
  std::vector<std::string> sets;
  bool json = false;
};

nlohmann::json explanation_json(const Explanation& e) {
  return {{"job", e.job},           {"model", e.model},   {"stack", e.stack},         {"phase", e.phase},
          {"lr_scale", e.lr_scale}, {"axes", e.axes},     {"seed", e.seed},           {"in_file", e.in_file},
          {"will_run", e.will_run}, {"reason", e.reason}, {"compared_with", e.other}, {"changed", e.changed}};
}

std::string point_text(const Explanation& e) {
  return fmt::format("{} {} lr_scale {} seed {}{}{}", printable(e.model), printable(e.stack), e.lr_scale, e.seed,
                     e.axes == "{}" ? "" : " " + printable(e.axes), e.phase.empty() ? "" : ", " + e.phase);
}

/// Jobs that have the same to say are one paragraph.
void print_groups(const std::vector<Explanation>& explanations) {
  std::vector<std::pair<std::string, std::vector<const Explanation*>>> groups;
  for (const Explanation& e : explanations) {
    std::string text = fmt::format("{}: {}", e.in_file ? (e.will_run ? "will run" : "will not run") : "retired", e.reason);
    if (!e.changed.empty()) {
      text += e.in_file ? "; against the recorded job at its place:" : "; the job at its place has:";
      for (const std::string& change : e.changed) text += "\n      " + printable(change, 400);
    }
    auto it = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == text; });
    if (it == groups.end()) it = groups.insert(groups.end(), {text, {}});
    it->second.push_back(&e);
  }
  constexpr std::size_t kShown = 5;
  for (const auto& [text, members] : groups) {
    fmt::print("{} job{} {}\n", members.size(), members.size() == 1 ? "" : "s", text);
    for (std::size_t i = 0; i < std::min(members.size(), kShown); ++i)
      fmt::print("  {}  {}\n", members[i]->job, point_text(*members[i]));
    if (members.size() > kShown) fmt::print("  and {} more: --json lists them\n", members.size() - kShown);
  }
}

ExitCode explain_sweep(const ExplainOptions& options) {
  const SweepSpec spec = read_sweep_file(options.file, options.sets);
  const std::filesystem::path folder = options.results / spec.name;
  const bool recorded = std::filesystem::exists(folder / "sweep.db");
  const std::vector<Job> jobs = expand(spec, recorded_results(folder));
  std::vector<Explanation> explanations =
      explain(jobs, recorded ? read_overview(folder) : SweepOverview{}, recorded ? read_configs(folder) : RecordedConfigs{});
  if (!options.job.empty()) {
    std::erase_if(explanations, [&](const Explanation& e) { return !e.job.starts_with(options.job); });
    if (explanations.empty())
      throw Error(fmt::format("no job '{}' in {} and none recorded in {}; the table of `equisweep plan` has the ids",
                              printable(options.job), options.file.string(), folder.string()),
                  ExitCode::nothing_matches);
  }
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Explanation& e : explanations) list.push_back(explanation_json(e));
    fmt::print("{}\n", list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    print_groups(explanations);
  }
  return ExitCode::ok;
}

}  // namespace

void add_explain(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("explain",
                             "Why each job of a sweep file will run or will not, and which keys of its config differ from "
                             "what is recorded.\n\n"
                             "  equisweep explain sweeps/examples/demo.yaml\n"
                             "  equisweep explain sweeps/examples/demo.yaml 1f0c93a4\n"
                             "  equisweep explain sweeps/examples/demo.yaml --set train.steps=500\n");
  auto options = std::make_shared<ExplainOptions>();
  add_sweep_options(*command, options->file, options->sets);
  command->add_option("job", options->job, "only this job, or the first digits of it");
  command->add_flag("--json", options->json, "machine-readable");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return explain_sweep(*options); }; });
}

}  // namespace equisweep
