#include <nlohmann/json.hpp>

#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/explain.h"
#include "sweeps/overview.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct CompareOptions {
  std::string first, second;
  std::filesystem::path results;
  bool json = false;
};

struct Compared {
  nlohmann::json config;
  RunOverview run;
};

Compared read_run(const std::filesystem::path& results, const std::string& name) {
  const std::filesystem::path folder = std::filesystem::canonical(find_run(results, name));
  Compared compared{read_job_config(folder), {}};
  const std::string id = job_id(compared.config);
  for (RunOverview& run : read_overview(folder.parent_path().parent_path()).runs)
    if (run.job == id) {
      compared.run = std::move(run);
      return compared;
    }
  throw Error(fmt::format("the sweep of {} has no job {}: is its config.yaml changed?", folder.string(), id),
              ExitCode::nothing_matches);
}

std::vector<std::string> results_of(const RunOverview& run) {
  const auto loss = [](const std::optional<double>& value) { return value ? fmt::format("{:.6g}", *value) : "-"; };
  return {run.model,
          run.stack,
          std::string(name_of(run.state)),
          fmt::format("{}/{}", run.step, run.steps),
          loss(run.val_loss),
          loss(run.train_loss),
          fmt::format("{:.1f}", run.seconds),
          fmt::format("{:.0f}", run.tokens_per_second())};
}

ExitCode compare_runs(const CompareOptions& options) {
  const Compared a = read_run(options.results, options.first), b = read_run(options.results, options.second);
  const std::vector<std::string> different = changes(a.config, b.config);
  const std::vector<std::string> names = {"model",    "stack",      "state",   "step",
                                          "val_loss", "train_loss", "seconds", "tokens_per_second"};
  const auto left = results_of(a.run), right = results_of(b.run);
  if (options.json) {
    nlohmann::json json = {{"a", {{"job", a.run.job}, {"config", a.config}}},
                           {"b", {{"job", b.run.job}, {"config", b.config}}},
                           {"changed", different}};
    for (std::size_t i = 0; i < names.size(); ++i) json["a"][names[i]] = left[i], json["b"][names[i]] = right[i];
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return ExitCode::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < names.size(); ++i) rows.push_back({names[i], left[i], right[i]});
  fmt::print("{}\n", text_table({"", a.run.job, b.run.job}, rows));
  fmt::print("{}\n", different.empty() ? "the configs are the same" : "the configs differ in:");
  for (const std::string& line : different) fmt::print("  {}\n", printable(line, 400));
  return ExitCode::ok;
}

}  // namespace

void add_compare(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("compare",
                             "Two runs side by side: their results, and every key in which their configs "
                             "differ.\n\n"
                             "  equisweep compare 1f0c93a4 77b2e61d\n"
                             "  equisweep compare results/a/runs/1f0c93a4b7d2e658 results/b/runs/77b2e61d00c1a2f3\n");
  auto options = std::make_shared<CompareOptions>();
  command->add_option("a", options->first, "job id, the first digits of one, or the folder of a run")->required();
  command->add_option("b", options->second, "the other run")->required();
  command->add_flag("--json", options->json, "machine-readable, with both configs");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return compare_runs(*options); }; });
}

}  // namespace equisweep
