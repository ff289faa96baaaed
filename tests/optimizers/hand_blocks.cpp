#include "hand_blocks.h"

#include <ATen/ATen.h>

namespace equisweep::testing {

at::Tensor HandBlocks::of(const at::Tensor& w) const {
  if (layout == "heads_qkv" && view == "heads") return at::stack(w.chunk(heads, 0));
  if (layout == "heads_o" && view == "heads") return at::stack(w.chunk(heads, 1));
  if (layout.ends_with("gate_up")) {
    const bool interleaved = layout == "gptoss_gate_up";
    const at::Tensor gate = interleaved ? w.slice(2, 0, std::nullopt, 2).mT() : w.chunk(2, 1)[0];
    const at::Tensor up = interleaved ? w.slice(2, 1, std::nullopt, 2).mT() : w.chunk(2, 1)[1];
    if (view == "split") return at::stack({gate, up}, 1);
    if (view == "pair") return at::cat({gate, up}, 2);
    return interleaved ? w.mT() : w;
  }
  if (view == "col") return w.mT();
  return w;
}

at::Tensor HandBlocks::stored(const at::Tensor& blocks) const {
  if (layout == "heads_qkv" && view == "heads") return at::cat(blocks.unbind(0), 0);
  if (layout == "heads_o" && view == "heads") return at::cat(blocks.unbind(0), 1);
  if (layout.ends_with("gate_up")) {
    if (view == "whole") return layout == "gptoss_gate_up" ? blocks.mT() : blocks;
    const auto parts = view == "split" ? blocks.unbind(1) : at::chunk(blocks, 2, 2);
    if (layout == "olmoe_gate_up") return at::cat(parts, 1);
    return at::stack({parts[0].mT(), parts[1].mT()}, 3).flatten(2);
  }
  if (view == "col") return blocks.mT();
  return blocks;
}

BlockInfo HandBlocks::fans(const at::Tensor& blocks) const {
  const std::int64_t m = blocks.size(-2), n = blocks.size(-1);
  const bool turned = (layout == "gptoss_down") != (view == "col");
  return turned ? BlockInfo{n, m} : BlockInfo{m, n};
}

}  // namespace equisweep::testing
