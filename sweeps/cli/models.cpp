#include <fmt/ranges.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "core/kernels.h"
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

ExitCode list_models(bool json) {
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

/// The group that leaves the function of the network alone when it acts on the blocks of this role and, inversely, on what
/// they are connected to (m units, n features).
std::string_view symmetry_of(Role role) {
  switch (role) {
    case Role::embedding:
      return "P(tokens) x O(d)";
    case Role::lm_head:
      return "P(tokens) x O(d), shared shift";
    case Role::router:
      return "P(experts) x O(d), shared shift";
    case Role::attention_q:
    case Role::attention_k:
    case Role::attention_v:
      return "O x O; per head O(head) x O(d)";
    case Role::attention_o:
      return "O x O; per head O(d) x O(head)";
    case Role::mlp_gate:
    case Role::mlp_up:
      return "P(neurons) x O(d)";
    case Role::mlp_down:
      return "O(d) x P(neurons)";
    case Role::experts_gate_up:
    case Role::experts_down:
      return "P(neurons) x O(d) in each expert";
    case Role::vector:
      break;
  }
  return "none claimed";
}

/// "row 8 x 192 x 64": the natural view, and the blocks that a rule sees in it.
std::string view_text(const Param& param) {
  if (param.role == Role::vector) return "-";
  const MatrixView natural = view_of(param);
  std::string name(name_of(ViewKind::natural));
  for (const ViewKind kind : views_of(param.layout))
    if (const MatrixView view = view_of(param, kind); view.blocks == natural.blocks && view.order == natural.order) {
      name = name_of(kind);
      break;
    }
  return fmt::format("{} {}", name, fmt::join(natural.blocks, " x "));
}

ExitCode describe_model(const std::string& name, bool as_json) {
  const nlohmann::json config = resolve_model(name, nlohmann::json::object());
  const std::vector<Param> params = describe_params(config);
  nlohmann::json weights = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Param& p : params) {
    rows.push_back({p.name, fmt::format("{}", fmt::join(p.tensor.sizes(), " x ")), std::string(name_of(p.role)),
                    view_text(p), std::string(symmetry_of(p.role)), std::string(name_of(p.init)),
                    std::to_string(p.tensor.numel())});
    weights.push_back({{"name", p.name},
                       {"shape", p.tensor.sizes().vec()},
                       {"role", name_of(p.role)},
                       {"layout", name_of(p.layout.kind)},
                       {"view", rows.back()[3]},
                       {"symmetry", symmetry_of(p.role)},
                       {"init", name_of(p.init)},
                       {"parameters", p.tensor.numel()}});
  }
  if (as_json) {
    fmt::print("{}\n", nlohmann::json({{"model", name}, {"config", config}, {"weights", weights}}).dump(2));
    return ExitCode::ok;
  }
  fmt::print("{}\n\n{}", config.dump(),
             text_table({"weight", "shape", "role", "view", "symmetry", "init", "parameters"}, rows));
  return ExitCode::ok;
}

ExitCode verify_models(const std::vector<std::filesystem::path>& folders, Kernels kernels, const std::string& device_name) {
  const at::Device device = device_from(device_name);
  set_kernels(kernels);
  if (!device.is_cpu()) fmt::print("on {}\n\n", device.str());
  bool good = true;
  for (const auto& folder : folders) {
    const ParityReport report = verify_parity(folder, device);
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
      "  equisweep models --describe qwen3-nano     every weight: shape, role, view, symmetry, initialisation\n"
      "  equisweep models verify DIR...             compare with logits and gradients recorded elsewhere\n");
  command->require_subcommand(0, 1);
  auto json = std::make_shared<bool>(false);
  auto name = std::make_shared<std::string>();
  command->add_flag("--json", *json, "machine-readable");
  command->add_option("--describe", *name, "a model, e.g. qwen3-nano");
  command->callback([&action, command, json, name] {
    if (command->get_subcommands().empty())
      action = [json, name] { return name->empty() ? list_models(*json) : describe_model(*name, *json); };
  });

  CLI::App* verify = command->add_subcommand(
      "verify",
      "Runs the model of each folder (config.json, model.safetensors, io.safetensors, optionally "
      "grads.safetensors) and compares logits,\n"
      "loss and gradients with the recording. Exit code 1 if one is past its tolerance.\n\n"
      "  equisweep models verify tests/golden/hf/qwen3-a\n"
      "  equisweep models verify --kernels reference tests/golden/hf/*\n"
      "  equisweep models verify --device cuda tests/golden/hf/*    does this GPU compute the same?\n");
  auto folders = std::make_shared<std::vector<std::filesystem::path>>();
  verify->add_option("folder", *folders, "folders of recordings")->required()->check(CLI::ExistingDirectory);
  auto kernels = std::make_shared<std::string>("fused");
  verify->add_option("--kernels", *kernels, "fused, or reference: ATen's operations one by one")
      ->check(CLI::IsMember({"fused", "reference"}));
  auto device = std::make_shared<std::string>();
  add_device_option(*verify, *device, "compute");
  verify->callback([&action, folders, kernels, device] {
    action = [folders, kernels, device] {
      return verify_models(*folders, *kernels == "reference" ? Kernels::reference : Kernels::fused, *device);
    };
  });
}

}  // namespace equisweep
