#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "analysis/audit/layouts.h"
#include "analysis/audit/record.h"
#include "core/atomic_file.h"
#include "equisweep_version.h"
#include "optimizers/rules.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"

namespace equisweep {
namespace {

struct Options {
  std::vector<std::string> rules, precisions = {"fp64", "fp32", "bf16"};
  std::uint64_t seed = 0;
  std::filesystem::path json_file, database;
};

/// What an entry of a stack says about the rule that it makes.
AuditSubject subject_of(std::string name, const RuleInfo& row, const nlohmann::json& entry) {
  AuditSubject subject;
  subject.name = std::move(name);
  subject.rule = make_rule(entry);
  if (row.degree != nullptr) subject.degree = row.degree(entry);
  const bool polar = entry.contains("polar");
  if (polar) {
    const std::string precision = entry.at("polar").at("precision");
    subject.inner_roundoff = precision == "bf16" ? 0x1p-9 : precision == "fp32" ? 0x1p-24 : 0;
  }
  // An eps is absolute and shows at small norms; without one nothing may. (Scion's row and column norms carry theirs
  // inside.)
  subject.scale_free = subject.degree && !entry.contains("eps") && (polar || subject.rule->coordinatewise());
  const std::string scale = entry.value("scale", ""), lmo = entry.value("lmo", "");
  if (scale == "spectral" || lmo == "spectral") subject.fan_exponents = {0.5, -0.5};
  if (scale == "match_rms") subject.fan_exponents = {0.5, 0.0};
  if (scale == "none" || lmo == "row" || lmo == "col") subject.fan_exponents = {0.0, 0.0};
  if (lmo == "sign") subject.fan_exponents = {0.0, -1.0};
  return subject;
}

bool accepted(const nlohmann::json& given) try {
  complete_entry(given);
  return true;
} catch (const UsageError&) {
  return false;
}

/// Other values of a field of a rule that is either a flag or a choice.
std::vector<nlohmann::json> other_values(const Field& field) {
  const nlohmann::json standard = nlohmann::json::parse(field.default_json);
  std::vector<nlohmann::json> values;
  if (field.kind == FieldKind::boolean) values.emplace_back(!(standard.is_boolean() && standard.get<bool>()));
  if (field.kind == FieldKind::choice)
    for (const std::string& choice : field.choices)
      if (standard != choice) values.emplace_back(choice);
  return values;
}

nlohmann::json with(nlohmann::json given, const std::string& key, const nlohmann::json& value) {
  given[key] = value;
  return given;
}

/// What a user might write for a rule: nothing; each flag and choice changed alone; and, where a flag changes the symmetry,
/// each choice changed beside it. Numbers change no symmetry.
std::vector<nlohmann::json> givens_of(const RuleInfo& row) {
  const nlohmann::json base = {{"rule", std::string(row.name)}, {"lr", 1}};
  const Symmetry symmetry = make_rule(complete_entry(base))->symmetry();
  std::vector<nlohmann::json> givens = {base}, structural;
  for (const Field& field : row.fields)
    for (const nlohmann::json& value : other_values(field)) {
      givens.push_back(with(base, field.name, value));
      if (field.kind == FieldKind::boolean && accepted(givens.back()) &&
          make_rule(complete_entry(givens.back()))->symmetry() != symmetry)
        structural.push_back(givens.back());
    }
  for (const nlohmann::json& given : structural)
    for (const Field& field : row.fields)
      for (const nlohmann::json& value : other_values(field))
        if (field.kind == FieldKind::choice) givens.push_back(with(given, field.name, value));
  return givens;
}

/// Every polar method, on the rule that does nothing else; and the one that has sides, on the rules that choose the side.
std::vector<nlohmann::json> polar_givens(const RuleInfo& row) {
  const Field* const polar = find_field(row.fields, "polar");
  if (polar == nullptr) return {};
  const nlohmann::json base = {{"rule", std::string(row.name)}, {"lr", 1}};
  std::vector<nlohmann::json> givens;
  if (row.name == "right_polar" || row.name == "left_polar") givens.push_back(with(base, "polar", {{"method", "inv_sqrt"}}));
  if (row.name != "muon") return givens;
  for (const nlohmann::json& method : other_values(*find_field(polar->fields, "method")))
    givens.push_back(with(base, "polar", {{"method", method}}));
  givens.push_back(with(base, "polar", {{"precision", "bf16"}}));
  return givens;
}

std::string label_of(const nlohmann::json& given) {
  std::string label = given.at("rule");
  for (const auto& [key, value] : given.items()) {
    if (key == "rule" || key == "lr") continue;
    if (value.is_object()) {
      for (const auto& [inner, setting] : value.items()) label += fmt::format(" {}={}", inner, setting.get<std::string>());
    } else if (value.is_boolean()) {
      label += fmt::format(" {}{}", value.get<bool>() ? "" : "not ", key);
    } else {
      label += fmt::format(" {}={}", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  return label;
}

std::vector<AuditSubject> subjects_of(const std::vector<std::string>& names) {
  for (const std::string& name : names) find_rule(name);  // throws, with the nearest name
  std::vector<AuditSubject> subjects;
  for (const RuleInfo& row : rules()) {
    if (!names.empty() && std::find(names.begin(), names.end(), row.name) == names.end()) continue;
    std::vector<nlohmann::json> givens = givens_of(row);
    for (nlohmann::json& given : polar_givens(row)) givens.push_back(std::move(given));
    for (const nlohmann::json& given : givens) {
      if (!accepted(given)) continue;
      subjects.push_back(subject_of(label_of(given), row, complete_entry(given)));
      subjects.back().through_views = given.size() == 2;  // the defaults
    }
  }
  return subjects;
}

std::shared_ptr<const UpdateRule> default_rule(const char* name) {
  return make_rule(complete_entry({{"rule", name}, {"lr", 1}}));
}

std::string cell_text(const Finding& finding) {
  const Cell& cell = finding.cell;
  if (finding.column == "scale" || finding.column == "fans") {
    if (!finding.claimed) return ".";
    if (finding.failed()) return fmt::format("FAILS {:.1g}", cell.error);
    return "ok";
  }
  if (cell.samples == 0) return ".";
  const auto unclaimed = [&](std::string text) { return finding.claimed ? text : "(" + text + ")"; };
  switch (cell.verdict) {
    case Verdict::exact:
      return unclaimed("=");
    case Verdict::holds:
      return unclaimed(fmt::format("{:.1f}", cell.ratio));
    case Verdict::undecided:
      return finding.failed() ? "UNDECIDED" : unclaimed("?");
    case Verdict::inspect:
      return finding.claimed ? fmt::format("INSPECT {:.0f}", cell.ratio) : fmt::format("(R{:.0f})", cell.ratio);
    case Verdict::broken:
      return finding.claimed ? fmt::format("BROKEN {:.2g}", cell.error) : fmt::format("x{:.2g}", cell.error);
  }
  return "";
}

std::string worst_text(const Finding& finding) {
  const Cell& cell = finding.cell;
  return fmt::format("{} {}{}{}: {}, error {:.2g}, floor {:.2g}, ratio {:.3g}, {}{}", finding.subject, finding.precision,
                     finding.view.empty() ? " " : " " + finding.view + " ", finding.column, name_of(cell.verdict),
                     cell.error, cell.floor, cell.ratio, cell.worst, finding.note.empty() ? "" : ", " + finding.note);
}

void print_matrix(const AuditReport& report, const std::string& precision) {
  std::vector<std::string> header = {precision};
  for (const AuditColumn& column : audit_columns()) header.emplace_back(column.heading);
  std::vector<std::vector<std::string>> rows;
  const Finding* worst = nullptr;
  for (const Finding& finding : report.findings) {
    if (finding.precision != precision || !finding.view.empty()) continue;
    if (rows.empty() || rows.back()[0] != finding.subject) rows.push_back({finding.subject});
    rows.back().push_back(cell_text(finding));
    if (finding.claimed && (worst == nullptr || finding.cell.ratio > worst->cell.ratio)) worst = &finding;
  }
  fmt::print("{}", text_table(header, rows));
  if (worst != nullptr) fmt::print("worst claim: {}\n", worst_text(*worst));
  fmt::print("\n");
}

/// One line a view, one column an action: the worst over all precisions and all rules that claim it.
void print_views(const AuditReport& report) {
  std::vector<std::string> header = {"through views"};
  for (const auto& [action, column] : layout_actions()) header.emplace_back(column.heading);
  std::vector<std::string> views;
  for (const Finding& finding : report.findings)
    if (!finding.view.empty() && std::find(views.begin(), views.end(), finding.view) == views.end())
      views.push_back(finding.view);
  std::vector<std::vector<std::string>> rows;
  for (const std::string& view : views) {
    rows.push_back({view});
    for (const auto& [action, column] : layout_actions()) {
      const Finding *claimed = nullptr, *other = nullptr;
      for (const Finding& finding : report.findings) {
        if (finding.view != view || finding.column != column.name) continue;
        const Finding*& worst = finding.claimed ? claimed : other;
        const bool worse = worst == nullptr || finding.cell.ratio > worst->cell.ratio;
        if (finding.claimed ? worse : worst == nullptr || finding.cell.error < worst->cell.error) worst = &finding;
      }
      rows.back().push_back(claimed != nullptr ? cell_text(*claimed) : other != nullptr ? cell_text(*other) : ".");
    }
  }
  if (!rows.empty()) fmt::print("{}\n", text_table(header, rows));
}

void print_controls(const AuditReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const Control& control : report.controls)
    rows.push_back({control.name, control.precision, control.must_hold ? "hold" : "fail",
                    control.must_hold ? fmt::format("ratio {:.2g}", control.cell.ratio)
                                      : fmt::format("error {:.2g}", control.cell.least_error),
                    control.as_it_must ? "yes" : "NO"});
  fmt::print("{}\n", text_table({"control", "precision", "must", "found", "as it must"}, rows));
}

ExitCode act_on(const Options& options) {
  const std::vector<AuditSubject> subjects = subjects_of(options.rules);
  AuditOptions audit_options;
  audit_options.seed = options.seed;
  for (const std::string& name : options.precisions) audit_options.precisions.push_back(precision_from_name(name));
  audit_options.threads = std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1, 8);
  AuditReport report;
  report.seed = options.seed;
  report.elements = audit_options.elements;
  report.program =
      fmt::format("equisweep {} ({}{})", EQUISWEEP_VERSION, EQUISWEEP_COMMIT, EQUISWEEP_MODIFIED ? ", modified" : "");
  report.findings = audit(subjects, audit_options);
  report.controls = run_controls(
      {default_rule("adamw"), default_rule("sgd"), default_rule("muon"), default_rule("row_norm")}, subjects, audit_options);
  for (const std::string& precision : options.precisions) print_matrix(report, precision);
  fmt::print(
      "=      bitwise equal            1.3    holds: error / rounding floor, below 5     ?  rounding decides every sample\n"
      "x0.52  not claimed, error 52%   (1.3)  holds without being claimed                .  does not apply, or no "
      "claim\n\n");
  print_views(report);
  print_controls(report);
  if (!options.json_file.empty()) {
    AtomicFile file(options.json_file);
    file.write(to_json(report).dump(1) + "\n");
    file.commit();
  }
  if (!options.database.empty()) write_database(report, options.database);
  std::size_t claims = 0, failed = 0, wrong = 0;
  for (const Finding& finding : report.findings) {
    claims += finding.claimed ? 1 : 0;
    if (!finding.failed()) continue;
    ++failed;
    fmt::print("FAILS: {}\n", worst_text(finding));
  }
  for (const Control& control : report.controls) {
    if (control.as_it_must) continue;
    ++wrong;
    fmt::print("THE INSTRUMENT IS BROKEN: control '{}' in {} must {}, and did not\n", control.name, control.precision,
               control.must_hold ? "hold" : "fail");
  }
  fmt::print("{} of {} claims hold, {} of {} controls are as they must be; {} elements each, seed {}\n", claims - failed,
             claims, report.controls.size() - wrong, report.controls.size(), report.elements, report.seed);
  return report.passed() ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace

void add_audit(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "audit",
      "Does each update rule respect the symmetry that it claims, in each precision? See docs/audit.md.\n"
      "Exit code 0 if every claim holds and every control is as it must be, else 1.\n\n"
      "  equisweep audit                                 every rule, fp64, fp32 and bf16\n"
      "  equisweep audit --rules muon,hybrid             these alone, and the controls\n"
      "  equisweep audit --precision fp64 --seed 7\n"
      "  equisweep audit --json audit.json --db audit.db");
  auto options = std::make_shared<Options>();
  command->add_option("--rules", options->rules, "names of rules; all of them if left out")->delimiter(',');
  command->add_option("--precision", options->precisions, "fp64, fp32, bf16")->delimiter(',')->capture_default_str();
  command->add_option("--seed", options->seed, "of every group element, gradient and perturbation")->capture_default_str();
  command->add_option("--json", options->json_file, "write every cell to this file");
  command->add_option("--db", options->database, "add every cell to this SQLite database");
  command->callback([&action, options] { action = [options] { return act_on(*options); }; });
}

}  // namespace equisweep
