#pragma once
// How a weight lies in memory, and the matrix blocks that a rule sees in it.
//
// A Layout says what the axes of a stored weight mean. A MatrixView is a pair of pure functions between the stored tensor
// and its blocks [..., unit, feature]; both are data (a reshape, a permutation, a reshape), so geometry never becomes code
// in a rule. All functions accept one extra leading axis, so that a bank of same-shape weights is viewed in one call.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

/// Storage layouts of optimizers.md section 1. E experts, r neurons, d features, H heads of width h.
enum class LayoutKind {
  vector,               ///< anything without a matrix meaning
  matrix,               ///< [..., out, in]
  heads_rows,           ///< [H*h, d]: q, k, v projections
  heads_columns,        ///< [d, H*h]: output projection
  gate_up_stacked,      ///< [E, 2r, d]: gate rows, then up rows (OLMoE)
  gate_up_interleaved,  ///< [E, d, 2r]: gate = even columns, up = odd (gpt-oss)
  experts_down,         ///< [E, d, r] (OLMoE)
  experts_down_in_out,  ///< [E, r, d] (gpt-oss)
};

std::string_view name_of(LayoutKind kind);

struct Layout {
  LayoutKind kind = LayoutKind::matrix;
  std::int64_t heads = 1;  ///< H of heads_rows and heads_columns
};

/// The `view:` option of a stack entry. `natural` stands for the default of the layout and role.
enum class ViewKind { natural, whole, row, col, heads, split, pair };

std::string_view name_of(ViewKind kind);
std::vector<std::string> view_names();

/// Blocks of a stored weight: stored -> reshape(split) -> permute(order) -> reshape(blocks).
struct MatrixView {
  std::vector<std::int64_t> stored;  ///< shape of the weight
  std::vector<std::int64_t> split;   ///< stored shape with its compound axes split
  std::vector<std::int64_t> order;   ///< permutation of split
  std::vector<std::int64_t> blocks;  ///< [..., unit, feature]
  std::int64_t fan_out = 1;          ///< of the block, from its meaning, never from the storage order
  std::int64_t fan_in = 1;
};

/// The view `kind` of a weight with `layout` and shape `stored`. `unit_is_column` says that the unit of this role is a
/// column of the stored matrix (mlp_down), which decides what `natural` means:
///   matrix: row (col if unit_is_column); heads_*: whole; gate_up_*: split; experts_down: col; *_in_out: row.
/// Throws UsageError if the layout has no such view (naming those it has).
MatrixView make_view(const Layout& layout, at::IntArrayRef stored, ViewKind kind, bool unit_is_column = false);

/// The views that a layout has, `natural` left out.
std::vector<ViewKind> views_of(const Layout& layout);

/// stored [K?, ...] -> blocks [K?, ..., unit, feature]. A strided view where possible, else a copy.
at::Tensor to_blocks(const MatrixView& view, const at::Tensor& stored);

/// The inverse: to_stored(view, to_blocks(view, x)) equals x bitwise.
at::Tensor to_stored(const MatrixView& view, const at::Tensor& blocks);

}  // namespace equisweep
