#pragma once
// The symmetries of stored weights, acted on where they are stored and judged through the view that a rule sees.
//
// What an action does to a stored tensor follows from the meaning of its layout (optimizers.md section 1) and is written
// down here a second time, without core's MatrixView: so an audit through a view also finds a wrong view.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/audit/audit.h"
#include "analysis/audit/groups.h"
#include "core/matrix_view.h"

namespace equisweep {

enum class LayoutAction {
  experts,         ///< experts permuted
  neurons,         ///< intermediate neurons permuted, gate and up together
  heads,           ///< heads permuted
  gqa,             ///< heads permuted inside their groups, and the groups
  torus,           ///< rotary pairs rotated
  head_rotation,   ///< each head's basis rotated by an element of O(h) of its own
  head_mixing,     ///< one rotation across all heads: a symmetry of no architecture, kept by rules that see one matrix
  residual_signs,  ///< residual features permuted and negated
  residual,        ///< residual features rotated
};

/// Every action, with the name of its column ("view.experts") and a heading.
std::span<const std::pair<LayoutAction, AuditColumn>> layout_actions();

/// A stored weight with its sizes.
struct LayoutCase {
  std::string name;  ///< "heads_rows", or "mlp_down" for a matrix whose units are columns
  Layout layout;
  std::vector<std::int64_t> stored;
  bool unit_is_column = false;
  std::int64_t groups = 1;  ///< key/value groups of the heads
};

/// One of every layout that a weight can have.
std::span<const LayoutCase> layout_cases();

/// A random element of `action` on the stored weight; nothing if the layout has no such action.
std::optional<Move> random_action(const LayoutCase& layout, LayoutAction action, std::uint64_t seed);

/// Whether a rule with `symmetry` that sees the weight through `view` commutes with `action`.
bool claims(const Symmetry& symmetry, const LayoutCase& layout, ViewKind view, LayoutAction action);

/// The statistic of `subject` under random elements of `action`, seen through `view`, on gaussian gradients of the stored
/// shape.
Cell audit_action(const AuditSubject& subject, const MatrixView& view, const LayoutCase& layout, LayoutAction action,
                  at::ScalarType dtype, const AuditOptions& options);

}  // namespace equisweep
