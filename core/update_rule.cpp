#include "core/update_rule.h"

#include <ATen/ATen.h>

namespace equisweep {

RuleState make_state(const UpdateRule& rule, at::IntArrayRef shape, const at::TensorOptions& options) {
  const auto dtype = options.dtype().toScalarType();
  TORCH_CHECK(at::isFloatingType(dtype), "the state of a rule needs a floating-point dtype, not ", dtype);
  const auto state_dtype = at::promote_types(dtype, at::kFloat);
  RuleState state;
  for (std::size_t i = 0; i < rule.slots().size(); ++i) {
    state.slots.push_back(at::zeros(shape, options.dtype(state_dtype).requires_grad(false)));
  }
  return state;
}

}  // namespace equisweep
