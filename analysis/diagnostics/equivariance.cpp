// m x n a block.
#include "analysis/diagnostics/equivariance.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "analysis/audit/audit.h"
#include "analysis/audit/statistic.h"
#include "analysis/diagnostics/shadow.h"
#include "core/rng.h"

namespace equisweep {
namespace {

struct GroupChoice {
  std::string name;
  Group rows = Group::identity, columns = Group::identity;
};

GroupChoice choice_of(const std::string& name, const Symmetry& symmetry) {
  if (name == "claimed")
    return {to_string(Symmetry{symmetry.rows, symmetry.columns, false}), symmetry.rows, symmetry.columns};
  const bool rows = name.starts_with("rows.");
  const std::string group = name.substr(name.find('.') + 1);
  Group which = Group::identity;
  for (const Group candidate : {Group::permutation, Group::signed_permutation, Group::orthogonal})
    if (name_of(candidate) == group) which = candidate;
  TORCH_CHECK(which != Group::identity, "unknown group ", name);
  return rows ? GroupChoice{name, which, Group::identity} : GroupChoice{name, Group::identity, which};
}

/// ||1^T X|| / (sqrt(m) ||X||) over all matrices of x.
at::Tensor common_part(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kDouble);
  return at::linalg_vector_norm(wide.sum(-2)) / (at::linalg_vector_norm(wide) * std::sqrt(static_cast<double>(x.size(-2))));
}

class Equivariance final : public Diagnostic {
 public:
  using Clock = std::chrono::steady_clock;

  Equivariance(const nlohmann::json& options, DiagnosticContext context)
      : Diagnostic(options.at("every").get<std::int64_t>()),
        context_(std::move(context)),
        every_(options.at("every").get<std::int64_t>()),
        window_(options.at("gradients").get<std::int64_t>()),
        groups_(options.at("groups").get<std::vector<std::string>>()),
        precision_(options.at("precision").get<std::string>()) {
    if (window_ == 0 || window_ > every_) window_ = every_;
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
    return !candidates_.empty() && (every_ - step % every_) % every_ < window_;
  }

  void observe(const BankStep& bank) override {
    const auto start = Clock::now();
    const at::NoGradGuard no_grad;
    const std::int64_t interval = (bank.step + every_ - 1) / every_;
    if (interval != interval_) {
      interval_ = interval;
      shadow_.reset();
      seconds_ = 0;
    }
    const std::string& target =
        candidates_[static_cast<std::size_t>((interval - 1) % static_cast<std::int64_t>(candidates_.size()))];
    const auto found =
        std::find_if(bank.params.begin(), bank.params.end(), [&](const Param* param) { return param->name == target; });
    if (found != bank.params.end()) follow(bank, found - bank.params.begin());
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
    if (found != bank.params.end() && bank.step % every_ == 0) share_out_seconds();
  }

  void flush() override {
    for (Pending& p : std::exchange(pending_, {})) {
      const at::Tensor values = p.values.to(at::kCPU, at::kDouble).contiguous();
      const double* const v = values.const_data_ptr<double>();
      Tally tally;
      tally.add(values.narrow(0, 0, 1), values.narrow(0, 1, 1), [](std::int64_t) { return std::string(); });
      p.row.error = v[0];
      p.row.floor = v[1];
      p.row.ratio = v[0] == 0 ? 0 : v[0] / v[1];
      p.row.horizontality = v[2];
      p.row.removed = v[3];
      if (p.has_shift) p.row.shift = v[4];
      p.row.verdict = name_of(tally.judge(1).verdict);
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

  /// The k-th weight of the bank is the one in turn.
  void follow(const BankStep& bank, std::int64_t k) {
    const Param& param = *bank.params[static_cast<std::size_t>(k)];
    const at::Tensor gradient = bank.gradient[k].to(dtype_of(bank.gradient));
    if (!shadow_) shadow_.emplace(begin(bank, param, gradient));
    shadow_->receive(bank.rule, gradient);
    if (bank.step % every_ == 0) audit(bank, k);
  }

  /// The seed of an audit is that of its last step, so that it does not matter where the window begins.
  Shadow begin(const BankStep& bank, const Param& param, const at::Tensor& gradient) const {
    const Symmetry symmetry = bank.rule.symmetry();
    const auto inner = context_.inner_roundoff.find(param.name);
    const std::uint64_t seed =
        derive_seed(derive_seed(static_cast<std::uint64_t>(interval_ * every_), "equivariance"), param.name);
    Shadow::Options options{
        .block = {bank.view.fan_out, bank.view.fan_in},
        .elements = {},
        .with_shift = symmetry.shift || param.role == Role::lm_head || param.role == Role::router,
        .u = std::max(unit_roundoff(gradient.scalar_type()), inner == context_.inner_roundoff.end() ? 0 : inner->second),
        .seed = seed};
    for (const std::string& name : groups_) {
      const GroupChoice g = choice_of(name, symmetry);
      options.elements.emplace_back(g.rows, g.columns, gradient, derive_seed(seed, name));
    }
    return Shadow(std::move(options));
  }

  void audit(const BankStep& bank, std::int64_t k) {
    flush();  // of the audit before: an interval ago
    const Symmetry symmetry = bank.rule.symmetry();
    const Shadow::Result found = shadow_->judge();
    const at::Tensor horizontality = common_part(bank.direction[k]), removed = common_part(bank.gradient[k]);
    const at::Tensor shift = found.shift.defined() ? found.shift : at::zeros_like(removed);
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      const GroupChoice g = choice_of(groups_[i], symmetry);
      EquivarianceRow row;
      row.step = bank.step;
      row.block = context_.blocks.at(bank.params[static_cast<std::size_t>(k)]->name);
      row.group = g.name;
      row.precision = precision_;
      row.claimed = symmetry.rows >= g.rows && symmetry.columns >= g.columns;
      row.gradients = shadow_->gradients();
      pending_.push_back(
          {row, at::stack({found.error[i], found.floor[i], horizontality, removed, shift}), found.shift.defined()});
    }
    shadow_.reset();
  }

  /// The rows of this audit bear what the interval has cost.
  void share_out_seconds() {
    for (Pending& p : pending_) p.row.seconds = seconds_ / static_cast<double>(groups_.size());
  }

  DiagnosticContext context_;
  std::int64_t every_, window_;
  std::vector<std::string> groups_;
  std::string precision_;
  std::vector<std::string> candidates_;  // names of weights, in the order of their numbers
  std::int64_t interval_ = 0;            // the current one, from 1
  std::optional<Shadow> shadow_;         // of the block in turn, from the first step of the window
  double seconds_ = 0;                   // spent in this interval
  std::vector<Pending> pending_;
};

}  // namespace

std::unique_ptr<Diagnostic> make_equivariance_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Equivariance>(options, std::move(context));
}

}  // namespace equisweep
