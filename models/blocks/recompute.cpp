#include "models/blocks/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace equisweep {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BlockHolder : torch::CustomClassHolder {
  explicit BlockHolder(BlockFunction f) : block(std::move(f)) {}
  BlockFunction block;
};

/// Outputs: the stream, then the router logits.
struct Recompute : torch::autograd::Function<Recompute> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x_BTD, const BlockFunction& block) {
    ctx->save_for_backward({x_BTD});
    ctx->saved_data["block"] = c10::IValue::make_capsule(c10::make_intrusive<BlockHolder>(block));
    ctx->set_materialize_grads(false);
    variable_list router_logits;
    variable_list outputs = {block(x_BTD, router_logits)};
    outputs.insert(outputs.end(), router_logits.begin(), router_logits.end());
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = c10::static_intrusive_pointer_cast<BlockHolder>(ctx->saved_data["block"].toCapsule());
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    variable_list outputs, roots, root_gradients, router_logits;
    {
      const at::AutoGradMode with_graph(true);
      outputs = {holder->block(x, router_logits)};
    }
    outputs.insert(outputs.end(), router_logits.begin(), router_logits.end());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!gradients[i].defined()) continue;
      roots.push_back(outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    // Accumulates into the weights, as the backward pass of the plain block does.
    if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(const BlockFunction& block, const at::Tensor& x_BTD, std::vector<at::Tensor>& router_logits) {
  if (!at::GradMode::is_enabled() || !x_BTD.requires_grad()) return block(x_BTD, router_logits);
  const variable_list outputs = Recompute::apply(x_BTD, block);
  router_logits.insert(router_logits.end(), outputs.begin() + 1, outputs.end());
  return outputs[0];
}

}  // namespace equisweep
