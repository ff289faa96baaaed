#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "models/models.h"
#include "models/verify.h"
#include "sweeps/cli/command.h"
#include "sweeps/cli/text_table.h"

namespace equisweep {
namespace {

/// 1508736 -> "1.51 M"
std::string count_text(std::int64_t n) {
  const double x = static_cast<double>(n);
  return n >= 1'000'000'000 ? fmt::format("{:.2f} G", x / 1e9)
         : n >= 1'000'000   ? fmt::format("{:.2f} M", x / 1e6)
                            : fmt::format("{:.1f} k", x / 1e3);
}

std::map<std::string, std::int64_t> parameters_by_role(const std::string& model) {
  std::map<std::string, std::int64_t> out;
  for (const Param& p : describe_params(resolve_model(model, nlohmann::json::object())))
    out[std::string(name_of(p.role))] += p.tensor.numel();
  return out;
}

ExitCode list(bool json) {
  nlohmann::json all = nlohmann::json::object();
  std::vector<std::vector<std::string>> rows;
  for (const std::string& name : model_names()) {
    const nlohmann::json config = resolve_model(name, nlohmann::json::object());
    const auto roles = parameters_by_role(name);
    std::int64_t total = 0;
    std::string by_role;
    for (const auto& [role, n] : roles) {
      total += n;
      by_role += fmt::format("{}{} {}", by_role.empty() ? "" : ", ", role, count_text(n));
    }
    all[name] = {{"config", config}, {"parameters", total}, {"parameters_by_role", roles}};
    rows.push_back({name, count_text(total), std::to_string(config.at("d").get<std::int64_t>()),
                    std::to_string(config.at("layers").get<std::int64_t>()),
                    std::to_string(config.at("vocab").get<std::int64_t>()), by_role});
  }
  if (json)
    fmt::print("{}\n", all.dump(2));
  else
    fmt::print("{}", text_table({"model", "parameters", "d", "layers", "vocab", "by role"}, rows));
  return ExitCode::ok;
}

ExitCode describe(const std::string& name) {
  const nlohmann::json config = resolve_model(name, nlohmann::json::object());
  fmt::print("{}\n\n", config.dump());
  std::vector<std::vector<std::string>> rows;
  for (const Param& p : describe_params(config))
    rows.push_back({p.name, nlohmann::json(p.tensor.sizes().vec()).dump(), std::string(name_of(p.role)),
                    std::string(name_of(p.layout.kind)), std::string(name_of(p.init)), std::to_string(p.tensor.numel())});
  fmt::print("{}", text_table({"weight", "shape", "role", "layout", "init", "parameters"}, rows));
  return ExitCode::ok;
}

ExitCode verify_all(const std::vector<std::filesystem::path>& folders) {
  bool good = true;
  for (const auto& folder : folders) {
    const ParityReport report = verify_parity(folder);
    fmt::print("{}\n", to_string(report));
    good = good && report.ok();
  }
  return good ? ExitCode::ok : ExitCode::some_failed;
}

}  // namespace

void add_models(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "models",
      "The architectures and their sizes.\n\n"
      "  equisweep models\n"
      "  equisweep models --describe qwen3-nano     every weight with shape, role and initialisation\n"
      "  equisweep models verify DIR...             compare with logits and gradients recorded elsewhere\n");
  command->require_subcommand(0, 1);
  auto json = std::make_shared<bool>(false);
  auto name = std::make_shared<std::string>();
  command->add_flag("--json", *json, "machine-readable");
  command->add_option("--describe", *name, "a model, e.g. qwen3-nano");
  command->callback([&action, command, json, name] {
    if (command->get_subcommands().empty()) action = [json, name] { return name->empty() ? list(*json) : describe(*name); };
  });

  CLI::App* verify =
      command->add_subcommand("verify",
                              "Runs the model of each folder (config.json, model.safetensors, io.safetensors, optionally "
                              "grads.safetensors) and compares logits,\n"
                              "loss and gradients with the recording. Exit code 1 if one is past its tolerance.\n\n"
                              "  equisweep models verify tests/golden/hf/qwen3-a\n");
  auto folders = std::make_shared<std::vector<std::filesystem::path>>();
  verify->add_option("folder", *folders, "folders of recordings")->required()->check(CLI::ExistingDirectory);
  verify->callback([&action, folders] { action = [folders] { return verify_all(*folders); }; });
}

}  // namespace equisweep
