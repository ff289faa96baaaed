// H query heads, G key/value heads, h width of a head, r neurons.
#include "analysis/audit/model_breaks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "analysis/audit/groups.h"
#include "core/rng.h"

namespace equisweep {
namespace {

using nlohmann::json;

double norm_of_all(const Weights64& a, const Weights64& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]).square().sum().item<double>();
  return std::sqrt(sum);
}

class Demonstration {
 public:
  Demonstration(const AuditedModel& model, const std::vector<ModelSubject>& subjects, const ModelAuditOptions& options)
      : model_(model), options_(options), seed_(derive_seed(options.seed, "breaks")) {
    for (const ModelSubject& subject : subjects) {
      if (subject.name == "sgd") sgd_ = &subject;
      if (subject.name == "adamw") adamw_ = &subject;
    }
    if (sgd_ == nullptr || adamw_ == nullptr) throw std::invalid_argument("the audit of models needs sgd and adamw");
  }

  std::vector<ModelBreak> run() {
    shifts();
    experts();
    neurons();
    attention();
    residual();
    return std::move(breaks_);
  }

 private:
  ClosedLoop loop(const json& overrides = json::object()) const {
    return ClosedLoop(model_, overrides, options_.steps, derive_seed(options_.seed, model_.name), options_.device);
  }
  ModelElement draw(std::string_view action, const ModelShape& shape) const {
    const auto g = model_action(action).draw(shape, derive_seed(seed_, action));
    TORCH_CHECK(g, "this model has no action ", action);
    return *g;
  }

  void changes_loss(std::string_view action, std::string condition, ClosedLoop& with, const ModelElement& g,
                    const LoopMode& mode = {}, Weights64 weights = {}) {
    if (weights.empty()) weights = with.first();
    const double before = with.loss(weights, {}, mode), after = with.loss(with.moved(g, weights), g, mode);
    record(action, std::move(condition), false, std::abs(after - before) / std::abs(before));
  }

  void parts_runs(std::string_view action, std::string condition, ClosedLoop& with, const ModelElement& g,
                  const ModelSubject& subject, const LoopMode& mode = {}) {
    TORCH_CHECK(std::abs(with.loss(with.moved(g, with.first()), g, mode) - with.loss(with.first(), {}, mode)) < 1e-10,
                "action ", action, " changes the loss of ", model_.name, " before training");
    const std::vector<double> lrs = with.learning_rates(subject, mode);
    const Weights64 plain = with.train(subject, with.first(), {}, mode, lrs);
    const Weights64 moved = with.train(subject, with.moved(g, with.first()), g, mode, lrs);
    record(action, std::move(condition), true, norm_of_all(moved, with.moved(g, plain)) / norm_of_all(plain, with.first()));
  }

  void record(std::string_view action, std::string condition, bool in_training, double change) {
    breaks_.push_back({model_.name, std::string(action), std::move(condition), in_training, change, change > kBreakError});
  }

  void shifts() {
    ClosedLoop plain = loop();
    const ModelElement head = draw("head_shift", plain.shape());
    changes_loss("head_shift", "z-loss on the LM head", plain, head, {.head_z_loss = 1e-2});
    if (model_.fields.contains("softcap")) {
      ClosedLoop capped = loop({{"softcap", 5.0}});
      changes_loss("head_shift", "softcap", capped, head);
    }
    if (model_.fields.contains("tied")) {
      ClosedLoop tied = loop({{"tied", true}});
      ModelElement g;
      g.shift[Role::embedding] = head.shift.at(Role::lm_head);
      changes_loss("head_shift", "tied embedding", tied, g);
    }
    if (plain.shape().experts > 0)
      changes_loss("router_shift", "router z-loss", plain, draw("router_shift", plain.shape()), {.router_z_loss = 1e-2});
  }

  void experts() {
    ClosedLoop plain = loop();
    if (plain.shape().experts == 0) return;
    // Equal logits for all experts: which are chosen depends on their numbers.
    Weights64 ties = plain.first();
    for (std::size_t i = 0; i < ties.size(); ++i) {
      const Param& param = plain.params()[i];
      if (param.role == Role::router || param.name.ends_with("router.bias")) ties[i] = at::zeros_like(ties[i]);
    }
    // Reversed, so that no choice of the first experts is the same by chance.
    ModelElement g;
    for (std::int64_t layer = 0; layer < plain.shape().layers; ++layer)
      g.on[{layer, Space::expert}] = {at::eye(plain.shape().experts, at::kDouble).flip(0).contiguous(), Group::permutation};
    changes_loss("experts", "ties in top-k", plain, g, {}, ties);
  }

  void neurons() {
    ClosedLoop plain = loop();
    if (plain.shape().experts > 0) {
      // gate and up in the order of the other layout: pairs are torn apart.
      ModelElement g = draw("neurons", plain.shape());
      for (std::int64_t layer = 0; layer < plain.shape().layers; ++layer) {
        const at::Tensor p = g.on.at({layer, Space::neuron}).matrix;
        std::vector<at::Tensor> wrong;
        for (std::int64_t e = 0; e < p.size(0); ++e)
          wrong.push_back(plain.shape().interleaved ? repeated(p[e], 2) : widened(p[e], 2));
        g.on[{layer, Space::gate_up}] = {at::stack(wrong), Group::permutation};
      }
      changes_loss("neurons", "a wrong pair layout", plain, g);
    }
    if (plain.shape().up_offset) {
      ModelShape without = plain.shape();
      without.up_offset = false;
      changes_loss("up_signs", "up + 1", plain, draw("up_signs", without));
      changes_loss("up_scale", "up + 1", plain, draw("up_scale", without));
    }
  }

  void attention() {
    ClosedLoop plain = loop();
    const ModelShape& s = plain.shape();
    if (s.kv_heads > 1 && s.kv_heads < s.heads) {
      // The first query heads of two groups change places, without their keys and values.
      at::Tensor order = at::eye(s.heads, at::kDouble);
      const std::int64_t other = s.heads / s.kv_heads;
      order[0][0] = order[other][other] = 0;
      order[0][other] = order[other][0] = 1;
      ModelElement g;
      for (std::int64_t layer = 0; layer < s.layers; ++layer) {
        for (const Space space : {Space::query, Space::output})
          g.on[{layer, space}] = {widened(order, s.head_dim), Group::permutation, true};
        g.on[{layer, Space::head}] = {order, Group::permutation};
      }
      changes_loss("heads", "query heads across groups", plain, g);
    }
    if (model_.fields.contains("bias")) {
      ClosedLoop biased = loop({{"bias", true}});
      ModelElement g = draw("value_rotation", biased.shape());
      g.left_out = "v_proj.bias";
      changes_loss("value_rotation", "the bias of v does not rotate along", biased, g);
    }
    const bool has_qk_norm = std::any_of(plain.params().begin(), plain.params().end(),
                                         [](const Param& p) { return p.name.ends_with("q_norm.weight"); });
    if (has_qk_norm) parts_runs("torus", "trained gains of QK-norm", plain, draw("torus", s), *sgd_);
  }

  void residual() {
    ClosedLoop plain = loop();
    const ModelElement g = draw("residual", plain.shape());
    parts_runs("residual", "trained gains of RMSNorm", plain, g, *sgd_);
    const bool has_bias = std::any_of(plain.params().begin(), plain.params().end(),
                                      [](const Param& p) { return p.name.ends_with("o_proj.bias"); });
    if (!has_bias) return;
    ModelSubject mixed = *sgd_;
    mixed.name = "sgd, biases by adamw";
    mixed.uses[Role::vector] = adamw_->uses.at(Role::vector);
    parts_runs("residual", "biases by adamw", plain, g, mixed, {.frozen_gains = true});
  }

  const AuditedModel& model_;
  const ModelAuditOptions& options_;
  std::uint64_t seed_;
  const ModelSubject *sgd_ = nullptr, *adamw_ = nullptr;
  std::vector<ModelBreak> breaks_;
};

}  // namespace

std::vector<ModelBreak> demonstrate_breaks(const AuditedModel& model, const std::vector<ModelSubject>& subjects,
                                           const ModelAuditOptions& options) {
  return Demonstration(model, subjects, options).run();
}

}  // namespace equisweep
