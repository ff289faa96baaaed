#include "models/models.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/rng.h"

namespace equisweep {

Architecture qwen3();
Architecture gemma3();
Architecture olmoe();
Architecture gpt_oss();

std::span<const Architecture> architectures() {
  static const std::vector<Architecture> table = {qwen3(), gemma3(), olmoe(), gpt_oss()};
  return table;
}

namespace {

[[noreturn]] void refuse_name(const char* what, std::string_view found, const std::vector<std::string>& names) {
  Problem problem;
  problem.what = fmt::format("unknown {} '{}'", what, printable(found));
  problem.allowed = "one of: " + join(names);
  problem.nearest = nearest_name(found, names);
  throw UsageError(std::vector<Problem>{std::move(problem)});
}

const Architecture& architecture_of(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& a : architectures()) {
    if (a.name == name) return a;
    names.emplace_back(a.name);
  }
  refuse_name("architecture", name, names);
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& a : architectures()) {
    for (const auto& s : a.sizes) names.push_back(fmt::format("{}-{}", a.name, s.name));
  }
  return names;
}

nlohmann::json resolve_model(std::string_view name, const nlohmann::json& overrides) {
  for (const auto& a : architectures()) {
    for (const auto& s : a.sizes) {
      if (name != fmt::format("{}-{}", a.name, s.name)) continue;
      nlohmann::json given = nlohmann::json::parse(s.dimensions);
      if (!overrides.is_null()) given.update(overrides);
      given["architecture"] = a.name;
      return complete_config(given);
    }
  }
  refuse_name("model", name, model_names());
}

nlohmann::json complete_config(const nlohmann::json& given) {
  const Architecture& a = architecture_of(given.at("architecture").get<std::string>());
  nlohmann::json config = given;
  config.erase("architecture");
  config = complete(a.fields, config, fmt::format("model {}", a.name));
  config["architecture"] = a.name;
  return config;
}

std::unique_ptr<LanguageModel> make_model(const nlohmann::json& config, at::Device device) {
  return architecture_of(config.at("architecture").get<std::string>()).make(config, device);
}

void initialize(LanguageModel& model, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& p : model.params()) {
    switch (p.init) {
      case Init::ones:
        p.tensor.fill_(1);
        break;
      case Init::zeros:
        p.tensor.zero_();
        break;
      case Init::normal:
        p.tensor.copy_(at::empty(p.tensor.sizes(), at::kFloat).normal_(0, 0.02, make_generator(seed, "init/" + p.name)));
    }
  }
}

void convert_weights(LanguageModel& model, at::Device device, at::ScalarType dtype) {
  for (auto& p : model.params()) p.tensor = p.tensor.detach().to(device, dtype).requires_grad_(true);
}

std::vector<Param> describe_params(const nlohmann::json& config) {
  const auto model = make_model(config, at::kMeta);
  return {model->params().begin(), model->params().end()};
}

}  // namespace equisweep
