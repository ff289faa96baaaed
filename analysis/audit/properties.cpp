// What group elements cannot see: batches, stored state, repetition, scale, transposes, fans.
// T steps, K group elements, E matrices of a batch, m x n a block.

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/audit/follow.h"
#include "analysis/audit/probes.h"
#include "core/rng.h"

namespace equisweep {
namespace {

constexpr std::int64_t kBatch = 4;

class Probe {
 public:
  Probe(const AuditSubject& subject, const Stage& stage)
      : subject_(subject),
        rule_(*subject.rule),
        stage_(stage),
        u_(first_cast(subject, stage.dtype())),
        plain_(follow(rule_, stage.gradients, stage.block())),
        floor_(floor_of(stage.gradients, plain_.direction, "floor")) {}

  Finding batch() const;
  Finding state() const;
  Finding repeat() const;
  Finding scale() const;
  Finding transpose() const;
  Finding fans() const;

 private:
  at::Tensor floor_of(const std::vector<at::Tensor>& gradients, const at::Tensor& direction, std::string_view what) const {
    return rounding_floor(rule_, gradients, direction, stage_.block(), floor_of_plain(u_, derive_seed(stage_.seed, what)),
                          2);
  }

  std::string place(std::int64_t i) const {
    const auto inputs = static_cast<std::int64_t>(stage_.inputs.size());
    const std::string& input = stage_.inputs[static_cast<std::size_t>(i % inputs)];
    return fmt::format("{}, {}, element {}", stage_.name, input, i / inputs);
  }

  std::string place_in_batch(std::int64_t i) const {
    return fmt::format("{} matrices {}, matrix {}, element {}", kBatch, stage_.name, i % kBatch, i / kBatch);
  }

  template <typename Draw>
  at::Tensor elements(std::string_view what, Draw&& draw) const {
    std::vector<at::Tensor> drawn;
    for (std::int64_t k = 0; k < stage_.elements; ++k)
      drawn.push_back(draw(derive_seed(stage_.seed, what, static_cast<std::uint64_t>(k))));
    return at::stack(drawn);
  }

  Finding finding(std::string_view column, bool claimed, const Tally& tally, std::int64_t count,
                  std::string note = "") const {
    return {.subject = subject_.name,
            .precision = std::string(name_of_precision(stage_.dtype())),
            .column = std::string(column),
            .view = "",
            .claimed = claimed,
            .cell = tally.judge(count),
            .note = std::move(note)};
  }

  /// The gaussian input alone, times `factor`: T of [m, n].
  std::vector<at::Tensor> gaussian(double factor = 1) const {
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& gradient : stage_.gradients) gradients.push_back(gradient[0] * factor);
    return gradients;
  }

  /// T of [E, m, n] of very different sizes, so that whatever one matrix takes from its neighbours shows.
  std::vector<at::Tensor> batches() const {
    std::vector<at::Tensor> gradients;
    for (std::size_t t = 0; t < stage_.gradients.size(); ++t) {
      std::vector<at::Tensor> matrices;
      for (std::int64_t e = 0; e < kBatch; ++e) {
        auto generator = make_generator(derive_seed(stage_.seed, "batch", t), "matrix", static_cast<std::uint64_t>(e));
        matrices.push_back(at::randn({stage_.m, stage_.n}, generator, at::kDouble) *
                           std::ldexp(1.0, static_cast<int>(3 * e)));
      }
      gradients.push_back(at::stack(matrices).to(stage_.dtype()));
    }
    return gradients;
  }

  const AuditSubject& subject_;
  const UpdateRule& rule_;
  const Stage& stage_;
  double u_;
  Trajectory plain_;
  at::Tensor floor_;
};

Finding Probe::batch() const {
  Tally tally;
  const std::vector<at::Tensor> gradients = batches();
  const at::Tensor plain = follow(rule_, gradients, stage_.block()).direction;
  const at::Tensor floor = floor_of(gradients, plain, "batch").amax();
  const Move g{{}, {}, elements("batch permutation", [](std::uint64_t seed) {
                 return random_matrix(Group::permutation, kBatch, seed);
               })};
  std::vector<at::Tensor> moved;
  for (const at::Tensor& gradient : gradients) moved.push_back(act(g, gradient));
  tally.add(relative_errors(follow(rule_, moved, stage_.block()).direction, act_wide(g, plain), 2), floor,
            [&](std::int64_t i) { return place_in_batch(i); });
  for (std::int64_t e = 0; e < kBatch; ++e) {
    std::vector<at::Tensor> alone;
    for (const at::Tensor& gradient : gradients) alone.push_back(gradient[e]);
    tally.add(relative_errors(plain[e], follow(rule_, alone, stage_.block()).direction, 2), floor,
              [&](std::int64_t) { return fmt::format("matrix {} of {} alone, {}", e, kBatch, stage_.name); });
  }
  return finding("batch", true, tally, stage_.elements);
}

Finding Probe::state() const {
  Tally tally;
  const Symmetry symmetry = claim_of(subject_);
  // No more than permutations: how a state moves under signs and rotations is the rule's own business (v of adamw has no
  // sign), but whatever is stored for a unit has to go where the unit goes.
  const auto move_all = [&](const Move& g, const Trajectory& run) {
    RuleState state;
    state.step = run.before.step;
    for (const at::Tensor& slot : run.before.slots) state.slots.push_back(act(g, slot));
    return step_once(rule_, state, act(g, run.gradient), stage_.block());
  };
  Move g;
  if (symmetry.rows != Group::identity)
    g.left =
        elements("state rows", [&](std::uint64_t s) { return random_matrix(Group::permutation, stage_.m, s); }).unsqueeze(1);
  if (symmetry.columns != Group::identity)
    g.right = elements("state columns", [&](std::uint64_t s) {
                return random_matrix(Group::permutation, stage_.n, s);
              }).unsqueeze(1);
  const at::Tensor expected = act_wide(g, plain_.direction), direction = move_all(g, plain_);
  tally.add(relative_errors(direction, expected.expand(direction.sizes()), 2), floor_,
            [&](std::int64_t i) { return place(i); });
  const std::vector<at::Tensor> gradients = batches();
  const Trajectory batch = follow(rule_, gradients, stage_.block());
  const Move of_batch{
      {}, {}, elements("state batch", [](std::uint64_t s) { return random_matrix(Group::permutation, kBatch, s); })};
  tally.add(relative_errors(move_all(of_batch, batch), act_wide(of_batch, batch.direction), 2),
            floor_of(gradients, batch.direction, "state").amax(), [&](std::int64_t i) { return place_in_batch(i); });
  return finding("state", true, tally, stage_.elements);
}

Finding Probe::repeat() const {
  Tally tally;
  const Trajectory again = follow(rule_, stage_.gradients, stage_.block());
  // Any difference at all is a break: the floor of equal bits is nothing.
  const at::Tensor error = relative_errors(again.direction, plain_.direction, 2);
  tally.add(error, at::full_like(error, 1e-300), [&](std::int64_t i) { return place(i); });
  return finding("repeat", true, tally, 1);
}

Finding Probe::scale() const {
  // Powers of two are exact. A gaussian gradient of norm 10 times 2^30 is large against any eps; times 2^-24 its norm is
  // 6e-7.
  constexpr double kLarge = 30, kLarger = 40, kSmall = -24;
  const auto direction = [&](double exponent) {
    return follow(rule_, gaussian(std::exp2(exponent)), stage_.block()).direction.to(at::kDouble);
  };
  const at::Tensor large = direction(kLarge), larger = direction(kLarger), small = direction(kSmall);
  const double measured = std::log2((larger.norm() / large.norm()).item<double>()) / (kLarger - kLarge);
  const double degree = subject_.degree.value_or(measured);
  const at::Tensor errors = at::stack({relative_errors(larger * std::exp2(degree * (kLarge - kLarger)), large, 2),
                                       relative_errors(direction(0) * std::exp2(degree * kLarge), large, 2),
                                       relative_errors(small * std::exp2(degree * (kLarge - kSmall)), large, 2)});
  Tally tally;
  // Where an absolute constant is declared, what it does to small gradients is told and not judged.
  tally.add(subject_.scale_free ? errors : errors.narrow(0, 0, 1), floor_[0], [&](std::int64_t i) {
    return fmt::format("{}, gaussian times 2^{}", stage_.name,
                       std::array{kLarger, 0.0, kSmall}[static_cast<std::size_t>(i)]);
  });
  std::string note = fmt::format("degree {:.3g}", std::round(measured * 1e6) / 1e6 + 0.0);
  const double at_small = errors[2].item<double>();
  if (at_small > kDecidingFloor) note += fmt::format(", {:.2g} off at norm 6e-7", at_small);
  return finding("scale", subject_.degree.has_value() || subject_.scale_free, tally, 1, std::move(note));
}

Finding Probe::transpose() const {
  Tally tally;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& gradient : stage_.gradients) gradients.push_back(gradient.mT().contiguous());
  const Trajectory run = follow(rule_, gradients, stage_.block());  // the block is the same: fans come from its meaning
  tally.add(relative_errors(run.direction.mT(), plain_.direction, 2),
            at::maximum(floor_, floor_of(gradients, run.direction, "transpose")), [&](std::int64_t i) { return place(i); });
  const Symmetry symmetry = claim_of(subject_);
  const bool claimed = symmetry.rows == symmetry.columns && symmetry.rows != Group::identity && !symmetry.shift;
  return finding("transpose", claimed, tally, 1);
}

Finding Probe::fans() const {
  const auto log_size = [&](std::int64_t fan_out, std::int64_t fan_in) {
    const Trajectory run = follow(rule_, gaussian(), {fan_out, fan_in});
    return std::log2(run.direction.to(at::kDouble).norm().item<double>());
  };
  const double base = log_size(256, 4), out = (log_size(1024, 4) - base) / 2, in = (log_size(256, 16) - base) / 2;
  const auto claimed = subject_.fan_exponents.value_or(std::array{0.0, 0.0});
  const double error = std::exp2(std::abs(out - claimed[0]) + std::abs(in - claimed[1])) - 1;
  Tally tally;
  // NaN: a direction of size 0, or of none, grows by no law.
  tally.add(at::full({}, std::isnan(error) ? std::numeric_limits<double>::infinity() : error, at::kDouble), floor_[0],
            [&](std::int64_t) { return fmt::format("{}, gaussian, fans 256, 4", stage_.name); });
  const auto shown = [](double x) { return std::round(x * 1e3) / 1e3 + 0.0; };
  return finding("fans", subject_.fan_exponents.has_value(), tally, 1,
                 fmt::format("fan_out^{:.3g} fan_in^{:.3g}", shown(out), shown(in)));
}

}  // namespace

std::vector<Finding> audit_properties(const AuditSubject& subject, const Stage& stage) {
  const Probe probe(subject, stage);
  return {probe.batch(), probe.state(), probe.repeat(), probe.scale(), probe.transpose(), probe.fans()};
}

}  // namespace equisweep
