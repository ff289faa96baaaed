// The rungs of both sides, and shifts. T steps, K group elements, I inputs, m x n a block.

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

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

// The gaussian input alone: [K, I, m, n] -> [K, 1, m, n].
std::vector<at::Tensor> first_input(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& gradient : gradients) result.push_back(gradient.narrow(-3, 0, 1).contiguous());
  return result;
}

// The error of a run on transformed gradients against `expected`.
void compare(const AuditSubject& subject, const Stage& stage, const std::vector<at::Tensor>& gradients,
             const at::Tensor& expected, const at::Tensor& plain_floor, std::string_view what, Tally& tally) {
  const double u = first_cast(subject, stage.dtype());
  const at::Tensor direction = follow(*subject.rule, gradients, stage.block()).direction;
  const at::Tensor moved_floor = rounding_floor(*subject.rule, gradients, direction, stage.block(),
                                                floor_of_moved(u, derive_seed(stage.seed, what)), 2);
  const std::int64_t inputs = gradients[0].size(-3);
  tally.add(relative_errors(direction, expected, 2), at::maximum(plain_floor, moved_floor.amax(0)), [&](std::int64_t i) {
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

FloorDraws floor_of_plain(double u, std::uint64_t seed) {
  return {.u = u, .to_nearest = 5, .upward = true, .downward = true, .seed = seed};
}

FloorDraws floor_of_moved(double u, std::uint64_t seed) {
  return {.u = u, .to_nearest = 0, .upward = true, .downward = false, .seed = seed};
}

Symmetry claim_of(const AuditSubject& subject) { return subject.claim.value_or(subject.rule->symmetry()); }

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
  const Symmetry claim = claim_of(subject);
  const at::Tensor plain = follow(*subject.rule, stage.gradients, block).direction;
  const at::Tensor floor =
      rounding_floor(*subject.rule, stage.gradients, plain, block,
                     floor_of_plain(first_cast(subject, stage.dtype()), derive_seed(stage.seed, "floor")), 2);
  // What is not claimed is only shown: the gaussian input, the first, tells.
  const auto against = [&](const std::vector<at::Tensor>& gradients, const at::Tensor& expected, std::string_view column,
                           Tally& tally) {
    if (claims(claim, column)) return compare(subject, stage, gradients, expected, floor, column, tally);
    compare(subject, stage, first_input(gradients), expected.narrow(-3, 0, 1), floor.narrow(0, 0, 1), column, tally);
  };
  for (std::size_t i = 0; i < stage.orbits.size(); ++i) {
    const Orbit& orbit = stage.orbits[i];
    against(orbit.gradients, act_wide(orbit.g, plain), orbit.column, tallies[i]);
  }
  const at::Tensor u = plain.to(at::kDouble);
  const at::Tensor size = at::linalg_vector_norm(u, 2, at::IntArrayRef{-2, -1}),
                   common = at::linalg_vector_norm(u.sum(-2), 2, at::IntArrayRef{-1});
  const at::Tensor horizontality = at::where(at::isfinite(size), common / (size * std::sqrt(static_cast<double>(stage.m))),
                                             at::full_like(size, std::numeric_limits<double>::infinity()));
  tallies[kHorizontal].add(horizontality, floor, [&](std::int64_t i) {
    return fmt::format("{}, {}", stage.name, stage.inputs[static_cast<std::size_t>(i)]);
  });
  against(stage.shifted, u.unsqueeze(0).expand(stage.shifted[0].sizes()), "shift.invariant", tallies[kInvariant]);
}

}  // namespace equisweep
