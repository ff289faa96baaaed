#include <cstdio>

#include "sweeps/cli/command.h"
#include "sweeps/file/spec.h"
#include "sweeps/plan.h"

namespace equisweep {

void add_validate(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("validate",
                             "Reads a sweep file and lists every mistake in it. Exit code 2 if there is one.\n\n"
                             "  equisweep validate sweeps/examples/demo.yaml\n");
  auto file = std::make_shared<std::filesystem::path>();
  auto sets = std::make_shared<std::vector<std::string>>();
  add_sweep_options(*command, *file, *sets);
  command->callback([&action, file, sets] {
    action = [file, sets] {
      const SweepSpec spec = read_sweep_file(*file, *sets);
      const std::vector<Job> jobs = expand(spec);
      fmt::print("{}: no mistakes; {} jobs\n", file->string(), jobs.size());
      return ExitCode::ok;
    };
  });
}

}  // namespace equisweep
