#include <cstdio>
#include <nlohmann/json.hpp>

#include "sweeps/cli/command.h"
#include "sweeps/file/grammar.h"
#include "sweeps/file/spec.h"
#include "sweeps/file/stacks.h"
#include "sweeps/plan.h"

namespace equisweep {

void add_validate(CLI::App& program, Action& action) {
  CLI::App* command =
      program.add_subcommand("validate",
                             "Reads a sweep file and lists every mistake in it. Exit code 2 if there is one.\n\n"
                             "  equisweep validate sweeps/examples/demo.yaml\n"
                             "  equisweep validate --schema > sweep.schema.json    # for editors\n");
  auto file = std::make_shared<std::filesystem::path>();
  auto sets = std::make_shared<std::vector<std::string>>();
  auto schema = std::make_shared<bool>(false);
  add_sweep_options(*command, *file, *sets);
  command->get_option("file")->required(false);
  command->add_flag("--schema", *schema, "print the JSON schema of sweep files instead");
  command->callback([&action, file, sets, schema] {
    action = [file, sets, schema] {
      if (*schema) {
        fmt::print("{}\n", sweep_file_schema().dump(2));
        return ExitCode::ok;
      }
      if (file->empty()) throw UsageError("validate needs a sweep file, e.g. sweeps/examples/demo.yaml");
      const SweepSpec spec = read_sweep_file(*file, *sets);
      const SweepPlan plan = make_plan(spec);
      fmt::print("{}: no mistakes; {} jobs\n", file->string(),
                 static_cast<std::int64_t>(plan.jobs.size()) + summarize(spec, plan).to_confirm);
      for (const std::string& note : stack_notes(spec)) fmt::print("note: {}\n", note);
      return ExitCode::ok;
    };
  });
}

}  // namespace equisweep
