#include "analysis/export/export.h"

#include <chrono>

#include "sweeps/cli/command.h"
#include "sweeps/signals.h"
#include "sweeps/sweep_folder.h"
#include "sweeps/terminal.h"

namespace equisweep {
namespace {

struct ExportCommandOptions {
  std::string sweep;
  std::filesystem::path out, results;
};

/// One line on a terminal, drawn again at most five times a second; nothing elsewhere.
class ExportLine {
 public:
  void show(std::string_view doing, const ExportCounts& counts) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_.live() || now < next_) return;
    next_ = now + std::chrono::milliseconds(200);
    shown_ = true;
    terminal_.write(
        fmt::format("\r{}: {} rows, {:.1f} MB\x1b[K", doing, counts.rows, static_cast<double>(counts.bytes) / 1e6));
  }
  ~ExportLine() {
    if (shown_) terminal_.write("\r\x1b[K");
  }

 private:
  StandardError terminal_;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
  bool shown_ = false;
};

ExitCode export_to(ExportFormat format, const ExportCommandOptions& options) {
  const std::filesystem::path folder = find_sweep(options.results, options.sweep);
  const CaughtSignals signals;
  ExportLine line;
  const ExportCounts counts =
      export_sweep(folder / "sweep.db", options.out, format, [&](std::string_view doing, const ExportCounts& so_far) {
        if (signals.stage() != Interrupt::none)
          throw Error(fmt::format("{}: not written: stopped", printable(options.out.string())),
                      static_cast<ExitCode>(128 + signals.signal()));
        line.show(doing, so_far);
      });
  fmt::print("{}: {} files, {} rows, {:.1f} MB\n", printable(options.out.string()), counts.files, counts.rows,
             static_cast<double>(counts.bytes) / 1e6);
  return ExitCode::ok;
}

struct ExportTarget {
  const char* name;
  ExportFormat format;
  const char* what;
};

constexpr ExportTarget kTargets[] = {
    {"csv", ExportFormat::csv,
     "Tables as CSV files (UTF-8, RFC 4180), with the unit and the meaning of every column in columns.csv.\n\n"
     "  equisweep export csv demo demo-tables\n"},
    {"jsonl", ExportFormat::jsonl,
     "Tables as JSON lines: an object a run, a step, an evaluation, ...; columns.jsonl explains them.\n\n"
     "  equisweep export jsonl demo demo-lines\n"},
    {"tensorboard", ExportFormat::tensorboard,
     "A folder with an event file for each run: losses, rates, norms, routing, the config and the settings.\n\n"
     "  equisweep export tensorboard demo demo-events\n"
     "  tensorboard --logdir demo-events\n"},
};

}  // namespace

void add_export(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "export",
      "Writes what a sweep has measured for other programs; docs/export.md says what is in the files. A sweep that is still "
      "running can be exported too.\n\n"
      "  equisweep export csv demo demo-tables            for spreadsheets, R, pandas\n"
      "  equisweep export jsonl demo demo-lines           for jq and programs\n"
      "  equisweep export tensorboard demo demo-events    for TensorBoard\n");
  command->require_subcommand(1);
  for (const ExportTarget& target : kTargets) {
    CLI::App* format = command->add_subcommand(target.name, target.what);
    auto options = std::make_shared<ExportCommandOptions>();
    format->add_option("sweep", options->sweep, "name of a sweep, or its folder")->required();
    format->add_option("dir", options->out, "folder to write; must not exist, or be empty")->required();
    add_results_option(*format, options->results);
    format->callback(
        [&action, &target, options] { action = [&target, options] { return export_to(target.format, *options); }; });
  }
}

}  // namespace equisweep
