#pragma once
// The blocks of a stored weight cut and joined by hand, layout by layout, as a second opinion on core/matrix_view.h.

#include <ATen/core/Tensor.h>

#include <string>

#include "core/update_rule.h"

namespace equisweep::testing {

struct HandBlocks {
  std::string layout, view;
  std::int64_t heads = 1;

  at::Tensor of(const at::Tensor& w) const;           ///< the blocks of a stored weight
  at::Tensor stored(const at::Tensor& blocks) const;  ///< and back
  /// Outputs and inputs of a block; gpt-oss stores [in, out].
  BlockInfo fans(const at::Tensor& blocks) const;
};

}  // namespace equisweep::testing
