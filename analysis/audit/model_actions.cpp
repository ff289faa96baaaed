// The table of actions. H query heads, G key/value heads, h width of a head, r neurons, d residual features, E experts.
#include <ATen/ATen.h>

#include <array>
#include <stdexcept>

#include "analysis/audit/groups.h"
#include "analysis/audit/model_action.h"
#include "core/rng.h"

namespace equisweep {
namespace {

using Drawn = std::optional<ModelElement>;

std::uint64_t seed_of_layer(std::uint64_t seed, std::int64_t layer) {
  return derive_seed(seed, "layer", static_cast<std::uint64_t>(layer));
}

Drawn vocabulary(const ModelShape& s, std::uint64_t seed) {
  ModelElement g;
  g.on[{-1, Space::vocabulary}] = {random_matrix(Group::permutation, s.vocab, seed), Group::permutation};
  return g;
}

Drawn head_shift(const ModelShape& s, std::uint64_t seed) {
  if (s.tied) return std::nullopt;
  ModelElement g;
  g.shift[Role::lm_head] = random_shift(s.d, seed);
  return g;
}

Drawn router_shift(const ModelShape& s, std::uint64_t seed) {
  if (s.experts == 0) return std::nullopt;
  ModelElement g;
  g.shift[Role::router] = random_shift(s.d, seed);
  return g;
}

Drawn experts(const ModelShape& s, std::uint64_t seed) {
  if (s.experts == 0) return std::nullopt;
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer)
    g.on[{layer, Space::expert}] = {random_matrix(Group::permutation, s.experts, seed_of_layer(seed, layer)),
                                    Group::permutation};
  return g;
}

/// One matrix for each expert, or one for the only MLP.
at::Tensor for_each_mlp(const ModelShape& s, std::uint64_t seed, at::Tensor (*draw)(std::int64_t, std::uint64_t)) {
  if (s.experts == 0) return draw(s.ff, seed);
  std::vector<at::Tensor> matrices;
  for (std::int64_t e = 0; e < s.experts; ++e)
    matrices.push_back(draw(s.ff, derive_seed(seed, "expert", static_cast<std::uint64_t>(e))));
  return at::stack(matrices);
}

Drawn neurons(const ModelShape& s, std::uint64_t seed) {
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    const at::Tensor p = for_each_mlp(s, seed_of_layer(seed, layer), [](std::int64_t n, std::uint64_t own) {
      return random_matrix(Group::permutation, n, own);
    });
    for (const Space space : {Space::gate, Space::up, Space::neuron}) g.on[{layer, space}] = {p, Group::permutation};
  }
  return g;
}

Drawn up_signs(const ModelShape& s, std::uint64_t seed) {
  if (s.up_offset) return std::nullopt;
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    const at::Tensor signs = for_each_mlp(s, seed_of_layer(seed, layer), [](std::int64_t n, std::uint64_t own) {
      const at::Tensor x = random_matrix(Group::signed_permutation, n, own).sum(0);
      return at::diag(x.clamp_(-1, 1));
    });
    for (const Space space : {Space::up, Space::neuron}) g.on[{layer, space}] = {signs, Group::signed_permutation};
  }
  return g;
}

Drawn heads(const ModelShape& s, std::uint64_t seed) {
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    const std::uint64_t own = seed_of_layer(seed, layer);
    const std::int64_t group = s.heads / s.kv_heads;
    const at::Tensor groups = random_matrix(Group::permutation, s.kv_heads, derive_seed(own, "groups"));
    std::vector<at::Tensor> inside;
    for (std::int64_t i = 0; i < s.kv_heads; ++i)
      inside.push_back(random_matrix(Group::permutation, group, derive_seed(own, "inside", static_cast<std::uint64_t>(i))));
    const at::Tensor of_heads = at::matmul(widened(groups, group), at::block_diag(inside));
    const at::Tensor wide = widened(of_heads, s.head_dim), wide_groups = widened(groups, s.head_dim);
    for (const Space space : {Space::query, Space::output}) g.on[{layer, space}] = {wide, Group::permutation, true};
    for (const Space space : {Space::key, Space::value}) g.on[{layer, space}] = {wide_groups, Group::permutation, true};
    g.on[{layer, Space::head}] = {of_heads, Group::permutation};
  }
  return g;
}

/// diag(R_1, ..., R_G) -> diag(R_1, ..., R_1, R_2, ...): every query head follows its key/value head.
at::Tensor for_query_heads(const at::Tensor& blocks, const ModelShape& s) {
  std::vector<at::Tensor> parts;
  for (std::int64_t head = 0; head < s.heads; ++head) {
    const std::int64_t begin = head / (s.heads / s.kv_heads) * s.head_dim;
    parts.push_back(blocks.narrow(0, begin, s.head_dim).narrow(1, begin, s.head_dim));
  }
  return at::block_diag(parts);
}

/// Each key/value head's basis changed by a matrix of its own, on one side of the attention and the other.
Drawn rotated_heads(const ModelShape& s, std::uint64_t seed, Space of_key_value_heads, Space of_query_heads,
                    at::Tensor (*draw)(std::int64_t heads, std::int64_t width, std::uint64_t seed)) {
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    const at::Tensor r = draw(s.kv_heads, s.head_dim, seed_of_layer(seed, layer));
    g.on[{layer, of_key_value_heads}] = {r, Group::orthogonal};
    g.on[{layer, of_query_heads}] = {for_query_heads(r, s), Group::orthogonal};
  }
  return g;
}

Drawn value_rotation(const ModelShape& s, std::uint64_t seed) {
  return rotated_heads(s, seed, Space::value, Space::output, block_orthogonal);
}

Drawn torus(const ModelShape& s, std::uint64_t seed) { return rotated_heads(s, seed, Space::key, Space::query, rope_torus); }

Drawn residual(const ModelShape& s, std::uint64_t seed) {
  ModelElement g;
  g.on[{-1, Space::residual}] = {random_element_matrix(Group::orthogonal, s.d, seed), Group::orthogonal};
  return g;
}

Drawn residual_signs(const ModelShape& s, std::uint64_t seed) {
  ModelElement g;
  g.on[{-1, Space::residual}] = {random_matrix(Group::signed_permutation, s.d, seed), Group::signed_permutation};
  return g;
}

Drawn up_scale(const ModelShape& s, std::uint64_t) {
  if (s.up_offset) return std::nullopt;
  ModelElement g;
  for (std::int64_t layer = 0; layer < s.layers; ++layer) {
    Motion up{at::eye(s.ff, at::kDouble) * 2, Group::identity}, down{at::eye(s.ff, at::kDouble) / 2, Group::identity};
    up.outside_groups = down.outside_groups = true;
    g.on[{layer, Space::up}] = up;
    g.on[{layer, Space::neuron}] = down;
  }
  return g;
}

constexpr std::array kModelActions = {
    ModelAction{"vocabulary", "P(v)", "tokens renamed: rows of embedding and LM head, and the text", vocabulary},
    ModelAction{"head_shift", "head+1c^T", "every row of the LM head shifted by the same c", head_shift, false, true},
    ModelAction{"router_shift", "router+1c^T", "every row of each router shifted by the same c", router_shift, false, true},
    ModelAction{"experts", "P(e)", "experts permuted, with the rows of their router", experts},
    ModelAction{"neurons", "P(r)", "neurons permuted: gate and up rows, down columns", neurons},
    ModelAction{"up_signs", "+-up", "up rows and down columns negated", up_signs},
    ModelAction{"heads", "P(heads)", "query heads permuted inside their groups, and the groups", heads},
    ModelAction{"value_rotation", "V/O O(h)", "each value head's basis rotated, in v and o", value_rotation},
    ModelAction{"torus", "Q/K torus", "rotary pairs of queries and keys rotated by the same angles", torus, true},
    ModelAction{"residual", "O(d)", "residual stream rotated", residual, true},
    ModelAction{"residual_signs", "+-P(d)", "residual features permuted and negated", residual_signs},
    ModelAction{"up_scale", "up*2", "up doubled, down halved: a symmetry that no rule keeps", up_scale},
};

}  // namespace

std::span<const ModelAction> model_actions() { return kModelActions; }

const ModelAction& model_action(std::string_view name) {
  for (const ModelAction& action : kModelActions)
    if (action.name == name) return action;
  throw std::invalid_argument("no action is called " + std::string(name));
}

}  // namespace equisweep
