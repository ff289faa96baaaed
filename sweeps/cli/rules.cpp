#include <cstdio>
#include <nlohmann/json.hpp>

#include "optimizers/rules.h"
#include "optimizers/verify.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"

namespace equisweep {
namespace {

nlohmann::json describe_rule(const Field& field) {
  nlohmann::json out = {
      {"name", field.name},
      {"default", field.default_json.empty() ? nlohmann::json() : nlohmann::json::parse(field.default_json)},
      {"required", field.default_json.empty()},
      {"allowed", allowed_values(field)},
      {"doc", field.doc}};
  for (const Field& inner : field.fields) out["fields"].push_back(describe_rule(inner));
  return out;
}

/// With nothing given but what is required.
nlohmann::json default_entry(const RuleInfo& rule) { return complete_entry({{"rule", rule.name}, {"lr", 1.0}}); }

/// The state tensors, each of the shape of the weight: asked of the rule itself.
std::vector<std::string> state_of(const RuleInfo& rule) { return make_rule(default_entry(rule))->slots(); }

std::string state_text(const RuleInfo& rule) {
  const std::vector<std::string> slots = state_of(rule);
  return slots.empty() ? "none" : join(slots);
}

nlohmann::json describe_rule(const RuleInfo& rule) {
  nlohmann::json out = {{"name", rule.name},       {"summary", rule.summary},   {"equation", rule.equation},
                        {"state", state_of(rule)}, {"symmetry", rule.symmetry}, {"degree", rule.degree(default_entry(rule))},
                        {"source", rule.source}};
  for (const Field& field : common_fields()) out["options"].push_back(describe_rule(field));
  for (const Field& field : rule.fields) out["options"].push_back(describe_rule(field));
  return out;
}

void print_fields(std::span<const Field> fields, const std::string& indent) {
  for (const Field& field : fields) {
    fmt::print("{}{:<16} {:<12} {}; {}\n", indent, field.name,
               field.default_json.empty() ? "(required)" : field.default_json, field.doc, allowed_values(field));
    print_fields(field.fields, indent + "  ");
  }
}

ExitCode show_rule(const std::string& name, bool json) {
  const RuleInfo& rule = find_rule(name);
  if (json) {
    fmt::print("{}\n", describe_rule(rule).dump(2));
    return ExitCode::ok;
  }
  fmt::print("{}: {}\n\n  step       W <- (1 - lr * weight_decay) W - lr U\n  direction  {}\n  state      {}\n", rule.name,
             rule.summary, rule.equation, state_text(rule));
  fmt::print("  symmetry   {}\n  scale      U(c G) = c^{} U(G) with the default options, but for eps\n  source     {}\n",
             rule.symmetry, rule.degree(default_entry(rule)), rule.source);
  fmt::print("\noptions (default, meaning, allowed):\n");
  print_fields(common_fields(), "  ");
  print_fields(rule.fields, "  ");
  return ExitCode::ok;
}

ExitCode list_rules(bool json) {
  if (json) {
    nlohmann::json out = nlohmann::json::array();
    for (const RuleInfo& rule : rules()) out.push_back(describe_rule(rule));
    fmt::print("{}\n", out.dump(2));
    return ExitCode::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const RuleInfo& rule : rules()) {
    std::vector<std::string> options = names_of(rule.fields);
    rows.push_back({std::string(rule.name), std::string(rule.equation), state_text(rule), std::string(rule.symmetry),
                    join(options), std::string(rule.source)});
  }
  fmt::print("{}", text_table({"rule", "direction U", "state", "equivariant under", "options", "source"}, rows));
  fmt::print("\nEvery entry also has: {}. `equisweep rules show NAME` has the rest.\n", join(names_of(common_fields())));
  return ExitCode::ok;
}

std::string_view name_of(ReplayVerdict verdict) {
  return verdict == ReplayVerdict::pass ? "pass" : verdict == ReplayVerdict::fail ? "FAIL" : "differs";
}

/// Every replay as one array; numbers that JSON has not (an error without bound) are null.
ExitCode verify_as_json(const std::vector<std::filesystem::path>& folders, at::Device device) {
  nlohmann::json out = nlohmann::json::array();
  bool failed = false;
  for (const auto& folder : folders)
    for (const ReplayResult& r : verify_recordings(folder, device)) {
      failed = failed || r.verdict == ReplayVerdict::fail;
      out.push_back({{"folder", folder.string()},
                     {"case", r.id},
                     {"rule", r.rule},
                     {"precision", r.precision},
                     {"error", r.error},
                     {"tolerance", r.tolerance},
                     {"verdict", name_of(r.verdict)},
                     {"problem", r.problem}});
    }
  fmt::print("{}\n", out.dump(2));
  return failed ? ExitCode::some_failed : ExitCode::ok;
}

ExitCode verify_rules(const std::vector<std::filesystem::path>& folders, at::Device device) {
  std::size_t failed = 0, passed = 0, differing = 0;
  for (const auto& folder : folders) {
    std::vector<std::vector<std::string>> rows;
    for (const ReplayResult& r : verify_recordings(folder, device)) {
      const bool judged = r.verdict != ReplayVerdict::differs;
      (r.verdict == ReplayVerdict::pass ? passed : r.verdict == ReplayVerdict::fail ? failed : differing) += 1;
      const std::string verdict(name_of(r.verdict));
      if (r.problem.empty())
        rows.push_back({r.id, r.rule, r.precision, fmt::format("{:.2e}", r.error),
                        judged ? fmt::format("{:.1e}", r.tolerance) : "-", verdict});
      else
        rows.push_back({r.id, r.rule, r.precision, "-", "-", verdict + ": " + r.problem});
    }
    fmt::print("{}\n{}\n", folder.string(),
               text_table({"case", "rule", "precision", "error", "tolerance", "verdict"}, rows));
  }
  fmt::print("{} passed, {} failed, {} differ as their recording says{}\n", passed, failed, differing,
             device.is_cpu() ? "" : ", on " + device.str());
  return failed == 0 ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace

void add_rules(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "rules",
      "The update rules: equation, symmetry, options, source.\n\n"
      "  equisweep rules\n"
      "  equisweep rules show muon\n"
      "  equisweep rules --stacks                   the stacks that a sweep file can extend as builtin/NAME\n"
      "  equisweep rules verify recordings/         replay updates recorded from another implementation\n");
  command->require_subcommand(0, 1);
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "machine-readable");
  auto stacks = std::make_shared<bool>(false);
  command->add_flag("--stacks", *stacks, "the named stacks instead: which rule serves which role, with starting rates");
  command->callback([&action, command, json, stacks] {
    if (command->get_subcommands().empty())
      action = [json, stacks] { return *stacks ? print_named_stacks(*json) : list_rules(*json); };
  });

  CLI::App* show_command = command->add_subcommand("show", "One rule in full.\n\n  equisweep rules show row_norm\n");
  auto name = std::make_shared<std::string>();
  show_command->add_option("name", *name, "name of the rule")->required();
  show_command->add_flag("--json", *json, "machine-readable");
  show_command->callback([&action, name, json] { action = [name, json] { return show_rule(*name, *json); }; });

  CLI::App* verify = command->add_subcommand("verify",
                                             "Replays recorded updates (one .safetensors and one .json a case; "
                                             "docs/rules.md) and compares the weights after every step.\n"
                                             "Exit code 1 if a case is past its tolerance.\n\n"
                                             "  equisweep rules verify tests/golden/optim/pure\n"
                                             "  equisweep rules verify --device cuda tests/golden/optim/pure\n");
  auto folders = std::make_shared<std::vector<std::filesystem::path>>();
  verify->add_option("folder", *folders, "folders of recordings")->required()->check(CLI::ExistingDirectory);
  verify->add_flag("--json", *json, "machine-readable");
  auto device_name = std::make_shared<std::string>();
  add_device_option(*verify, *device_name, "compute");
  verify->callback([&action, folders, json, device_name] {
    action = [folders, json, device_name] {
      const at::Device device = device_from(*device_name);
      return *json ? verify_as_json(*folders, device) : verify_rules(*folders, device);
    };
  });
}

}  // namespace equisweep
