#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <clocale>
#include <cstdio>

#include "core/error.h"
#include "equisweep_version.h"
#include "sweeps/cli/command.h"
#include "sweeps/last_words.h"

namespace {

using namespace equisweep;

constexpr auto kCommands = std::to_array<AddCommand>(
    {add_run,     add_plan,   add_validate, add_explain, add_status,    add_watch,  add_ls,    add_logs,
     add_compare, add_cancel, add_retry,    add_report,  add_sql,       add_sync,   add_clean, add_rules,
     add_audit,   add_models, add_data,     add_export,  add_export_hf, add_doctor, add_exec,  add_rerun});

constexpr const char* kDescription =
    "equisweep: does an update rule that respects a layer's symmetry beat a tuned AdamW?\n\n"
    "  equisweep run sweeps/examples/demo.yaml     train every job of a sweep\n"
    "  equisweep report demo                       write results/demo/report/index.html\n"
    "  equisweep plan sweeps/examples/demo.yaml    what would run, and what is done\n"
    "  equisweep rules                             every update rule with its equation\n"
    "  equisweep audit                             does each rule keep the symmetry that it claims?\n"
    "  equisweep doctor                            what this machine offers\n";

int parse_and_act(int argc, char** argv) {
  CLI::App program(kDescription, "equisweep");
  program.set_version_flag("--version", fmt::format("equisweep {} ({})", EQUISWEEP_VERSION, EQUISWEEP_COMMIT));
  program.require_subcommand(1);
  Action action;
  for (const AddCommand add : kCommands) add(program, action);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = program.exit(e);  // prints help, version or the complaint
    return code == 0 ? 0 : static_cast<int>(ExitCode::usage);
  }
  return static_cast<int>(action());
}

}  // namespace

int main(int argc, char** argv) {
  throw_when_out_of_memory();
  try {
    return parse_and_act(argc, argv);
  } catch (const std::exception& error) {
    const LastWords words = last_words(error);
    fmt::print(stderr, "{}\n", words.text);
    return static_cast<int>(words.code);
  }
}
