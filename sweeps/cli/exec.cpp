#include "sweeps/cli/command.h"
#include "sweeps/launcher/local.h"
#include "sweeps/worker.h"

namespace equisweep {

void add_exec(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "exec",
      "Trains one job in the foreground: what a worker of `equisweep run` does.\n\n"
      "  equisweep exec results/demo/runs/1f0c93a4b7d2e658 --verbose\n"
      "  equisweep exec RUN --checkpoint-every 50       where a step is long\n"
      "  EQUISWEEP_FAULT=train.step:7 equisweep exec RUN    see it resume afterwards\n\n"
      "Goes on from RUN/ckpt where an earlier attempt was interrupted; a run that is a result is left\n"
      "alone (exit 3, `equisweep rerun` trains it again beside the results). SIGTERM or SIGUSR2: stops\n"
      "at the end of the step, saves its state, and exits with 75.\n");
  auto options = std::make_shared<WorkerOptions>();
  command->add_option("run_dir", options->run_dir, "a folder of results/<sweep>/runs, with config.yaml")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--attempt", options->attempt, "number of this attempt; default: one more than the newest")
      ->check(CLI::PositiveNumber);
  add_device_option(*command, options->device, "train");
  command->add_option("--threads", options->threads, "CPU threads; default: all cores")->check(CLI::PositiveNumber);
  command->add_option("--corpora", options->corpora,
                      "folder of prepared corpora; default: corpora beside the sweep's folder");
  command->add_option("--progress-fd", options->progress_fd, "file descriptor for progress, one JSON object a line")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--checkpoint-every", options->checkpoint.every, "steps between checkpoints; 0: by time alone")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--checkpoint-minutes", options->checkpoint.minutes,
                   "longest time between checkpoints; 0: by steps alone (both 0: no checkpoints)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--checkpoint-keep", options->checkpoint.keep, "how many of the newest stay")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--verbose", options->verbose, "progress on stderr");
  command->callback([&action, options] {
    action = [options] {
      options->device = checked_device(options->device);
      return run_worker(*options);
    };
  });
}

}  // namespace equisweep
