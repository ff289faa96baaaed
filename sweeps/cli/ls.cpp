#include <cmath>
#include <nlohmann/json.hpp>

#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"
#include "sweeps/overview.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct LsOptions {
  std::string sweep, sort;
  std::vector<std::string> filters;
  std::filesystem::path results;
  bool json = false, all = false;
};

std::string cell_of(const OverviewColumn& column, const RunOverview& run) {
  const auto value = column.value(run);
  if (const auto* text = std::get_if<std::string>(&value)) return column.name == "axes" && *text == "{}" ? "" : *text;
  const double number = std::get<double>(value);
  if (std::isnan(number)) return "-";
  if (column.name == "loss" || column.name == "train_loss") return fmt::format("{:.4f}", number);
  if (column.name == "tokens_per_second") return fmt::format("{:.0f}", number);
  if (column.name == "seconds") return fmt::format("{:.1f}", number);
  return fmt::format("{}", number);
}

void print_runs_as_json(const std::vector<RunOverview>& runs) {
  nlohmann::json list = nlohmann::json::array();
  for (const RunOverview& run : runs) {
    nlohmann::json row;
    for (const OverviewColumn& column : overview_columns()) {
      const auto value = column.value(run);
      const std::string key(column.name);
      if (const auto* text = std::get_if<std::string>(&value))
        row[key] = *text;
      else  // JSON has no NaN and no infinity
        row[key] = std::isfinite(std::get<double>(value)) ? nlohmann::json(std::get<double>(value)) : nlohmann::json();
    }
    list.push_back(std::move(row));
  }
  fmt::print("{}\n", list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

ExitCode list_runs(const LsOptions& options) {
  std::vector<RunOverview> runs = read_overview(find_sweep(options.results, options.sweep)).runs;
  if (!options.all) std::erase_if(runs, [](const RunOverview& run) { return run.retired; });
  filter_runs(runs, options.filters);
  if (!options.sort.empty()) sort_runs(runs, options.sort);
  if (options.json) {
    print_runs_as_json(runs);
    return runs.empty() ? ExitCode::nothing_matches : ExitCode::ok;
  }
  if (runs.empty()) throw Error("no run matches", ExitCode::nothing_matches);
  std::vector<const OverviewColumn*> columns;  // those that say something
  for (const OverviewColumn& column : overview_columns()) {
    const bool optional = column.name == "axes" || column.name == "phase" || column.name == "message" ||
                          column.name == "retired" || column.name == "attempt";
    const auto blank = [&](const RunOverview& run) {
      const std::string text = cell_of(column, run);
      return text.empty() || (column.name == "retired" && text == "0") || (column.name == "attempt" && text <= "1");
    };
    if (!optional || !std::all_of(runs.begin(), runs.end(), blank)) columns.push_back(&column);
  }
  std::vector<std::string> header;
  for (const OverviewColumn* column : columns) header.emplace_back(column->name);
  std::vector<std::vector<std::string>> rows;
  for (const RunOverview& run : runs) {
    auto& row = rows.emplace_back();
    for (const OverviewColumn* column : columns) row.push_back(cell_of(*column, run));
  }
  fmt::print("{}", text_table(header, rows));
  return ExitCode::ok;
}

}  // namespace

void add_ls(CLI::App& program, Action& action) {
  std::string columns;
  for (const OverviewColumn& column : overview_columns()) columns += fmt::format("  {:18} {}\n", column.name, column.doc);
  CLI::App* command = program.add_subcommand("ls",
                                             "The runs of a sweep with their results so far.\n\n"
                                             "  equisweep ls demo --sort loss\n"
                                             "  equisweep ls demo --filter state=failed --filter stack=muon\n"
                                             "  equisweep ls demo --filter 'loss<3' --sort -tokens_per_second --json\n\n"
                                             "Columns:\n" +
                                                 columns);
  auto options = std::make_shared<LsOptions>();
  add_sweep_argument(*command, options->sweep);
  command->add_option("--sort", options->sort, "column; with - before it the largest first")->type_name("COLUMN");
  command->add_option("--filter", options->filters, "COLUMN=VALUE, or != < > <= >=; all of several must hold")
      ->type_name("TEST");
  command->add_flag("--all", options->all, "also what the sweep file does not ask for any more");
  command->add_flag("--json", options->json, "machine-readable");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return list_runs(*options); }; });
}

}  // namespace equisweep
