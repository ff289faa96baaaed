// Shapes: N tokens of the sample, D width, V vocabulary.
#include "analysis/diagnostics/logits.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace equisweep {
namespace {

at::Tensor at_least_float(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

class Logits final : public Diagnostic {
 public:
  Logits(std::int64_t every, std::int64_t tokens, DiagnosticContext context)
      : Diagnostic(every), tokens_(tokens), context_(std::move(context)) {}

  void observe_forward(std::int64_t, const Forward& forward) override {
    const at::NoGradGuard no_grad;
    const at::Tensor hidden = forward.hidden_BTD.detach().flatten(0, -2);
    const std::int64_t stride = std::max<std::int64_t>(1, hidden.size(0) / tokens_);
    sample_ND_ = at_least_float(hidden.slice(0, 0, stride * tokens_, stride)).clone();
  }

  void observe(const BankStep& bank) override {
    if (!sample_ND_.defined()) return;
    for (std::size_t i = 0; i < bank.params.size(); ++i) {
      const Role role = bank.params[i]->role;
      // Where there is no LM head, the embedding is one; in the first step its bank may come before that of the head.
      if (role != Role::lm_head && (role != Role::embedding || has_head_)) continue;
      has_head_ = role == Role::lm_head;
      measure(bank, static_cast<std::int64_t>(i));
    }
  }

  void flush() override {
    if (!pending_.defined()) return;
    const at::Tensor values = std::exchange(pending_, {}).to(at::kCPU, at::kDouble);
    const auto value = values.accessor<double, 1>();
    context_.store.add(LogitStatsRow{.step = step_,
                                     .logit_mean = value[0],
                                     .logit_std = value[1],
                                     .logit_max = value[2],
                                     .logsumexp = value[3],
                                     .shift_share = value[4],
                                     .growth = std::abs(lr_) * value[5]});
  }

 private:
  void measure(const BankStep& bank, std::int64_t index) {
    const at::NoGradGuard no_grad;
    if (pending_.defined() && step_ != bank.step) flush();
    const at::Tensor w_VD = at_least_float(bank.weight[index].detach()), u_VD = at_least_float(bank.direction[index]);
    const at::Tensor z_NV = at::matmul(sample_ND_, w_VD.mT());
    const at::Tensor mean_N = z_NV.mean(-1);
    const double root = std::sqrt(static_cast<double>(z_NV.size(1)));
    const at::Tensor share = (mean_N.abs() * root / at::linalg_vector_norm(z_NV, 2, at::IntArrayRef{-1})).mean();
    pending_ = at::stack({z_NV.mean(), z_NV.std(/*unbiased=*/false), z_NV.amax(), z_NV.logsumexp(-1).mean(), share,
                          at::matmul(sample_ND_, u_VD.mT()).abs().amax()});
    step_ = bank.step;
    lr_ = bank.lr;
  }

  std::int64_t tokens_;
  DiagnosticContext context_;
  bool has_head_ = false;
  at::Tensor sample_ND_, pending_;
  std::int64_t step_ = 0;
  double lr_ = 0;
};

}  // namespace

std::unique_ptr<Diagnostic> make_logit_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Logits>(options.at("every").get<std::int64_t>(), options.at("tokens").get<std::int64_t>(),
                                  std::move(context));
}

}  // namespace equisweep
