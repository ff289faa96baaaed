#pragma once
// The table of diagnostics: one row each, and the only place that lists their names.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "analysis/diagnostic.h"
#include "core/field.h"

namespace equisweep {

struct DiagnosticInfo {
  std::string_view name;      ///< key under `log` in the sweep file
  std::string_view summary;   ///< one line: what is written, and where
  std::vector<Field> fields;  ///< its options; `every` is the first, with its default pace
  bool of_routers = false;    ///< looks at forward passes of mixtures of experts, and at no update
  /// Builds it from complete options (complete() in core/field.h).
  std::unique_ptr<Diagnostic> (*make)(const nlohmann::json& options, DiagnosticContext context) = nullptr;
};

/// Every diagnostic.
std::span<const DiagnosticInfo> diagnostics();

/// The row called `name`; throws UsageError with the nearest name.
const DiagnosticInfo& find_diagnostic(std::string_view name);

}  // namespace equisweep
