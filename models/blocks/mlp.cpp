#include "models/blocks/mlp.h"

#include <ATen/ATen.h>

namespace equisweep {

GatedMlp::GatedMlp(const Scope& scope, std::int64_t d, std::int64_t ff, Gate gate)
    : gate_(scope, "gate_proj", Role::mlp_gate, d, ff),
      up_(scope, "up_proj", Role::mlp_up, d, ff),
      down_(scope, "down_proj", Role::mlp_down, ff, d),
      kind_(gate) {}

at::Tensor GatedMlp::operator()(const at::Tensor& x_BTD) const { return down_(gated(gate_(x_BTD), up_(x_BTD), kind_)); }

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up, Gate kind) {
  return (kind == Gate::silu ? at::silu(gate) : at::gelu(gate, "tanh")) * up;
}

}  // namespace equisweep
