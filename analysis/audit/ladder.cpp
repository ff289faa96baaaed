// The rungs of both sides, and shifts. T steps, K group elements, I inputs, m x n a block.

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/audit/follow.h"
#include "analysis/audit/inputs.h"
#include "analysis/audit/probes.h"
#include "core/rng.h"

namespace equisweep {
namespace {

struct Rung {
  std::string_view column;
  bool rows;
  Group needs;  ///< the smallest group of the ladder that contains it
  at::Tensor (*draw)(std::int64_t n, std::uint64_t seed);
};

template <Group group>
at::Tensor draw_from(std::int64_t n, std::uint64_t seed) {
  return random_element_matrix(group, n, seed);
}

constexpr std::array kRungs = {
    Rung{"rows.permutation", true, Group::permutation, draw_from<Group::permutation>},
    Rung{"rows.signed_permutation", true, Group::signed_permutation, draw_from<Group::signed_permutation>},
    Rung{"rows.fixing_ones", true, Group::orthogonal, orthogonal_fixing_ones},
    Rung{"rows.orthogonal", true, Group::orthogonal, draw_from<Group::orthogonal>},
    Rung{"features.permutation", false, Group::permutation, draw_from<Group::permutation>},
    Rung{"features.signed_permutation", false, Group::signed_permutation, draw_from<Group::signed_permutation>},
    Rung{"features.orthogonal", false, Group::orthogonal, draw_from<Group::orthogonal>},
};

constexpr std::size_t kHorizontal = kRungs.size(), kInvariant = kRungs.size() + 1;

std::vector<at::Tensor> stacked(const std::vector<AuditInput>& inputs, at::ScalarType dtype) {
  std::vector<at::Tensor> gradients;
  for (std::size_t t = 0; t < static_cast<std::size_t>(kAuditSteps); ++t) {
    std::vector<at::Tensor> step;
    for (const AuditInput& input : inputs) step.push_back(input.gradients[t]);
    gradients.push_back(at::stack(step).to(dtype));
  }
  return gradients;
}

// The error of a run on transformed gradients against `expected`, and its floor: the larger of that of the plain run and
// that of the transformed one.
void compare(const AuditSubject& subject, const Stage& stage, const std::vector<at::Tensor>& gradients,
             const at::Tensor& expected, const at::Tensor& plain_floor, std::string_view what, Tally& tally) {
  const double u = first_cast(subject, stage.dtype());
  const Trajectory run = follow(*subject.rule, gradients, stage.block());
  const at::Tensor floor =
      at::maximum(plain_floor, rounding_floor(*subject.rule, run, stage.block(), u, 1, 2, derive_seed(stage.seed, what)));
  const auto inputs = static_cast<std::int64_t>(stage.inputs.size());
  tally.add(relative_errors(run.direction, expected, 2), floor, [&](std::int64_t i) {
    return fmt::format("{}, {}, element {}", stage.name, stage.inputs[static_cast<std::size_t>(i % inputs)], i / inputs);
  });
}

}  // namespace

Stage make_stage(const std::string& name, std::int64_t m, std::int64_t n, at::ScalarType dtype,
                 const AuditOptions& options) {
  Stage stage;
  stage.name = fmt::format("{} {}x{}", name, m, n);
  stage.m = m;
  stage.n = n;
  stage.elements = options.elements;
  stage.seed = derive_seed(options.seed, stage.name);
  const std::vector<AuditInput> inputs = audit_inputs(m, n, derive_seed(stage.seed, "inputs"));
  for (const AuditInput& input : inputs) stage.inputs.push_back(input.name);
  stage.gradients = stacked(inputs, dtype);
  for (const Rung& rung : kRungs) {
    std::vector<at::Tensor> elements;
    for (std::int64_t k = 0; k < options.elements; ++k)
      elements.push_back(rung.draw(rung.rows ? m : n, derive_seed(stage.seed, rung.column, static_cast<std::uint64_t>(k))));
    Orbit orbit{std::string(rung.column), {}, {}};
    (rung.rows ? orbit.g.left : orbit.g.right) = at::stack(elements).unsqueeze(1);
    for (const at::Tensor& gradient : stage.gradients) orbit.gradients.push_back(act(orbit.g, gradient));
    stage.orbits.push_back(std::move(orbit));
  }
  for (std::size_t t = 0; t < stage.gradients.size(); ++t) {
    const at::Tensor wide = stage.gradients[t].to(at::kDouble);
    std::vector<at::Tensor> shifts;
    for (std::int64_t k = 0; k < options.elements; ++k)
      shifts.push_back(
          random_shift(n, derive_seed(derive_seed(stage.seed, "shift", t), "element", static_cast<std::uint64_t>(k))));
    const at::Tensor size = wide.square().mean(at::IntArrayRef{-2, -1}, /*keepdim=*/true).sqrt();
    stage.shifted.push_back((wide + at::stack(shifts).unsqueeze(1) * size).to(dtype));
  }
  return stage;
}

double first_cast(const AuditSubject& subject, at::ScalarType dtype) {
  return std::max(unit_roundoff(dtype), subject.inner_roundoff);
}

bool claims(const Symmetry& symmetry, std::string_view column) {
  for (const Rung& rung : kRungs)
    if (rung.column == column) return (rung.rows ? symmetry.rows : symmetry.columns) >= rung.needs;
  return (column == "shift.horizontal" || column == "shift.invariant") && symmetry.shift;
}

void climb(const AuditSubject& subject, const Stage& stage, std::span<Tally> tallies) {
  const BlockInfo block = stage.block();
  const Trajectory plain = follow(*subject.rule, stage.gradients, block);
  const at::Tensor floor = rounding_floor(*subject.rule, plain, block, first_cast(subject, stage.dtype()), kFloorDraws, 2,
                                          derive_seed(stage.seed, "floor"));
  for (std::size_t i = 0; i < stage.orbits.size(); ++i) {
    const Orbit& orbit = stage.orbits[i];
    compare(subject, stage, orbit.gradients, act_wide(orbit.g, plain.direction), floor, orbit.column, tallies[i]);
  }
  const at::Tensor u = plain.direction.to(at::kDouble);
  const at::Tensor horizontality =
      at::linalg_vector_norm(u.sum(-2), 2, at::IntArrayRef{-1}) /
      (at::linalg_vector_norm(u, 2, at::IntArrayRef{-2, -1}) * std::sqrt(static_cast<double>(stage.m)));
  tallies[kHorizontal].add(horizontality, floor, [&](std::int64_t i) {
    return fmt::format("{}, {}", stage.name, stage.inputs[static_cast<std::size_t>(i)]);
  });
  const at::Tensor expected = u.unsqueeze(0).expand(stage.shifted[0].sizes());
  compare(subject, stage, stage.shifted, expected, floor, "shift", tallies[kInvariant]);
}

}  // namespace equisweep
