#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <thread>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct LogsOptions {
  std::string run;
  std::filesystem::path results;
  std::size_t lines = 0;
  bool follow = false;
};

/// What came from a worker goes to the terminal without its control characters.
void print_line(const std::string& line) { fmt::print("{}\n", printable(line, 4 * line.size())); }

/// Prints what `log` has more to say; a line that is not ended yet waits in `begun`.
void print_new(std::ifstream& log, std::string& begun) {
  log.clear();
  std::string part;
  while (std::getline(log, part)) {
    begun += part;
    if (log.eof()) return;
    print_line(begun);
    begun.clear();
  }
}

ExitCode logs(const LogsOptions& options) {
  const std::filesystem::path folder = find_run(options.results, options.run), file = folder / "log.txt";
  std::ifstream log(file, std::ios::binary);
  if (!log) throw Error(file.string() + ": there is no log yet; a worker that starts makes it", ExitCode::nothing_matches);
  std::string begun;
  if (options.lines > 0) {
    std::deque<std::string> last;
    std::string line;
    while (std::getline(log, line)) {
      if (log.eof()) {
        begun = line;
        break;
      }
      last.push_back(line);
      if (last.size() > options.lines) last.pop_front();
    }
    for (const std::string& kept : last) print_line(kept);
  }
  while (true) {
    const bool alive = lock_holder(folder / kWorkerLock).has_value();  // asked before reading: what it wrote last is read
    print_new(log, begun);
    std::fflush(stdout);
    if (!options.follow || !alive) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
  if (!begun.empty()) print_line(begun);
  return ExitCode::ok;
}

}  // namespace

void add_logs(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand("logs",
                                             "What the worker of a run printed.\n\n"
                                             "  equisweep logs 1f0c93a4b7d2e658\n"
                                             "  equisweep logs 1f0c -f                  goes on until the worker ends\n"
                                             "  equisweep logs results/demo/runs/1f0c93a4b7d2e658 -n 20\n");
  auto options = std::make_shared<LogsOptions>();
  command->add_option("run", options->run, "job id, the first digits of one, or the folder of a run")->required();
  command->add_flag("-f,--follow", options->follow, "wait for more while the worker lives");
  command->add_option("-n,--lines", options->lines, "begin with the last N lines; default: all")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  add_results_option(*command, options->results);
  command->callback([&action, options] { action = [options] { return logs(*options); }; });
}

}  // namespace equisweep
