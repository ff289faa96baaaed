// A program that uses a rule of equisweep in a step of its own: sgd without momentum moves by the gradient.
#include <ATen/ATen.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "optimizers/rules.h"

int main() {
  const auto rule = equisweep::make_rule(equisweep::complete_entry({{"rule", "sgd"}, {"lr", 0.5}, {"beta", 0.0}}));
  const at::Tensor gradient = at::arange(12, at::kFloat).reshape({3, 4});
  auto state = equisweep::make_state(*rule, gradient.sizes(), gradient.options());
  const at::Tensor direction = rule->direction(gradient, state, {3, 4});
  std::printf("%zu rules; direction of the first: %g\n", equisweep::rules().size(), direction[0][1].item<double>());
  return at::equal(direction, gradient) && state.step == 1 ? 0 : 1;
}
