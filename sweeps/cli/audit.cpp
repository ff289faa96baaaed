#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "analysis/audit/shown.h"
#include "core/atomic_file.h"
#include "core/database.h"
#include "equisweep_version.h"
#include "sweeps/cli/audit.h"
#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {
namespace {

struct AuditCommandOptions {
  std::vector<std::string> rules, precisions = {"fp64", "fp32", "bf16"}, models;
  bool with_models = false, with_precisions = false;
  std::uint64_t seed = 0;
  std::optional<std::int64_t> elements;
  std::filesystem::path json_file, database;
  std::string device_name;
  at::Device device = at::kCPU;  // what device_name names
};

/// Level 1: rules on single blocks.
void audit_rules(const AuditCommandOptions& options, std::int64_t threads, AuditReport& report) {
  const std::vector<AuditSubject> subjects = rule_subjects(options.rules);
  AuditOptions audit_options;
  audit_options.seed = options.seed;
  for (const std::string& name : options.precisions) audit_options.precisions.push_back(precision_from_name(name));
  audit_options.threads = threads;
  audit_options.elements = options.elements.value_or(audit_options.elements);
  audit_options.device = options.device;
  report.elements = audit_options.elements;
  report.findings = audit(subjects, audit_options);
  report.controls = run_controls(
      {default_rule("adamw"), default_rule("sgd"), default_rule("muon"), default_rule("row_norm")}, subjects, audit_options);
  for (const std::string& precision : options.precisions) print_matrix(report, precision);
  fmt::print("{}\n\n", kCellLegend);
  print_views(report);
  print_controls(report);
}

/// Level 2: rules on small models.
void audit_whole_models(const AuditCommandOptions& options, std::int64_t threads, AuditReport& report) {
  ModelAuditOptions audit_options;
  audit_options.seed = options.seed;
  audit_options.threads = threads;
  audit_options.elements = options.elements.value_or(audit_options.elements);
  audit_options.device = options.device;
  report.models = audit_models(audited_models(options.models), model_subjects(options.rules), audit_options);
  print_models(report.models);
  fmt::print("{}\n\n", kModelCellLegend);
}

template <class Row>
std::size_t print_failed(const std::vector<Row>& rows) {
  std::size_t failed = 0;
  for (const Row& row : rows) {
    if (!row.failed()) continue;
    ++failed;
    fmt::print("FAILS: {}\n", text_of(row));
  }
  return failed;
}

/// The last lines: what is wrong, and the counts.
void print_summary(const AuditReport& report) {
  const std::size_t failed = print_failed(report.findings), failed_models = print_failed(report.models.findings);
  std::size_t wrong = 0, wrong_breaks = 0;
  for (const Control& control : report.controls) {
    if (control.as_it_must) continue;
    ++wrong;
    fmt::print("THE INSTRUMENT IS BROKEN: control '{}' in {} must {}, and did not\n", control.name, control.precision,
               control.must_hold ? "hold" : "fail");
  }
  for (const ModelBreak& b : report.models.breaks) {
    if (b.as_it_must) continue;
    ++wrong_breaks;
    fmt::print("THE INSTRUMENT IS BROKEN: {} on {} goes unnoticed with {}\n", b.action, b.architecture, b.condition);
  }
  const auto claimed = [](const auto& rows) {
    return static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.claimed; }));
  };
  if (!report.findings.empty()) {
    const std::size_t claims = claimed(report.findings);
    fmt::print("{} of {} claims hold, {} of {} controls are as they must be; {} elements each, seed {}\n", claims - failed,
               claims, report.controls.size() - wrong, report.controls.size(), report.elements, report.seed);
  }
  if (!report.models.findings.empty()) {
    const auto& rows = report.models.findings;
    const auto controls = std::count_if(rows.begin(), rows.end(), [](const ModelFinding& f) { return f.must_fail; });
    fmt::print("models: {} cells, {} claims and {} controls, {} fail; {} of {} conditions are noticed; {} elements each\n",
               rows.size(), claimed(rows), controls, failed_models, report.models.breaks.size() - wrong_breaks,
               report.models.breaks.size(), rows[0].cell.elements);
  }
}

void check_precisions(const AuditCommandOptions& options) {
  if (options.with_models && options.with_precisions)
    throw UsageError(
        "--precision is that of the audit of blocks, and --models trains in fp64: leave one of the two out, or call the "
        "command twice");
  for (auto name = options.precisions.begin(); name != options.precisions.end(); ++name) {
    precision_from_name(*name);  // throws, with the nearest name
    if (std::find(options.precisions.begin(), name, *name) != name)
      throw UsageError("--precision names " + *name + " twice");
  }
}

/// The right to write to `database`, held until the end: that of a sweep has one writer at a time. Nothing for other files.
std::unique_ptr<ProcessLock> lock_of(const std::filesystem::path& database) {
  if (database.filename() != "sweep.db") return nullptr;
  return std::unique_ptr<ProcessLock>(new ProcessLock(lock_sweep(resolved_folder(database).parent_path())));
}

/// A file that cannot be written is found out before the minutes that an audit takes.
void try_outputs(const AuditCommandOptions& options) {
  if (!options.json_file.empty()) {
    std::error_code none;
    if (std::filesystem::is_directory(options.json_file, none))
      throw UsageError(printable(options.json_file.string(), 4096) + ": is a folder; --json takes the name of a file");
    const AtomicFile without_a_commit(options.json_file);  // leaves nothing behind
  }
  if (!options.database.empty()) prepare_database(options.database);
}

ExitCode act_on(AuditCommandOptions& options) {
  check_precisions(options);
  options.device = device_from(options.device_name);
  const auto lock = lock_of(options.database);
  try_outputs(options);
  // Nothing named: everything. Only rules named: those alone. Only models named: all rules on those.
  const bool everything = options.rules.empty() && !options.with_models;
  const auto threads = std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, 8);
  AuditReport report;
  report.seed = options.seed;
  report.program =
      fmt::format("equisweep {} ({}{})", EQUISWEEP_VERSION, EQUISWEEP_COMMIT, EQUISWEEP_MODIFIED ? ", modified" : "");
  if (!options.device.is_cpu()) {
    report.program += " on " + options.device.str();
    fmt::print("rules and models compute on {}\n\n", options.device.str());
  }
  if (everything || !options.with_models) audit_rules(options, threads, report);
  if (everything || options.with_models) audit_whole_models(options, threads, report);
  print_summary(report);
  if (!options.json_file.empty()) write_file_atomically(options.json_file, to_json(report).dump(1) + "\n");
  if (!options.database.empty()) write_database(report, options.database);
  return report.passed() ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace

void add_audit(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "audit",
      "Does each update rule respect the symmetry that it claims: on single blocks, in each precision, and in\n"
      "the training of whole models? See docs/audit.md.\n"
      "Exit code 0 if every claim holds and every control is as it must be, else 1.\n\n"
      "  equisweep audit                                 every rule in fp64, fp32 and bf16, and all models\n"
      "  equisweep audit --rules muon,hybrid             these alone on blocks, and the controls\n"
      "  equisweep audit --models                        every rule on every architecture, in fp64\n"
      "  equisweep audit --models olmoe --rules muon\n"
      "  equisweep audit --models --elements 20          each cell the worst of 20 group elements; takes some minutes\n"
      "  equisweep audit --precision fp64 --seed 7\n"
      "  equisweep audit --device cuda --rules muon      do the claims hold on this GPU?\n"
      "  equisweep audit --json audit.json --db audit.db");
  auto options = std::make_shared<AuditCommandOptions>();
  command->add_option("--rules", options->rules, "names of rules; all of them if left out")->delimiter(',');
  CLI::Option* const models =
      command->add_option("--models", options->models, "train whole models: names of architectures, or all of them")
          ->delimiter(',')
          ->expected(0, 100);
  CLI::Option* const precisions =
      command->add_option("--precision", options->precisions, "of the audit of blocks: fp64, fp32, bf16")
          ->delimiter(',')
          ->capture_default_str();
  command->add_option("--seed", options->seed, "of every group element, gradient and perturbation")->capture_default_str();
  command->add_option("--elements", options->elements, "group elements for each cell; on blocks 20, on models 4 if left out")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1000}));
  add_device_option(*command, options->device_name, "compute");
  command->add_option("--json", options->json_file, "write every cell to this file");
  command->add_option("--db", options->database,
                      "add every cell to this SQLite database; a sweep.db only while no supervisor runs");
  command->callback([&action, options, models, precisions] {
    options->with_models = models->count() > 0;
    options->with_precisions = precisions->count() > 0;
    // Without a name the parser leaves one of these.
    std::erase_if(options->models, [](const std::string& name) { return name.empty() || name == "true" || name == "{}"; });
    action = [options] { return act_on(*options); };
  });
}

}  // namespace equisweep
