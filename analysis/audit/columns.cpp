#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>

#include "analysis/audit/audit.h"
#include "core/error.h"

namespace equisweep {
namespace {

constexpr std::array kColumns = {
    AuditColumn{"rows.permutation", "P(m)", "units permuted"},
    AuditColumn{"rows.signed_permutation", "+-P(m)", "units permuted, and some negated"},
    AuditColumn{"rows.fixing_ones", "O1(m)", "units rotated by a Haar element that fixes the vector 1"},
    AuditColumn{"rows.orthogonal", "O(m)", "units rotated by a Haar element"},
    AuditColumn{"features.permutation", "P(n)", "features permuted"},
    AuditColumn{"features.signed_permutation", "+-P(n)", "features permuted, and some negated"},
    AuditColumn{"features.orthogonal", "O(n)", "features rotated by a Haar element"},
    AuditColumn{"shift.horizontal", "1^T U", "h = ||1^T U|| / (sqrt(m) ||U||) in place of the error"},
    AuditColumn{"shift.invariant", "+1c^T", "the direction does not see a shift of all units by the same row"},
    AuditColumn{"batch", "batch", "matrices of a batch permuted; each alone gives what it gives in the batch"},
    AuditColumn{"state", "state", "rows, columns and matrices permuted midway, gradient and stored state together"},
    AuditColumn{"repeat", "again", "a second run from the zero state gives the same bits, and identity moves nothing"},
    AuditColumn{"scale", "scale",
                "the direction of cG is c^degree times that of G; where no eps is declared, down to norm 1e-6"},
    AuditColumn{"transpose", "X^T", "the transposed gradient of the same block gives the transposed direction"},
    AuditColumn{"fans", "fans", "the direction grows with fan_out and fan_in of the block as its options say"},
};

constexpr std::array<std::pair<at::ScalarType, std::string_view>, 3> kPrecisions = {
    {{at::kDouble, "fp64"}, {at::kFloat, "fp32"}, {at::kBFloat16, "bf16"}}};

}  // namespace

std::span<const AuditColumn> audit_columns() { return kColumns; }

std::string_view name_of_precision(at::ScalarType dtype) {
  for (const auto& [type, name] : kPrecisions)
    if (type == dtype) return name;
  TORCH_CHECK(false, "no audit in ", dtype);
}

at::ScalarType precision_from_name(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [type, known] : kPrecisions) {
    if (known == name) return type;
    names.emplace_back(known);
  }
  throw UsageError({Problem{
      {}, "unknown precision '" + printable(name) + "'", "one or more of: " + join(names), nearest_name(name, names)}});
}

}  // namespace equisweep
