#pragma once
// A weight and what it is.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/matrix_view.h"
#include "core/role.h"

namespace equisweep {

/// How a weight is drawn before step 0.
enum class Init {
  normal,  ///< normal(0, 0.02)
  ones,
  zeros,
};

constexpr std::string_view name_of(Init init) {
  return init == Init::normal ? "normal(0, 0.02)" : init == Init::ones ? "ones" : "zeros";
}

/// One weight of a model. The model makes it; the Optimizer claims it, moves its storage into a bank (the handle stays
/// valid) and is the only writer of `tensor` afterwards.
struct Param {
  std::string name;  ///< HuggingFace's name of the parameter
  Role role = Role::vector;
  Layout layout = {};
  at::Tensor tensor;  ///< leaf that requires a gradient
  Init init = Init::normal;
  std::int64_t layer = -1;  ///< index of the transformer block; -1 outside the blocks
};

/// True where the unit of the role is a column of the stored matrix (mlp_down).
inline bool unit_is_column(Role role) { return role == Role::mlp_down; }

/// The view `kind` of `param`; the natural one for its role by default.
inline MatrixView view_of(const Param& param, ViewKind kind = ViewKind::natural) {
  return make_view(param.layout, param.tensor.sizes(), kind, unit_is_column(param.role));
}

}  // namespace equisweep
