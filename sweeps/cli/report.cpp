#include "analysis/report/report.h"

#include <cstdio>
#include <map>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/take_in.h"

namespace equisweep {
namespace {

struct ReportCommandOptions {
  std::vector<std::string> sweeps;
  std::string baseline;
  std::filesystem::path results, out;
  std::vector<std::string> formats;
  bool strict = false, mix = false;
  IntervalMethod intervals;
};

const std::map<std::string, ReportFormat> kFormats = {{"html", ReportFormat::html},
                                                      {"md", ReportFormat::markdown},
                                                      {"csv", ReportFormat::csv},
                                                      {"latex", ReportFormat::latex}};

/// report/ in the folder of the sweep; of several a folder in the first that names the second.
std::filesystem::path default_folder(const std::vector<std::filesystem::path>& sweeps) {
  if (sweeps.size() == 1) return sweeps[0] / "report";
  const std::string second = std::filesystem::weakly_canonical(sweeps[1]).filename().string();
  return sweeps[0] /
         fmt::format("report-with-{}{}", second, sweeps.size() > 2 ? fmt::format("-and-{}-more", sweeps.size() - 2) : "");
}

/// Where the sweep's supervisor was killed, what its workers have left is not in the database yet. A report is written in
/// any case; what it may lack is said.
void catch_up(const std::filesystem::path& folder) {
  if (!may_be_behind(folder)) return;
  const std::string name = printable(folder.string(), 4096);
  try {
    for (const std::string& why : take_in_runs(folder).refused) fmt::print(stderr, "{}\n", why);
  } catch (const LockHeld&) {
    fmt::print(stderr, "{}: process {} is at work on it: the report has what that has taken in so far\n", name,
               lock_holder(folder / kSupervisorLock).value_or("unknown"));
  } catch (const DatabaseError& error) {
    fmt::print(stderr, "{}: what its runs have that is new cannot be taken in, and the report goes without it: {}\n", name,
               error.what());
  }
}

ExitCode report(const ReportCommandOptions& options) {
  ReportSource source;
  source.mix = options.mix;
  source.baseline = options.baseline;
  std::vector<std::filesystem::path> folders;
  for (const std::string& sweep : options.sweeps) {
    folders.push_back(find_sweep(options.results, sweep));
    catch_up(folders.back());
    source.databases.push_back(folders.back() / "sweep.db");
  }
  const std::filesystem::path out = options.out.empty() ? default_folder(folders) : options.out;
  ReportOptions report_options;
  if (!options.formats.empty()) report_options.formats.clear();
  for (const std::string& format : options.formats) report_options.formats.insert(kFormats.at(format));
  report_options.intervals = options.intervals;
  if (options.strict) {
    const auto objections = report_objections(source);
    for (const std::string& line : objections) fmt::print(stderr, "{}\n", printable(line, 1000));
    if (!objections.empty())
      throw Error("no report is written: the lines above are missing or unfair (without --strict they are its checklist)",
                  ExitCode::report_refused);
  }
  write_report(source, out, report_options);
  const bool page = report_options.formats.contains(ReportFormat::html);
  fmt::print("{}\n{}\n", report_summary(source, 100, options.intervals), (page ? out / "index.html" : out).string());
  return ExitCode::ok;
}

}  // namespace

void add_report(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "report",
      "Writes the report of a sweep, or of several that it compares: index.html, report.md, tables and figures, all "
      "from its database, into which what is new in the folders of its runs is taken before. A running sweep can be "
      "reported too.\n\n"
      "  equisweep report demo                    results/demo/report/index.html\n"
      "  equisweep report results/demo --out demo-report\n"
      "  equisweep report monday tuesday          one report of both, joined by model and stack\n"
      "  equisweep report demo --strict           exit 4 where a claim would not hold\n"
      "  equisweep report demo --format latex,csv only tables for a paper, and figures\n"
      "  equisweep report demo --bootstrap 10000  intervals by resampling the seeds\n");
  auto options = std::make_shared<ReportCommandOptions>();
  command->add_option("sweep", options->sweeps, "name of a sweep, or its folder; several are compared")->required();
  command->add_option(
      "--out", options->out,
      "folder to write; default: report/ in the sweep's folder, report-with-B/ in that of A for `report A B`");
  command->add_option("--format", options->formats, "what to write; default: all")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"html", "md", "csv", "latex"}));
  command->add_flag("--mix", options->mix,
                    "compare sweeps although their data, steps, precision or other settings differ; the report says how");
  command->add_option("--baseline", options->baseline,
                      "stack that the others are compared with, as the report names it; default: the one that is marked so");
  command->add_flag("--strict", options->strict,
                    "write nothing and exit 4 if a question of the fairness checklist fails, and say which");
  CLI::Option* bootstrap =
      command
          ->add_option("--bootstrap", options->intervals.resamples,
                       "intervals of losses by a bootstrap (BCa) of so many resamples, in place of Student's t")
          ->check(CLI::Range(kMinResamples, kMaxResamples));
  command->add_option("--bootstrap-seed", options->intervals.seed, "its seed; default: 0")->needs(bootstrap);
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return report(*options); }; });
}

}  // namespace equisweep
