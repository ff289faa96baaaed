#pragma once
// The commands of the program: one file and one row in main.cpp each.

#include <ATen/core/Tensor.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "sweeps/device.h"

namespace equisweep {

/// What the chosen command does; set by it once its options are read. It throws core/error.h's errors.
using Action = std::function<ExitCode()>;

/// Adds a subcommand to `program`; when it is chosen, `action` is set.
using AddCommand = void (*)(CLI::App& program, Action& action);

void add_audit(CLI::App& program, Action& action);
void add_cancel(CLI::App& program, Action& action);
void add_clean(CLI::App& program, Action& action);
void add_compare(CLI::App& program, Action& action);
void add_data(CLI::App& program, Action& action);
void add_doctor(CLI::App& program, Action& action);
void add_exec(CLI::App& program, Action& action);
void add_explain(CLI::App& program, Action& action);
void add_export(CLI::App& program, Action& action);
void add_export_hf(CLI::App& program, Action& action);
void add_logs(CLI::App& program, Action& action);
void add_ls(CLI::App& program, Action& action);
void add_models(CLI::App& program, Action& action);
void add_plan(CLI::App& program, Action& action);
void add_report(CLI::App& program, Action& action);
void add_retry(CLI::App& program, Action& action);
void add_rerun(CLI::App& program, Action& action);
void add_rules(CLI::App& program, Action& action);
void add_run(CLI::App& program, Action& action);
void add_sql(CLI::App& program, Action& action);
void add_status(CLI::App& program, Action& action);
void add_sync(CLI::App& program, Action& action);
void add_validate(CLI::App& program, Action& action);
void add_watch(CLI::App& program, Action& action);

/// The named stacks: `equisweep rules --stacks`.
ExitCode print_named_stacks(bool json);

/// Adds the options that choose a sweep: its file, `--set` and, where `only` is given, `--only`.
inline void add_sweep_options(CLI::App& command, std::filesystem::path& file, std::vector<std::string>& sets,
                              std::vector<std::string>* only = nullptr) {
  command.add_option("file", file, "sweep file")->required();
  command.add_option("--set", sets, "override a value: --set train.steps=10")->type_name("PATH=VALUE");
  if (only)
    command.add_option("--only", *only, "only these jobs, e.g. stack=muon,seed=0; several of them add up")
        ->type_name("AXIS=VALUE,...");
}

/// Adds the argument that names a sweep which has been run.
inline void add_sweep_argument(CLI::App& command, std::string& sweep) {
  command.add_option("sweep", sweep, "name of a sweep, or its folder")->required();
}

/// Adds `--results DIR`: where sweeps and prepared corpora live; default `results`, or $EQUISWEEP_RESULTS.
inline void add_results_option(CLI::App& command, std::filesystem::path& results) {
  command.add_option("--results", results, "folder of all sweeps and prepared corpora")
      ->envname("EQUISWEEP_RESULTS")
      ->default_val("results");
}

/// Adds `--device NAME`, default cpu; `verb` says what the command does there. device_from() checks the name.
inline void add_device_option(CLI::App& command, std::string& device, const std::string& verb) {
  command.add_option("--device", device, "where to " + verb + ": cpu, cuda or cuda:N")->default_val("cpu");
}

/// The device that `--device` names. Throws UsageError where this process has none of that name.
inline at::Device device_from(const std::string& name) { return at::Device(checked_device(name)); }

}  // namespace equisweep
