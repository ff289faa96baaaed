#include "sweeps/rerun.h"

#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct RerunArguments {
  RerunOptions options;
  std::filesystem::path results;
  std::string run;
  bool verify = false;
};

ExitCode print_rerun(RerunArguments arguments) {
  arguments.options.run_dir = find_run(arguments.results, arguments.run);
  arguments.options.corpora = corpora_folder(arguments.results);
  const RerunResult result = rerun_job(arguments.options);
  const std::string compared = fmt::format("{} training losses and {} validation losses", result.steps, result.evaluations);
  if (result.difference) {
    fmt::print("different: the first of {} that differs is the {} of step {}: {} recorded, {} now\n", compared,
               result.difference->what, result.difference->step, result.difference->recorded, result.difference->again);
  } else {
    fmt::print("{}: {} are bitwise those recorded\n", result.same() ? "same" : "different", compared);
  }
  if (!result.end.empty()) fmt::print("  end: {} recorded, {} now\n", result.recorded_end, result.end);
  for (const std::string& line : result.environment) fmt::print("  {}\n", line);
  return !result.same() && arguments.verify ? ExitCode::some_failed : ExitCode::ok;
}

}  // namespace

void add_rerun(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "rerun",
      "Trains a recorded job again, beside the results, and compares every loss, learning rate and gradient norm with the\n"
      "recorded one, and how it ended.\n\n"
      "  equisweep rerun 1f0c93a4b7d2e658 --verify     exit 1 unless all of it is the same, bit for bit\n"
      "  equisweep rerun 1f0c --steps 20               the first 20 steps only\n"
      "  equisweep rerun 1f0c --threads 8              does the number of threads matter?\n\n"
      "Nothing of the recorded run is changed. Device and threads are those of its newest attempt unless they are given; "
      "what\n"
      "else is not as it was (program, LibTorch, CPU) is listed.\n");
  auto arguments = std::make_shared<RerunArguments>();
  command->add_option("job", arguments->run, "id of a job, its first digits, or the folder of its run")->required();
  command->add_flag("--verify", arguments->verify, "exit 1 if anything differs");
  command->add_option("--steps", arguments->options.steps, "train only so many steps")->check(CLI::PositiveNumber);
  command->add_option("--threads", arguments->options.threads, "CPU threads; default: as recorded")
      ->check(CLI::PositiveNumber);
  command->add_option("--device", arguments->options.device, "cpu, cuda or cuda:N; default: as recorded");
  command->add_flag("--verbose", arguments->options.verbose, "progress on stderr");
  add_results_option(*command, arguments->results);
  command->callback([&action, arguments] { action = [arguments] { return print_rerun(*arguments); }; });
}

}  // namespace equisweep
