// T gradients of a window, m x n a block.
#include "analysis/diagnostics/equivariance.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <utility>
#include <vector>

#include "analysis/audit/audit.h"
#include "analysis/audit/follow.h"
#include "analysis/audit/statistic.h"
#include "core/rng.h"

namespace equisweep {
namespace {

/// Numbers in [-1, 1] without a pattern, made where they are needed: no generator of the host, no transfer.
at::Tensor scattered(at::IntArrayRef shape, const at::TensorOptions& options, std::uint64_t seed) {
  const double phase = SplitMix64(seed).uniform() * 2 * std::numbers::pi;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  // Angles that grow with the square of the index do not repeat: cos(a i^2 + phase).
  const at::Tensor i = at::arange(count, options.dtype(at::kDouble));
  return (i.square().mul_(std::numbers::phi).remainder_(2 * std::numbers::pi).add_(phase)).cos_().view(shape);
}

at::Tensor permutation_of(std::int64_t n, const at::Device& device, std::uint64_t seed) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  SplitMix64 random(seed);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return at::tensor(order, at::kLong).to(device);
}

/// Pairs of neighbours along the last axis rotated; the last of an odd number stays.
at::Tensor rotate_pairs(const at::Tensor& x, std::uint64_t seed) {
  const std::int64_t pairs = x.size(-1) / 2;
  if (pairs == 0) return x;
  std::vector<double> angles;
  SplitMix64 random(seed);
  for (std::int64_t i = 0; i < pairs; ++i) angles.push_back(2 * std::numbers::pi * random.uniform());
  const at::Tensor angle = at::tensor(angles, at::kDouble).to(x.device());
  const at::Tensor c = angle.cos(), s = angle.sin();
  const at::Tensor a = x.narrow(-1, 0, pairs), b = x.narrow(-1, pairs, pairs);
  std::vector<at::Tensor> parts = {a * c - b * s, a * s + b * c};
  if (x.size(-1) % 2 == 1) parts.push_back(x.narrow(-1, 2 * pairs, 1));
  return at::cat(parts, -1);
}

struct GroupChoice {
  std::string name;
  Group rows = Group::identity, columns = Group::identity;
};

GroupChoice choice_of(const std::string& name, const Symmetry& symmetry) {
  if (name == "claimed") return {name, symmetry.rows, symmetry.columns};
  const bool rows = name.starts_with("rows.");
  const std::string group = name.substr(name.find('.') + 1);
  Group which = Group::identity;
  for (const Group candidate : {Group::permutation, Group::signed_permutation, Group::orthogonal})
    if (name_of(candidate) == group) which = candidate;
  TORCH_CHECK(which != Group::identity, "unknown group ", name);
  return rows ? GroupChoice{name, which, Group::identity} : GroupChoice{name, Group::identity, which};
}

at::Tensor act_on_block(const GroupChoice& g, const at::Tensor& x, std::uint64_t seed) {
  return act_along(g.columns, act_along(g.rows, x, -2, derive_seed(seed, "rows")), -1, derive_seed(seed, "features"));
}

at::Tensor frobenius(const at::Tensor& x) { return at::linalg_vector_norm(x.to(at::kDouble)); }

/// ||1^T X|| / (sqrt(m) ||X||) over all matrices of x.
at::Tensor common_part(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kDouble);
  return at::linalg_vector_norm(wide.sum(-2)) / (frobenius(wide) * std::sqrt(static_cast<double>(x.size(-2))));
}

class Equivariance final : public Diagnostic {
 public:
  using Clock = std::chrono::steady_clock;

  Equivariance(const nlohmann::json& options, DiagnosticContext context)
      : Diagnostic(options.at("every").get<std::int64_t>()),
        context_(std::move(context)),
        every_(options.at("every").get<std::int64_t>()),
        groups_(options.at("groups").get<std::vector<std::string>>()),
        precision_(options.at("precision").get<std::string>()) {
    const auto roles = options.at("blocks").get<std::vector<std::string>>();
    std::vector<std::pair<std::int64_t, std::string>> wanted;
    for (const auto& [name, block] : context_.blocks) {
      const auto role = context_.roles.find(name);
      if (role == context_.roles.end() || role->second == Role::vector) continue;
      const std::string_view text = name_of(role->second);
      if (roles.empty() || std::find(roles.begin(), roles.end(), text) != roles.end()) wanted.emplace_back(block, name);
    }
    std::sort(wanted.begin(), wanted.end());
    for (auto& [block, name] : wanted) candidates_.push_back(std::move(name));
  }

  /// The steps of a window, which ends at each multiple of the pace.
  bool wants(std::int64_t step) const override {
    return !candidates_.empty() && (every_ - step % every_) % every_ < kAuditWindow;
  }

  void observe(const BankStep& bank) override {
    const auto start = Clock::now();
    const at::NoGradGuard no_grad;
    const std::int64_t interval = (bank.step + every_ - 1) / every_;
    if (interval != interval_) {
      interval_ = interval;
      gradients_.clear();
      seconds_ = 0;
    }
    const std::string& target =
        candidates_[static_cast<std::size_t>((interval - 1) % static_cast<std::int64_t>(candidates_.size()))];
    for (std::size_t i = 0; i < bank.params.size(); ++i) {
      if (bank.params[i]->name != target) continue;
      const auto k = static_cast<std::int64_t>(i);
      gradients_.push_back(bank.gradient[k].to(dtype_of(bank.gradient)).clone());
      if (bank.step % every_ == 0) audit(bank, k, start);
    }
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  void flush() override {
    for (Pending& p : std::exchange(pending_, {})) {
      const at::Tensor values = p.values.to(at::kCPU, at::kDouble).contiguous();
      const double* const v = values.const_data_ptr<double>();
      Tally tally;
      tally.add(values.narrow(0, 0, 1), values.narrow(0, 1, 1), [](std::int64_t) { return std::string(); });
      const Cell cell = tally.judge(1);
      p.row.error = v[0];
      p.row.floor = v[1];
      p.row.ratio = v[0] == 0 ? 0 : v[0] / v[1];
      p.row.horizontality = v[2];
      p.row.removed = v[3];
      if (p.has_shift) p.row.shift = v[4];
      p.row.verdict = name_of(cell.verdict);
      context_.store.add(p.row);
    }
  }

 private:
  struct Pending {
    EquivarianceRow row;
    at::Tensor values;  // error, floor, horizontality, removed, shift
    bool has_shift;
  };

  at::ScalarType dtype_of(const at::Tensor& gradient) const {
    return precision_ == "run" ? at::promote_types(gradient.scalar_type(), at::kFloat) : precision_from_name(precision_);
  }

  void audit(const BankStep& bank, std::int64_t k, Clock::time_point start) {
    flush();  // of the audit before: an interval ago
    const UpdateRule& rule = bank.rule;
    const Param& param = *bank.params[static_cast<std::size_t>(k)];
    const BlockInfo block{bank.view.fan_out, bank.view.fan_in};
    const std::int64_t number = context_.blocks.at(param.name);
    const auto inner = context_.inner_roundoff.find(param.name);
    const double u =
        std::max(unit_roundoff(gradients_[0].scalar_type()), inner == context_.inner_roundoff.end() ? 0 : inner->second);
    const std::uint64_t seed = derive_seed(derive_seed(static_cast<std::uint64_t>(bank.step), "equivariance"), param.name);

    const at::Tensor plain = follow(rule, gradients_, block).direction;
    const at::Tensor size = frobenius(plain);
    const auto difference = [&](const at::Tensor& a, const at::Tensor& b) {
      return frobenius(a.to(at::kDouble) - b.to(at::kDouble)) / size;
    };
    const auto perturbed = [&](const std::vector<at::Tensor>& gradients, std::uint64_t own) {
      std::vector<at::Tensor> result;
      for (std::size_t t = 0; t < gradients.size(); ++t) {
        const at::Tensor r = scattered(gradients[t].sizes(), gradients[t].options(), derive_seed(own, "perturbation", t));
        const at::Tensor wide = gradients[t].to(at::kDouble);
        // A bf16 gradient perturbed by less than half a step would be rounded back to itself.
        result.push_back((wide + wide * r.mul_(u)).to(at::promote_types(gradients[t].scalar_type(), at::kFloat)));
      }
      return result;
    };
    at::Tensor floor = at::full({}, u / 2, plain.options().dtype(at::kDouble));
    const auto draw = [&](const std::vector<at::Tensor>& gradients, const at::Tensor& direction, std::uint64_t own) {
      floor = at::maximum(floor, difference(follow(rule, perturbed(gradients, own), block).direction, direction));
    };
    for (const std::uint64_t i : {0, 1}) draw(gradients_, plain, derive_seed(seed, "floor", i));
    const at::Tensor own_floor = floor;

    const Symmetry symmetry = rule.symmetry();
    const bool has_shift = symmetry.shift || param.role == Role::lm_head || param.role == Role::router;
    at::Tensor shift = at::zeros({}, plain.options().dtype(at::kDouble));
    if (has_shift) {
      std::vector<at::Tensor> shifted;
      for (std::size_t t = 0; t < gradients_.size(); ++t) {
        const at::Tensor g = gradients_[t].to(at::kDouble);
        const at::Tensor c = scattered({g.size(-1)}, g.options(), derive_seed(seed, "shift", t));
        shifted.push_back((g + c * g.square().mean().sqrt() * std::numbers::sqrt2).to(gradients_[t].scalar_type()));
      }
      shift = difference(follow(rule, shifted, block).direction, plain);
    }
    const at::Tensor horizontality = common_part(bank.direction[k]), removed = common_part(bank.gradient[k]);

    const std::size_t first = pending_.size();
    for (const std::string& name : groups_) {
      const GroupChoice g = choice_of(name, symmetry);
      const std::uint64_t own = derive_seed(seed, name);
      std::vector<at::Tensor> moved;
      for (const at::Tensor& gradient : gradients_) moved.push_back(act_on_block(g, gradient, own));
      const at::Tensor direction = follow(rule, moved, block).direction;
      const at::Tensor error = difference(direction, act_on_block(g, plain.to(at::kDouble), own));
      floor = own_floor;
      draw(moved, direction, derive_seed(seed, "moved floor"));
      EquivarianceRow row;
      row.step = bank.step;
      row.block = number;
      row.group = name == "claimed" ? to_string(Symmetry{symmetry.rows, symmetry.columns, false}) : name;
      row.precision = precision_;
      row.claimed = symmetry.rows >= g.rows && symmetry.columns >= g.columns;
      row.gradients = static_cast<std::int64_t>(gradients_.size());
      pending_.push_back({row, at::stack({error, floor, horizontality, removed, shift}), has_shift});
    }
    const double total = seconds_ + std::chrono::duration<double>(Clock::now() - start).count();
    for (std::size_t i = first; i < pending_.size(); ++i)
      pending_[i].row.seconds = total / static_cast<double>(groups_.size());
    gradients_.clear();
  }

  DiagnosticContext context_;
  std::int64_t every_;
  std::vector<std::string> groups_;
  std::string precision_;
  std::vector<std::string> candidates_;  // names of weights, in the order of their numbers
  std::int64_t interval_ = 0;            // the current one, from 1
  std::vector<at::Tensor> gradients_;    // of the block in turn, this window's
  double seconds_ = 0;                   // spent in this interval
  std::vector<Pending> pending_;
};

}  // namespace

at::Tensor act_along(Group group, const at::Tensor& x, std::int64_t axis, std::uint64_t seed) {
  if (group == Group::identity) return x;
  const std::int64_t n = x.size(axis);
  const at::Device device = x.device();
  at::Tensor y = x.index_select(axis, permutation_of(n, device, derive_seed(seed, "permutation")));
  if (group == Group::permutation) return y;
  const auto along = [&](const at::Tensor& vector) { return axis == -1 ? vector : vector.unsqueeze(-1); };
  if (group == Group::signed_permutation) {
    const at::Tensor signs = scattered({n}, x.options(), derive_seed(seed, "signs")).sign();
    return y * along(signs.to(x.scalar_type()));
  }
  y = y.to(at::kDouble).transpose(axis, -1);
  y = rotate_pairs(y, derive_seed(seed, "first"));
  y = y.index_select(-1, permutation_of(n, device, derive_seed(seed, "between")));
  y = rotate_pairs(y, derive_seed(seed, "second"));
  return y.transpose(axis, -1).contiguous().to(x.scalar_type());
}

std::unique_ptr<Diagnostic> make_equivariance_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Equivariance>(options, std::move(context));
}

}  // namespace equisweep
