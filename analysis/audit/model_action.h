#pragma once
// The symmetries of whole models: what an element does to every weight, and to the tokens.
//
// An axis of a stored weight belongs to a space (the vocabulary, the residual stream, the query heads of a layer, ...). An
// element of an action holds one matrix for each space that it moves, and acts on a weight axis by axis. What the axes of a
// weight mean is written down here a second time, without core's MatrixView, so an audit also finds a wrong view.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/param.h"
#include "core/symmetry.h"
#include "core/update_rule.h"

namespace equisweep {

/// What the axes of weights index. All but vocabulary and residual exist once a layer.
enum class Space {
  vocabulary,
  residual,
  query,    ///< H * h: rows of q
  key,      ///< G * h
  value,    ///< G * h: rows of v
  output,   ///< H * h: columns of o
  head,     ///< H: one number for each query head
  inside,   ///< h: a gain that all heads share
  gate,     ///< r: rows of gate
  up,       ///< r: rows of up
  neuron,   ///< r: columns of down
  gate_up,  ///< 2 r: gate and up in one axis, as the layout has them
  expert,
};

/// The dimensions that actions need, from a model's configuration.
struct ModelShape {
  std::int64_t vocab = 0, d = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ff = 0, experts = 0;
  bool tied = false;
  bool interleaved = false;  ///< gate and up columns alternate
  bool up_offset = false;    ///< up enters as up + 1, so its sign and size matter (gpt-oss)
};
ModelShape shape_of_model(const nlohmann::json& config);

/// The spaces of the axes of a weight. `gain`: it multiplies what lives in the space, and does not live there itself.
struct Axes {
  std::vector<Space> spaces;
  bool gain = false;
};
/// Throws std::invalid_argument for a vector whose meaning is not known here.
Axes axes_of(const Param& param, const ModelShape& shape);

/// How a space is moved, and what a rule has to commute with for it.
struct Motion {
  at::Tensor matrix;              ///< [n, n], or [E, n, n] with a matrix for each expert; double
  Group group = Group::identity;  ///< the smallest group of the ladder that contains it
  bool whole_heads = false;       ///< heads move as wholes: to a rule that sees them apart it is an order of its batch
  bool outside_groups = false;    ///< no isometry: no rule commutes with it
};

/// An element of one action.
struct ModelElement {
  std::map<std::pair<std::int64_t, Space>, Motion> on;  ///< by layer (-1 outside the layers) and space
  std::map<Role, at::Tensor> shift;                     ///< c [1, n] of W + 1 c^T
  std::string left_out = {};  ///< weights whose name ends so do not move, though they should; "": there are none
};

/// g W for one weight, in double.
at::Tensor act_on_weight(const ModelElement& g, const Param& param, const ModelShape& shape, const at::Tensor& value);
/// The tokens as g renames them.
at::Tensor act_on_tokens(const ModelElement& g, const at::Tensor& tokens);

/// Whether a rule with `symmetry` that sees `param` through `view` commutes with g.
bool commutes(const ModelElement& g, const Param& param, const ModelShape& shape, const MatrixView& view,
              const UpdateRule& rule);

/// A row of the table of actions (docs/audit.md).
struct ModelAction {
  std::string_view name;     ///< "vocabulary"
  std::string_view heading;  ///< short, for tables
  std::string_view meaning;  ///< one line
  /// A random element; nothing where the model has no such part.
  std::optional<ModelElement> (*draw)(const ModelShape& shape, std::uint64_t seed);
  bool frozen_gains = false;  ///< a symmetry of training only while norm gains stay at their start, where all are equal
  bool shift = false;         ///< judged by drift along the orbit (horizontality), since no gradient changes
};

/// The actions, in the order of docs/audit.md. What is no symmetry is demonstrated by the breaks (model_audit.h).
std::span<const ModelAction> model_actions();
const ModelAction& model_action(std::string_view name);

}  // namespace equisweep
