#pragma once
// What audit() does to one subject: the probes of the ladder, those of the other columns, and those through views. Internal
// to analysis/audit.
//
// T steps, K group elements, I inputs, E matrices of a batch, m x n a block.

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "analysis/audit/audit.h"
#include "analysis/audit/follow.h"
#include "analysis/audit/groups.h"

namespace equisweep {

/// Draws at (S, G): five to nearest and one in either directed rounding; and at each (gS, gG) one, rounded up. The floor of
/// a sample is the largest of all of them: along an orbit an equivariant rule rounds alike, and where one number is at
/// stake, as the norm of a single column, the largest error of 20 elements has to be held against as many draws.
FloorDraws floor_of_plain(double u, std::uint64_t seed);
FloorDraws floor_of_moved(double u, std::uint64_t seed);

/// The gradients of a stage after K elements of one group have acted on all of them.
struct Orbit {
  std::string column;                 ///< AuditColumn::name
  Move g;                             ///< [K, 1, ...]
  std::vector<at::Tensor> gradients;  ///< T of [K, I, m, n]
};

/// All inputs of one shape in one precision, stacked, with what the groups make of them. Shared by all subjects.
struct Stage {
  std::string name;  ///< "tall 14x6"
  std::int64_t m = 0, n = 0, elements = 0;
  std::uint64_t seed = 0;
  std::vector<std::string> inputs;
  std::vector<at::Tensor> gradients;  ///< T of [I, m, n]
  std::vector<Orbit> orbits;          ///< the rungs of both sides
  std::vector<at::Tensor> shifted;    ///< T of [K, I, m, n]: G + 1 c^T, c as large as the rows of G

  at::ScalarType dtype() const { return gradients[0].scalar_type(); }
  BlockInfo block() const { return {m, n}; }
};

Stage make_stage(const std::string& name, std::int64_t m, std::int64_t n, at::ScalarType dtype, const AuditOptions& options);

/// u of the first cast of this subject in `dtype`.
double first_cast(const AuditSubject& subject, at::ScalarType dtype);

/// What the subject claims.
Symmetry claim_of(const AuditSubject& subject);

/// Whether `symmetry` says that the rung of this ladder column holds.
bool claims(const Symmetry& symmetry, std::string_view column);

/// Every column except the views.
std::vector<Finding> audit_subject(const AuditSubject& subject, const std::vector<Stage>& stages);

/// The columns that groups do not make.
std::vector<Finding> audit_properties(const AuditSubject& subject, const Stage& stage);

/// Errors of a subject that depend on a single stage: ladder and shifts, added to the tallies of `columns` in order.
void climb(const AuditSubject& subject, const Stage& stage, std::span<Tally> tallies);

/// Through every view of every layout.
std::vector<Finding> audit_views(const AuditSubject& subject, at::ScalarType dtype, const AuditOptions& options);

}  // namespace equisweep
