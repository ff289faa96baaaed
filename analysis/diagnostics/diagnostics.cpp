#include "analysis/diagnostics/diagnostics.h"

#include <nlohmann/json.hpp>
#include <string>

#include "analysis/diagnostics/attention.h"
#include "analysis/diagnostics/equivariance.h"
#include "analysis/diagnostics/logits.h"
#include "analysis/diagnostics/router.h"
#include "analysis/diagnostics/spectral.h"
#include "core/error.h"
#include "core/role.h"

namespace equisweep {

std::span<const DiagnosticInfo> diagnostics() {
  using enum FieldKind;
  const auto pace = [](const char* steps) {
    return Field{.name = "every",
                 .kind = integer,
                 .default_json = steps,
                 .doc = "pace in steps; step 1 is always measured",
                 .min = 1};
  };
  const auto count = [](const char* name, const char* value, const char* doc, double min) {
    return Field{.name = name, .kind = integer, .default_json = value, .doc = doc, .min = min, .max = 1LL << 40};
  };
  std::vector<std::string> roles;
  for (const Role role : kRoles)
    if (role != Role::vector) roles.emplace_back(name_of(role));
  Field interval = pace("50");
  interval.doc = "steps between audits, each of one block, in turn; none at step 1";
  static const std::vector<DiagnosticInfo> table = {
      {.name = "spectral",
       .summary = "norms and ranks of every weight, to block_stats, and of every matrix (head, expert), to matrix_stats",
       .fields =
           {pace("100"),
            {.name = "of",
             .kind = name_list,
             .default_json = R"(["weight", "update"])",
             .doc = "what matrix_stats holds; [] leaves block_stats alone",
             .choices = {"weight", "update", "momentum", "gradient"}},
            count("exact_every", "100", "decompose one weight in turn at measured steps that are multiples; 0: never", 0),
            {.name = "exact_all", .kind = boolean, .default_json = "false", .doc = "decompose every weight at these steps"}},
       .make = make_spectral_diagnostic},
      {.name = "router",
       .summary = "load, losses, margins and logits of every router, to router_stats, and tokens per expert, to expert_load",
       .fields = {pace("20")},
       .of_routers = true,
       .make = make_router_diagnostic},
      {.name = "logits",
       .summary = "logits of the LM head, what the softmax does not see of them, and their growth, to logit_stats",
       .fields = {pace("10"), count("tokens", "256", "tokens of the batch that are looked at", 1)},
       .make = make_logit_diagnostic},
      {.name = "attention",
       .summary = "largest attention logit of every head, to attention_stats",
       .fields = {pace("50"), count("sequences", "1", "sequences of the batch that are looked at", 1)},
       .make = make_attention_diagnostic},
      {.name = "equivariance",
       .summary = "audits one block in turn on the gradients of the run, to equivariance",
       .fields = {interval,
                  count("gradients", "5", "last gradients of an interval that an audit follows from zero; 0: all of it", 0),
                  {.name = "blocks",
                   .kind = name_list,
                   .default_json = "[]",
                   .doc = "roles that take turns; []: all but vectors",
                   .choices = roles},
                  {.name = "groups",
                   .kind = name_list,
                   .default_json = R"(["claimed"])",
                   .doc = "random elements of: what the rule claims on both sides, or a rung of one side",
                   .choices = {"claimed", "rows.permutation", "rows.signed_permutation", "rows.orthogonal",
                               "features.permutation", "features.signed_permutation", "features.orthogonal"}},
                  {.name = "precision",
                   .kind = choice,
                   .default_json = R"("run")",
                   .doc = "of the audited gradients and states; run: those of the optimizer",
                   .choices = {"run", "fp64", "fp32", "bf16"}}},
       .make = make_equivariance_diagnostic},
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
