#include "analysis/report/report.h"

#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct Options {
  std::string sweep;
  std::filesystem::path results, out;
};

ExitCode report(const Options& options) {
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  const std::filesystem::path out = options.out.empty() ? folder / "report" : options.out;
  write_report(folder / "sweep.db", out);
  fmt::print("{}\n{}\n", report_summary(folder / "sweep.db"), (out / "index.html").string());
  return ExitCode::ok;
}

}  // namespace

void add_report(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("report",
                                             "Writes the report of a sweep: index.html, report.md, tables and figures, all "
                                             "from its database. A running sweep can be reported too.\n\n"
                                             "  equisweep report demo                    results/demo/report/index.html\n"
                                             "  equisweep report results/demo --out demo-report\n");
  auto options = std::make_shared<Options>();
  command->add_option("sweep", options->sweep, "name of a sweep, or its folder")->required();
  command->add_option("--out", options->out, "folder to write; default: report/ in the sweep's folder");
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return report(*options); }; });
}

}  // namespace equisweep
