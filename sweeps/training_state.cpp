#include "sweeps/training_state.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "models/models.h"

namespace equisweep {

Precision precision_of(const nlohmann::json& config) {
  const std::string name = config.at("train").at("precision");
  if (name == "fp64") return {at::kDouble, at::kDouble};
  if (name == "bf16") return {at::kFloat, at::kBFloat16};
  TORCH_CHECK(name == "fp32", "unknown precision ", name);
  return {at::kFloat, at::kFloat};
}

std::vector<NamedTensor> training_state(LanguageModel& model, const Optimizer& optimizer) {
  std::vector<NamedTensor> state;
  for (const Param& p : model.params()) state.emplace_back("weight/" + p.name, p.tensor.detach());
  optimizer.save_state([&](const std::string& key, const at::Tensor& slot) { state.emplace_back("state/" + key, slot); });
  return state;
}

std::vector<NamedTensor> training_state_layout(const nlohmann::json& config) {
  const auto model = make_model(config.at("model"), at::kMeta);
  convert_weights(*model, at::kMeta, precision_of(config).weights);
  const Optimizer optimizer(model->params(), config.at("stack"));
  return training_state(*model, optimizer);
}

void restore_training_state(const Checkpoint& checkpoint, LanguageModel& model, Optimizer& optimizer) {
  const at::NoGradGuard no_grad;
  std::map<std::string_view, const at::Tensor*> saved;
  for (const auto& [name, tensor] : checkpoint.tensors) saved.emplace(name, &tensor);
  const auto fetch = [&](const std::string& name) -> const at::Tensor& {
    const auto found = saved.find(name);
    TORCH_CHECK(found != saved.end(), "the checkpoint was read with another layout: it lacks ", name);
    return *found->second;
  };
  optimizer.load_state(checkpoint.step, [&](const std::string& key) { return fetch("state/" + key); });
  for (Param& p : model.params()) p.tensor.detach().copy_(fetch("weight/" + p.name));
}

}  // namespace equisweep
