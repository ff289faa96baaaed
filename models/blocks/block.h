#pragma once
// The pre-norm transformer block.

#include "models/blocks/attention.h"
#include "models/blocks/linear.h"
#include "models/blocks/norm.h"

namespace equisweep {

/// h = x + attention(norm x), y = h + mlp(norm h), x [B, T, d]. `more` is what the MLP takes beside its input: a mixture of
/// experts takes the list to which it appends its router logits.
template <class Mlp>
struct PreNormBlock {
  RmsNorm attention_norm;
  Attention attention;
  RmsNorm mlp_norm;
  Mlp mlp;

  template <class... More>
  at::Tensor operator()(const at::Tensor& x_BTD, More&... more) const {
    const at::Tensor h_BTD = attention(x_BTD, {&attention_norm, x_BTD});
    return mlp(h_BTD, more..., {&mlp_norm, h_BTD});
  }
};

}  // namespace equisweep
