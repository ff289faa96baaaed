// H query heads, G key/value heads, h width of a head, r neurons, d residual features, E experts.
#include "analysis/audit/model_action.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace equisweep {
namespace {

using SpaceList = std::vector<Space>;

struct VectorMeaning {
  std::string_view ending;
  SpaceList spaces;
  bool gain;
};

/// Vectors carry no layout: what their axes mean is told by what they belong to.
const std::vector<VectorMeaning>& vector_meanings() {
  static const std::vector<VectorMeaning> table = {
      {"q_proj.bias", {Space::query}, false},
      {"k_proj.bias", {Space::key}, false},
      {"v_proj.bias", {Space::value}, false},
      {"o_proj.bias", {Space::residual}, false},
      {"sinks", {Space::head}, false},
      {"router.bias", {Space::expert}, false},
      {"experts.gate_up_proj_bias", {Space::expert, Space::gate_up}, false},
      {"experts.down_proj_bias", {Space::expert, Space::residual}, false},
      {"q_norm.weight", {Space::query}, true},
      {"k_norm.weight", {Space::key}, true},
      {"norm.weight", {Space::residual}, true},  // input_layernorm and all other norms of the stream
  };
  return table;
}

bool outside_layers(Space space) { return space == Space::vocabulary || space == Space::residual; }

std::int64_t heads_of(Space space, const ModelShape& shape) {
  return space == Space::key || space == Space::value ? shape.kv_heads : shape.heads;
}

bool view_has_heads(Space space) {
  return space == Space::query || space == Space::key || space == Space::value || space == Space::output;
}

/// The motion of an axis; gate_up is put together from gate and up.
std::optional<Motion> motion_of(const ModelElement& g, const Param& param, const ModelShape& shape, Space space) {
  const auto find = [&](Space s) -> std::optional<Motion> {
    const auto found = g.on.find({outside_layers(s) ? -1 : param.layer, s});
    return found == g.on.end() ? std::nullopt : std::make_optional(found->second);
  };
  if (space != Space::gate_up) return find(space);
  if (auto given = find(space)) return given;
  const auto gate = find(Space::gate), up = find(Space::up);
  if (!gate && !up) return std::nullopt;
  const std::int64_t r = shape.ff;
  const at::Tensor identity = at::eye(r, at::kDouble);
  at::Tensor a = gate ? gate->matrix : identity, b = up ? up->matrix : identity;
  Motion motion = up ? *up : *gate;
  std::vector<std::int64_t> batch = a.dim() > b.dim() ? a.sizes().vec() : b.sizes().vec();
  a = a.expand(batch), b = b.expand(batch);
  batch.end()[-1] = batch.end()[-2] = 2 * r;
  motion.matrix = at::zeros(batch, at::kDouble);
  const auto part = [&](std::int64_t which) {
    return shape.interleaved ? motion.matrix.slice(-2, which, {}, 2).slice(-1, which, {}, 2)
                             : motion.matrix.narrow(-2, which * r, r).narrow(-1, which * r, r);
  };
  part(0).copy_(a);
  part(1).copy_(b);
  return motion;
}

/// `matrix` [n, n] or [E, n, n] along `axis` of x; with a matrix for each expert, x has the experts as its first axis.
at::Tensor along_axis(const at::Tensor& matrix, const at::Tensor& x, std::int64_t axis) {
  if (matrix.dim() == 2)
    return at::matmul(matrix, x.movedim(axis, 0).flatten(1)).view(x.movedim(axis, 0).sizes()).movedim(0, axis);
  const at::Tensor moved = x.movedim(axis, 1);
  return at::matmul(matrix, moved.flatten(2)).view(moved.sizes()).movedim(1, axis);
}

at::Tensor along_vector(const at::Tensor& matrix, const at::Tensor& x, std::int64_t axis) {
  return along_axis(matrix, x.unsqueeze(-1), axis).squeeze(-1);
}

/// A gain follows permutations; signs cancel, and where a rotation mixes its entries it stays what it is.
at::Tensor moved_gain(const at::Tensor& matrix, const at::Tensor& gain) {
  const bool monomial = (matrix.ne(0).sum(-1) == 1).all().item<bool>();
  return monomial ? at::matmul(matrix.abs(), gain) : gain;
}

/// Where an axis of the stored weight lies in the blocks of a view.
struct Sides {
  bool unit = false, feature = false;
};

Sides sides_of(const MatrixView& view, std::int64_t axis) {
  std::vector<std::int64_t> shape(view.stored.size(), 1);
  shape[static_cast<std::size_t>(axis)] = view.stored[static_cast<std::size_t>(axis)];
  const at::Tensor index =
      to_blocks(view, at::arange(shape[static_cast<std::size_t>(axis)]).view(shape).expand(view.stored));
  const auto varies = [&](std::int64_t dim) { return index.ne(index.narrow(dim, 0, 1)).any().item<bool>(); };
  return {varies(-2), varies(-1)};
}

}  // namespace

ModelShape shape_of_model(const nlohmann::json& config) {
  const auto integer = [&](const char* name, std::int64_t otherwise) { return config.value(name, otherwise); };
  ModelShape s;
  s.vocab = integer("vocab", 0);
  s.d = integer("d", 0);
  s.layers = integer("layers", 0);
  s.heads = integer("heads", 0);
  s.kv_heads = integer("kv_heads", 0);
  s.head_dim = integer("head_dim", 0);
  s.ff = integer("ff", integer("expert_ff", 0));
  s.experts = integer("experts", 0);
  s.tied = config.value("tied", false);
  s.up_offset = config.contains("swiglu_limit");
  return s;
}

Axes axes_of(const Param& param, const ModelShape& shape) {
  switch (param.role) {
    case Role::embedding:
    case Role::lm_head:
      return {{Space::vocabulary, Space::residual}};
    case Role::router:
      return {{Space::expert, Space::residual}};
    case Role::attention_q:
      return {{Space::query, Space::residual}};
    case Role::attention_k:
      return {{Space::key, Space::residual}};
    case Role::attention_v:
      return {{Space::value, Space::residual}};
    case Role::attention_o:
      return {{Space::residual, Space::output}};
    case Role::mlp_gate:
      return {{Space::gate, Space::residual}};
    case Role::mlp_up:
      return {{Space::up, Space::residual}};
    case Role::mlp_down:
      return {{Space::residual, Space::neuron}};
    case Role::experts_gate_up:
      if (param.layout.kind == LayoutKind::gate_up_interleaved) return {{Space::expert, Space::residual, Space::gate_up}};
      return {{Space::expert, Space::gate_up, Space::residual}};
    case Role::experts_down:
      if (param.layout.kind == LayoutKind::experts_down_in_out) return {{Space::expert, Space::neuron, Space::residual}};
      return {{Space::expert, Space::residual, Space::neuron}};
    case Role::vector:
      break;
  }
  for (const VectorMeaning& row : vector_meanings()) {
    if (!param.name.ends_with(row.ending)) continue;
    Axes axes{row.spaces, row.gain};
    // Qwen3 and Gemma 3 have one gain for all heads, OLMoE one for each coordinate of the projection.
    if (view_has_heads(axes.spaces[0]) && row.gain &&
        param.tensor.size(0) != heads_of(axes.spaces[0], shape) * shape.head_dim)
      axes.spaces = {Space::inside};
    return axes;
  }
  if (param.name.ends_with("layernorm.weight")) return {{Space::residual}, true};
  throw std::invalid_argument(fmt::format("the audit does not know what the axes of '{}' mean", param.name));
}

at::Tensor act_on_weight(const ModelElement& g, const Param& param, const ModelShape& shape, const at::Tensor& value) {
  at::Tensor x = value.to(at::kDouble);
  if (!g.left_out.empty() && param.name.ends_with(g.left_out)) return x;
  if (const auto c = g.shift.find(param.role); c != g.shift.end()) x = x + c->second;
  const Axes axes = axes_of(param, shape);
  // Matrices of experts first: they are numbered as the weight has them.
  for (const bool experts : {false, true})
    for (std::size_t axis = 0; axis < axes.spaces.size(); ++axis) {
      if ((axes.spaces[axis] == Space::expert) != experts) continue;
      const auto motion = motion_of(g, param, shape, axes.spaces[axis]);
      if (!motion) continue;
      x = axes.gain ? moved_gain(motion->matrix, x) : along_vector(motion->matrix, x, static_cast<std::int64_t>(axis));
    }
  return x.contiguous();
}

at::Tensor act_on_tokens(const ModelElement& g, const at::Tensor& tokens) {
  const auto found = g.on.find({-1, Space::vocabulary});
  if (found == g.on.end()) return tokens;
  return found->second.matrix.argmax(0).index_select(0, tokens.flatten()).view_as(tokens);
}

bool commutes(const ModelElement& g, const Param& param, const ModelShape& shape, const MatrixView& view,
              const UpdateRule& rule) {
  const Symmetry symmetry = rule.symmetry();
  if (g.shift.contains(param.role)) return symmetry.shift || symmetry.rows == Group::orthogonal;
  const Axes axes = axes_of(param, shape);
  const bool linear = symmetry.rows == Group::orthogonal && symmetry.columns == Group::orthogonal;
  for (std::size_t axis = 0; axis < axes.spaces.size(); ++axis) {
    const auto motion = motion_of(g, param, shape, axes.spaces[axis]);
    if (!motion) continue;
    if (motion->outside_groups) return false;
    if (param.role == Role::vector) {  // a coordinatewise rule
      if (!axes.gain && motion->group > Group::signed_permutation && !linear) return false;
      continue;
    }
    const bool heads_apart = view_has_heads(axes.spaces[axis]) && view.blocks.size() > view.stored.size();
    if (heads_apart && motion->whole_heads) continue;
    const Sides sides = sides_of(view, static_cast<std::int64_t>(axis));
    if (sides.unit && symmetry.rows < motion->group) return false;
    if (sides.feature && symmetry.columns < motion->group) return false;
  }
  return true;
}

}  // namespace equisweep
