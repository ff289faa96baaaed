// E experts, r neurons, d features, H heads of width h, K weights of a bank.
#include "core/matrix_view.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/error.h"

namespace equisweep {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::array<std::pair<ViewKind, std::string_view>, 7> kViewNames = {{
    {ViewKind::natural, "natural"},
    {ViewKind::whole, "whole"},
    {ViewKind::row, "row"},
    {ViewKind::col, "col"},
    {ViewKind::heads, "heads"},
    {ViewKind::split, "split"},
    {ViewKind::pair, "pair"},
}};

ViewKind natural_view(LayoutKind layout, bool unit_is_column) {
  switch (layout) {
    case LayoutKind::matrix:
      return unit_is_column ? ViewKind::col : ViewKind::row;
    case LayoutKind::gate_up_stacked:
    case LayoutKind::gate_up_interleaved:
      return ViewKind::split;
    case LayoutKind::experts_down:
      return ViewKind::col;
    case LayoutKind::experts_down_in_out:
      return ViewKind::row;
    case LayoutKind::vector:
    case LayoutKind::heads_rows:
    case LayoutKind::heads_columns:
      break;
  }
  return ViewKind::whole;
}

void check_shape(const Layout& layout, at::IntArrayRef stored) {
  const auto fits = [&](bool right, std::string_view shape) {
    TORCH_CHECK(right, "a weight of layout ", name_of(layout.kind), " has shape ", shape, ", not ", stored);
  };
  const auto rank = stored.size();
  switch (layout.kind) {
    case LayoutKind::vector:
      return;
    case LayoutKind::matrix:
      return fits(rank >= 2, "[..., m, n]");
    case LayoutKind::heads_rows:
      return fits(rank == 2 && layout.heads > 0 && stored[0] % layout.heads == 0, fmt::format("[{} * h, d]", layout.heads));
    case LayoutKind::heads_columns:
      return fits(rank == 2 && layout.heads > 0 && stored[1] % layout.heads == 0, fmt::format("[d, {} * h]", layout.heads));
    case LayoutKind::gate_up_stacked:
      return fits(rank == 3 && stored[1] % 2 == 0, "[E, 2r, d]");
    case LayoutKind::gate_up_interleaved:
      return fits(rank == 3 && stored[2] % 2 == 0, "[E, d, 2r]");
    case LayoutKind::experts_down:
      return fits(rank == 3, "[E, d, r]");
    case LayoutKind::experts_down_in_out:
      return fits(rank == 3, "[E, r, d]");
  }
}

// The stored tensor itself, or its last two axes swapped.
MatrixView plain_view(at::IntArrayRef stored, bool transposed) {
  MatrixView view;
  view.stored = view.split = view.blocks = stored.vec();
  for (std::size_t i = 0; i < stored.size(); ++i) view.order.push_back(static_cast<std::int64_t>(i));
  if (transposed) {
    std::swap(view.order.end()[-1], view.order.end()[-2]);
    std::swap(view.blocks.end()[-1], view.blocks.end()[-2]);
  }
  return view;
}

MatrixView with_fans(MatrixView view, std::int64_t fan_out, std::int64_t fan_in) {
  view.fan_out = fan_out;
  view.fan_in = fan_in;
  return view;
}

MatrixView gate_up_view(LayoutKind layout, at::IntArrayRef stored, ViewKind kind) {
  const bool stacked = layout == LayoutKind::gate_up_stacked;
  const std::int64_t experts = stored[0], neurons = stored[stacked ? 1 : 2] / 2, features = stored[stacked ? 2 : 1];
  if (kind == ViewKind::whole) return with_fans(plain_view(stored, !stacked), 2 * neurons, features);
  // [E, 2, r, d], or [E, d, r, 2]
  const Shape split = stacked ? Shape{experts, 2, neurons, features} : Shape{experts, features, neurons, 2};
  if (kind == ViewKind::split) {
    return {stored.vec(), split,   stacked ? Shape{0, 1, 2, 3} : Shape{0, 3, 2, 1}, {experts, 2, neurons, features},
            neurons,      features};
  }
  return {stored.vec(), split,       stacked ? Shape{0, 2, 1, 3} : Shape{0, 2, 3, 1}, {experts, neurons, 2 * features},
          neurons,      2 * features};
}

// `shape` behind the bank axis of `x`, if `x` has one in front of `base`.
Shape with_bank(const at::Tensor& x, const Shape& base, const Shape& shape) {
  const auto sizes = x.sizes();
  const bool bank = sizes.size() == base.size() + 1;
  TORCH_CHECK(sizes.slice(bank ? 1 : 0).equals(base), "expected a tensor of shape ", at::IntArrayRef(base),
              " with at most one leading bank axis, not ", sizes);
  Shape result;
  if (bank) result.push_back(sizes[0]);
  result.insert(result.end(), shape.begin(), shape.end());
  return result;
}

Shape shifted(const Shape& order, bool bank) {
  Shape result;
  if (bank) result.push_back(0);
  for (const auto axis : order) result.push_back(axis + (bank ? 1 : 0));
  return result;
}

}  // namespace

std::string_view name_of(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::vector:
      return "vector";
    case LayoutKind::matrix:
      return "matrix";
    case LayoutKind::heads_rows:
      return "heads_rows";
    case LayoutKind::heads_columns:
      return "heads_columns";
    case LayoutKind::gate_up_stacked:
      return "gate_up_stacked";
    case LayoutKind::gate_up_interleaved:
      return "gate_up_interleaved";
    case LayoutKind::experts_down:
      return "experts_down";
    case LayoutKind::experts_down_in_out:
      return "experts_down_in_out";
  }
  TORCH_CHECK(false, "not a layout");
}

std::string_view name_of(ViewKind kind) {
  for (const auto& [view, name] : kViewNames) {
    if (view == kind) return name;
  }
  TORCH_CHECK(false, "not a view");
}

std::vector<std::string> view_names() {
  std::vector<std::string> names;
  for (const auto& [view, name] : kViewNames) names.emplace_back(name);
  return names;
}

std::vector<ViewKind> views_of(const Layout& layout) {
  switch (layout.kind) {
    case LayoutKind::vector:
      return {ViewKind::whole};
    case LayoutKind::heads_rows:
    case LayoutKind::heads_columns:
      return {ViewKind::whole, ViewKind::row, ViewKind::col, ViewKind::heads};
    case LayoutKind::gate_up_stacked:
    case LayoutKind::gate_up_interleaved:
      return {ViewKind::whole, ViewKind::split, ViewKind::pair};
    case LayoutKind::matrix:
    case LayoutKind::experts_down:
    case LayoutKind::experts_down_in_out:
      break;
  }
  return {ViewKind::whole, ViewKind::row, ViewKind::col};
}

MatrixView make_view(const Layout& layout, at::IntArrayRef stored, ViewKind kind, bool unit_is_column) {
  check_shape(layout, stored);
  if (kind == ViewKind::natural) kind = natural_view(layout.kind, unit_is_column);
  const auto views = views_of(layout);
  if (std::find(views.begin(), views.end(), kind) == views.end()) {
    std::vector<std::string> names = {std::string(name_of(ViewKind::natural))};
    for (const auto view : views) names.emplace_back(name_of(view));
    throw UsageError({Problem({}, fmt::format("a weight of layout {} has no view '{}'", name_of(layout.kind), name_of(kind)),
                              join(names))});
  }
  const auto size = [&](int axis) { return stored.end()[axis]; };
  switch (layout.kind) {
    case LayoutKind::vector:
      return with_fans(plain_view(stored, false), stored.empty() ? 1 : size(-1), 1);
    case LayoutKind::gate_up_stacked:
    case LayoutKind::gate_up_interleaved:
      return gate_up_view(layout.kind, stored, kind);
    case LayoutKind::heads_rows:
      if (kind == ViewKind::heads) {
        const Shape blocks = {layout.heads, size(-2) / layout.heads, size(-1)};
        return {stored.vec(), blocks, {0, 1, 2}, blocks, blocks[1], blocks[2]};
      }
      break;
    case LayoutKind::heads_columns:
      if (kind == ViewKind::heads) {
        const Shape split = {size(-2), layout.heads, size(-1) / layout.heads};
        return {stored.vec(), split, {1, 0, 2}, {split[1], split[0], split[2]}, split[0], split[2]};
      }
      break;
    case LayoutKind::experts_down_in_out:  // stored [in, out]
      return with_fans(plain_view(stored, kind == ViewKind::col), size(-1), size(-2));
    case LayoutKind::matrix:
    case LayoutKind::experts_down:
      break;
  }
  return with_fans(plain_view(stored, kind == ViewKind::col), size(-2), size(-1));
}

at::Tensor to_blocks(const MatrixView& view, const at::Tensor& stored) {
  const bool bank = stored.dim() > static_cast<std::int64_t>(view.stored.size());
  return stored.reshape(with_bank(stored, view.stored, view.split))
      .permute(shifted(view.order, bank))
      .reshape(with_bank(stored, view.stored, view.blocks));
}

at::Tensor to_stored(const MatrixView& view, const at::Tensor& blocks) {
  const bool bank = blocks.dim() > static_cast<std::int64_t>(view.blocks.size());
  Shape permuted, inverse(view.order.size());
  for (std::size_t i = 0; i < view.order.size(); ++i) {
    permuted.push_back(view.split[static_cast<std::size_t>(view.order[i])]);
    inverse[static_cast<std::size_t>(view.order[i])] = static_cast<std::int64_t>(i);
  }
  return blocks.reshape(with_bank(blocks, view.blocks, permuted))
      .permute(shifted(inverse, bank))
      .reshape(with_bank(blocks, view.blocks, view.stored));
}

}  // namespace equisweep
