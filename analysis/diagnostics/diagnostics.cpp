#include "analysis/diagnostics/diagnostics.h"

#include <nlohmann/json.hpp>
#include <string>

#include "analysis/diagnostics/router.h"
#include "analysis/diagnostics/spectral.h"
#include "core/error.h"

namespace equisweep {

std::span<const DiagnosticInfo> diagnostics() {
  const Field pace{.name = "every",
                   .kind = FieldKind::integer,
                   .default_json = "10",
                   .doc = "pace in steps; step 1 is always measured",
                   .min = 1};
  static const std::vector<DiagnosticInfo> table = {
      {.name = "spectral",
       .summary = "spectral norm, stable rank, update/weight ratio and gradient norm of every weight, to block_stats",
       .fields = {pace},
       .make = make_spectral_diagnostic},
      {.name = "router",
       .summary = "load, losses and logits of every router, to router_stats, and tokens per expert, to expert_load",
       .fields = {pace},
       .of_routers = true,
       .make = make_router_diagnostic},
  };
  return table;
}

const DiagnosticInfo& find_diagnostic(std::string_view name) {
  std::vector<std::string> names;
  for (const DiagnosticInfo& row : diagnostics()) {
    if (row.name == name) return row;
    names.emplace_back(row.name);
  }
  throw UsageError(
      {Problem({}, "unknown diagnostic '" + printable(name) + "'", "one of: " + join(names), nearest_name(name, names))});
}

}  // namespace equisweep
