// E experts, r neurons, d residual features, H heads of width h, K group elements, T steps.
#include "analysis/audit/layouts.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>

#include "analysis/audit/follow.h"
#include "analysis/audit/inputs.h"
#include "analysis/audit/probes.h"
#include "core/rng.h"

namespace equisweep {
namespace {

constexpr std::int64_t kExperts = 3, kNeurons = 5, kResidual = 6, kHeads = 4, kGroups = 2, kWidth = 4;

using ActionRow = std::pair<LayoutAction, AuditColumn>;

constexpr std::array kActions = {
    ActionRow{LayoutAction::experts, {"view.experts", "experts", "experts permuted"}},
    ActionRow{LayoutAction::neurons, {"view.neurons", "neurons", "neurons permuted, gate and up together"}},
    ActionRow{LayoutAction::heads, {"view.heads", "heads", "heads permuted"}},
    ActionRow{LayoutAction::gqa, {"view.gqa", "gqa", "heads permuted inside their groups, and the groups"}},
    ActionRow{LayoutAction::torus, {"view.torus", "torus", "rotary pairs rotated"}},
    ActionRow{LayoutAction::head_rotation, {"view.head_rotation", "O(h)", "each head's basis rotated"}},
    ActionRow{LayoutAction::head_mixing, {"view.head_mixing", "mixing", "one rotation across all heads"}},
    ActionRow{LayoutAction::residual_signs, {"view.residual_signs", "+-P(d)", "residual features permuted and negated"}},
    ActionRow{LayoutAction::residual, {"view.residual", "O(d)", "residual features rotated"}},
};

bool has_heads(LayoutKind kind) { return kind == LayoutKind::heads_rows || kind == LayoutKind::heads_columns; }

bool is_gate_up(LayoutKind kind) { return kind == LayoutKind::gate_up_stacked || kind == LayoutKind::gate_up_interleaved; }

// Whether the units (neurons, head dimensions) are the second axis from the end of the stored tensor; else the last.
bool units_are_stored_rows(const LayoutCase& layout) {
  switch (layout.layout.kind) {
    case LayoutKind::heads_columns:
    case LayoutKind::gate_up_interleaved:
    case LayoutKind::experts_down:
      return false;
    case LayoutKind::matrix:
      return !layout.unit_is_column;
    default:
      return true;
  }
}

std::int64_t size_of(const LayoutCase& layout, bool of_units) {
  return layout.stored.end()[units_are_stored_rows(layout) == of_units ? -2 : -1];
}

// Every neuron once: as often as the layout holds it.
at::Tensor on_neurons(const LayoutCase& layout, std::uint64_t seed) {
  const std::int64_t units = size_of(layout, true);
  if (!is_gate_up(layout.layout.kind)) return random_matrix(Group::permutation, units, seed);
  const at::Tensor permutation = random_matrix(Group::permutation, units / 2, seed);
  return layout.layout.kind == LayoutKind::gate_up_stacked ? repeated(permutation, 2) : widened(permutation, 2);
}

struct Needs {
  Group units = Group::identity, residual = Group::identity;
};

Needs needs_of(LayoutAction action) {
  switch (action) {
    case LayoutAction::experts:
      return {};
    case LayoutAction::neurons:
    case LayoutAction::heads:
    case LayoutAction::gqa:
      return {Group::permutation, Group::identity};
    case LayoutAction::torus:
    case LayoutAction::head_rotation:
    case LayoutAction::head_mixing:
      return {Group::orthogonal, Group::identity};
    case LayoutAction::residual_signs:
      return {Group::identity, Group::signed_permutation};
    case LayoutAction::residual:
      return {Group::identity, Group::orthogonal};
  }
  TORCH_CHECK(false, "not an action");
}

}  // namespace

std::span<const std::pair<LayoutAction, AuditColumn>> layout_actions() { return kActions; }

std::span<const LayoutCase> layout_cases() {
  static const std::vector<LayoutCase> cases = {
      {"matrix", {LayoutKind::matrix}, {kNeurons, kResidual}},
      {"mlp_down", {LayoutKind::matrix}, {kResidual, kNeurons}, true},
      {"heads_rows", {LayoutKind::heads_rows, kHeads}, {kHeads * kWidth, kResidual}, false, kGroups},
      {"heads_columns", {LayoutKind::heads_columns, kHeads}, {kResidual, kHeads * kWidth}, false, kGroups},
      {"gate_up_stacked", {LayoutKind::gate_up_stacked}, {kExperts, 2 * kNeurons, kResidual}},
      {"gate_up_interleaved", {LayoutKind::gate_up_interleaved}, {kExperts, kResidual, 2 * kNeurons}},
      {"experts_down", {LayoutKind::experts_down}, {kExperts, kResidual, kNeurons}},
      {"experts_down_in_out", {LayoutKind::experts_down_in_out}, {kExperts, kNeurons, kResidual}}};
  return cases;
}

std::optional<Move> random_action(const LayoutCase& layout, LayoutAction action, std::uint64_t seed) {
  const bool heads = has_heads(layout.layout.kind);
  const std::int64_t units = size_of(layout, true), residual = size_of(layout, false);
  const std::int64_t count = layout.layout.heads, width = units / count;
  at::Tensor on_units, on_residual;
  switch (action) {
    case LayoutAction::experts:
      if (layout.stored.size() < 3) return std::nullopt;
      return Move{{}, {}, random_matrix(Group::permutation, layout.stored[0], seed)};
    case LayoutAction::neurons:
      if (heads) return std::nullopt;
      on_units = on_neurons(layout, seed);
      break;
    case LayoutAction::residual_signs:
      on_residual = random_matrix(Group::signed_permutation, residual, seed);
      break;
    case LayoutAction::residual:
      on_residual = random_element_matrix(Group::orthogonal, residual, seed);
      break;
    default:
      if (!heads) return std::nullopt;
      on_units = action == LayoutAction::heads           ? block_permutation(count, width, seed)
                 : action == LayoutAction::gqa           ? gqa_permutation(layout.groups, count / layout.groups, width, seed)
                 : action == LayoutAction::torus         ? rope_torus(count, width, seed)
                 : action == LayoutAction::head_rotation ? block_orthogonal(count, width, seed)
                                                         : random_element_matrix(Group::orthogonal, units, seed);
  }
  return units_are_stored_rows(layout) ? Move{on_units, on_residual, {}} : Move{on_residual, on_units, {}};
}

bool claims(const Symmetry& symmetry, const LayoutCase& layout, ViewKind view, LayoutAction action) {
  Needs needs = needs_of(action);
  if (view == ViewKind::heads) {
    if (action == LayoutAction::head_mixing) return false;
    // Heads are matrices of a batch then, and a rule treats each alone.
    if (action == LayoutAction::heads || action == LayoutAction::gqa) needs = {};
  }
  const bool units_are_rows = is_gate_up(layout.layout.kind) || units_are_stored_rows(layout) != (view == ViewKind::col);
  const Group rows = units_are_rows ? needs.units : needs.residual, columns = units_are_rows ? needs.residual : needs.units;
  return symmetry.rows >= rows && symmetry.columns >= columns;
}

Cell audit_action(const AuditSubject& subject, const MatrixView& view, const LayoutCase& layout, LayoutAction action,
                  at::ScalarType dtype, const AuditOptions& options) {
  const std::string what = fmt::format("{} {}", layout.name, static_cast<int>(action));
  const std::uint64_t seed = derive_seed(options.seed, what);
  std::vector<at::Tensor> left, right, batch;
  for (std::int64_t k = 0; k < options.elements; ++k) {
    const auto g = random_action(layout, action, derive_seed(seed, "element", static_cast<std::uint64_t>(k)));
    TORCH_CHECK(g, "layout ", layout.name, " has no such action");
    if (g->left.defined()) left.push_back(g->left);
    if (g->right.defined()) right.push_back(g->right);
    if (g->batch.defined()) batch.push_back(g->batch);
  }
  const auto axes = static_cast<std::int64_t>(layout.stored.size());
  const auto stacked = [&](const std::vector<at::Tensor>& parts) {
    if (parts.empty()) return at::Tensor();
    const at::Tensor all = at::stack(parts);
    return axes == 3 ? all.unsqueeze(1) : all;
  };
  const Move g{stacked(left), stacked(right), batch.empty() ? at::Tensor() : at::stack(batch)};
  std::vector<at::Tensor> plain_blocks, moved_blocks;
  for (std::int64_t t = 0; t < kAuditSteps; ++t) {
    auto generator = make_generator(seed, "gradient", static_cast<std::uint64_t>(t));
    const at::Tensor gradient = at::randn(layout.stored, generator, at::kDouble).to(dtype);
    plain_blocks.push_back(to_blocks(view, gradient).contiguous());
    moved_blocks.push_back(to_blocks(view, act(g, gradient)).contiguous());
  }
  const BlockInfo block{view.fan_out, view.fan_in};
  const double u = first_cast(subject, dtype);
  const auto block_axes = static_cast<std::int64_t>(view.blocks.size());
  const UpdateRule& rule = *subject.rule;
  const at::Tensor plain = follow(rule, plain_blocks, block).direction, moved = follow(rule, moved_blocks, block).direction;
  const at::Tensor plain_floor = rounding_floor(rule, plain_blocks, plain, block, floor_of_plain(u, seed), block_axes);
  const at::Tensor moved_floor = rounding_floor(rule, moved_blocks, moved, block, floor_of_moved(u, seed), block_axes);
  Tally tally;
  tally.add(relative_errors(to_stored(view, moved), act_wide(g, to_stored(view, plain)), axes),
            at::maximum(plain_floor, moved_floor.amax()),
            [&](std::int64_t k) { return fmt::format("{}, gaussian, element {}", layout.name, k); });
  return tally.judge(options.elements);
}

std::vector<Finding> audit_views(const AuditSubject& subject, at::ScalarType dtype, const AuditOptions& options) {
  std::vector<Finding> findings;
  for (const LayoutCase& layout : layout_cases())
    for (const ViewKind kind : views_of(layout.layout)) {
      // The same blocks as `whole`.
      if (kind == ViewKind::row) continue;
      const MatrixView view = make_view(layout.layout, layout.stored, kind, layout.unit_is_column);
      for (const auto& [action, column] : layout_actions()) {
        if (!random_action(layout, action, 0)) continue;
        findings.push_back({.subject = subject.name,
                            .precision = std::string(name_of_precision(dtype)),
                            .column = std::string(column.name),
                            .view = fmt::format("{}/{}", layout.name, name_of(kind)),
                            .claimed = claims(claim_of(subject), layout, kind, action),
                            .cell = audit_action(subject, view, layout, action, dtype, options),
                            .note = ""});
      }
    }
  return findings;
}

}  // namespace equisweep
