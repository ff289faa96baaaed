#pragma once
// A small model trained for a few steps in fp64, from weights that a group element has moved or not.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "analysis/audit/model_action.h"
#include "core/language_model.h"
#include "core/update_rule.h"

namespace equisweep {

/// An architecture to be audited. The audit sets every weight itself and computes in fp64.
struct AuditedModel {
  std::string name;              ///< "qwen3"
  std::set<std::string> fields;  ///< what its configuration knows: "softcap", "tied", ...
  /// A small model with `overrides` laid over its configuration; weights unset.
  std::function<std::unique_ptr<LanguageModel>(const nlohmann::json& overrides)> make;
};

/// How the weights of a role are updated.
struct RuleUse {
  std::shared_ptr<const UpdateRule> rule;
  ViewKind view = ViewKind::natural;
  std::optional<Layout> layout = {};  ///< in place of the weight's own: what a wrong layout does
};

/// A rule on a whole model.
struct ModelSubject {
  std::string name;               ///< "row_norm"
  std::map<Role, RuleUse> uses;   ///< of every role
  bool interleaved_only = false;  ///< audited only where gate and up columns alternate
};

/// What is trained beside the cross entropy, and what is not.
struct LoopMode {
  bool frozen_gains = false;
  double head_z_loss = 0, router_z_loss = 0;  ///< weights of mean(logsumexp(logits)^2), of the LM head and of routers
  auto operator<=>(const LoopMode&) const = default;
};

using Weights64 = std::vector<at::Tensor>;  ///< in the order of LanguageModel::params()

/// One model, its first weights, and the text that it is trained on. Not safe to share between threads.
class ClosedLoop {
 public:
  /// `steps` updates on `device`; the weights that come in and go out are on the CPU. They are drawn so that activations are
  /// of order one; a pure function of `seed`.
  ClosedLoop(const AuditedModel& model, const nlohmann::json& overrides, std::int64_t steps, std::uint64_t seed,
             at::Device device = at::kCPU);

  const ModelShape& shape() const { return shape_; }
  std::span<Param> params() { return model_->params(); }
  const Weights64& first() const { return first_; }
  bool is_gain(std::size_t weight) const { return gain_[weight]; }

  /// g on all weights.
  Weights64 moved(const ModelElement& g, const Weights64& weights);

  /// The loss on the first batch with these weights, tokens renamed by g.
  double loss(const Weights64& weights, const ModelElement& g, const LoopMode& mode);

  /// Relative steps of all weights: lr ||U_1|| = kFirstStep ||W_0|| for each weight, from the untransformed run. A rule
  /// whose directions have other units is so judged at steps of the same size.
  std::vector<double> learning_rates(const ModelSubject& subject, const LoopMode& mode);

  /// W after all steps, from `start`. `noise_seed`: multiply every weight by 1 + u r before every step, r uniform in [-1,
  /// 1], u = 2^-53: what rounding alone does to a run.
  Weights64 train(const ModelSubject& subject, const Weights64& start, const ModelElement& g, const LoopMode& mode,
                  const std::vector<double>& lrs, std::optional<std::uint64_t> noise_seed = {});

  MatrixView view_of_use(const RuleUse& use, const Param& param) const;

 private:
  void set(const Weights64& weights);
  at::Tensor objective(std::int64_t step, const ModelElement& g, const LoopMode& mode) const;

  std::unique_ptr<LanguageModel> model_;
  at::Device device_;
  ModelShape shape_;
  std::int64_t steps_;
  Weights64 first_;
  std::vector<bool> gain_;
  at::Tensor tokens_;  ///< [steps, B, T + 1]
};

/// The size of a first step relative to its weight.
inline constexpr double kFirstStep = 0.02;

}  // namespace equisweep
