#pragma once
// Cells of an audit as tables show them, on the terminal and in reports.

#include <string>
#include <string_view>

#include "analysis/audit/model_audit.h"

namespace equisweep {

struct Finding;

/// "=" bitwise equal, "1.3" holds with this ratio, "?" undecided, "." does not apply, "x0.52" broken and not claimed, by
/// 52%,
/// "(1.3)" holds and is not claimed; a claim that fails is in capitals.
std::string cell_text(const Finding& finding);
/// The same; "X0.52" a control that fails as it must.
std::string cell_text(const ModelFinding& finding);

/// What these texts mean, one sentence each.
inline constexpr std::string_view kCellLegend =
    "=: bitwise equal. 1.3: holds, error / rounding floor, below 5. x0.52: broken and not claimed, error 52%. (1.3): holds "
    "without being claimed. ?: rounding decides every sample. A dot: does not apply.";
inline constexpr std::string_view kModelCellLegend =
    "=: bitwise equal. 1.3: holds, error / rounding floor, below 5. x0.52: not kept and not claimed, the runs part by 52% "
    "of "
    "the way. X0.52: a control that must fail, and does. (1.3): kept without being claimed. A dot: the architecture has no "
    "such part.";

}  // namespace equisweep
