#pragma once
// The gradients on which update rules are audited (docs/audit.md lists them with the reason for each).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace equisweep {

/// Gradients that a rule receives one after the other.
inline constexpr std::int64_t kAuditSteps = 5;

struct AuditInput {
  std::string name;
  std::vector<at::Tensor> gradients;  ///< kAuditSteps of [m, n], double
};

/// gaussian; singular values from 1 to 1e-3 and to 1e-6, log-spaced; exact low rank (small integers, so that the rank is
/// exact in every dtype); low rank + noise; one zero row; one huge row; Frobenius norm 1e-6. Graded and low-rank gradients
/// share their row space over the steps, so that the momentum has it too. What makes no sense for a vector is left out.
std::vector<AuditInput> audit_inputs(std::int64_t m, std::int64_t n, std::uint64_t seed);

}  // namespace equisweep
