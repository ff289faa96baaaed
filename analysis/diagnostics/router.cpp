// Shapes: L layers, N tokens, E experts, K experts of a token.
#include "analysis/diagnostics/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace equisweep {
namespace {

class Router final : public Diagnostic {
 public:
  Router(std::int64_t every, DiagnosticContext context) : Diagnostic(every), context_(std::move(context)) {}

  void observe(const BankStep&) override {}

  void observe_forward(std::int64_t step, const Forward& forward) override {
    flush();
    const at::NoGradGuard no_grad;
    const auto K = context_.experts_per_token;
    if (forward.router_logits_NE.empty() || K == 0) return;
    std::vector<at::Tensor> counts, means;
    for (const at::Tensor& logits : forward.router_logits_NE) {
      const at::Tensor z_NE = logits.detach().to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
      const auto N = z_NE.size(0), E = z_NE.size(1);
      const auto [largest, chosen] = logits.detach().topk(std::min(K + 1, E), -1);
      const at::Tensor experts_NK = chosen.narrow(-1, 0, K), n_E = at::bincount(experts_NK.reshape({-1}), {}, E);
      const at::Tensor p_NE = z_NE.softmax(-1);
      const at::Tensor balance =
          (n_E.to(z_NE.scalar_type()) * p_NE.mean(0)).sum() * (static_cast<double>(E) / static_cast<double>(N));
      const at::Tensor margin_N = E > K ? (largest.select(-1, K - 1) - largest.select(-1, K)).to(z_NE.scalar_type())
                                        : at::full({1}, std::numeric_limits<double>::quiet_NaN(), z_NE.options());
      const at::Tensor weight_NK = p_NE.gather(-1, experts_NK);
      const at::Tensor dropped = (weight_NK.eq(0) | weight_NK.isfinite().logical_not()).to(z_NE.scalar_type()).mean();
      counts.push_back(n_E);
      means.push_back(
          at::stack({z_NE.logsumexp(-1).square().mean(), balance, at::linalg_vector_norm(z_NE, 2, -1).mean(), z_NE.mean(),
                     z_NE.std(/*unbiased=*/false), z_NE.amax(), margin_N.mean(), margin_N.amin(), dropped}));
    }
    step_ = step;
    counts_LE_ = at::stack(counts);
    means_LX_ = at::stack(means);
  }

  void flush() override {
    if (!counts_LE_.defined()) return;
    const at::Tensor counts = std::exchange(counts_LE_, {}).cpu(),
                     means = std::exchange(means_LX_, {}).to(at::kCPU, at::kDouble);
    const auto n = counts.accessor<std::int64_t, 2>();
    const auto mean = means.accessor<double, 2>();
    for (std::int64_t l = 0; l < counts.size(0); ++l) {
      RouterStatsRow row{.step = step_, .layer = l};
      const auto E = counts.size(1);
      double total = 0, squares = 0;
      for (std::int64_t e = 0; e < E; ++e) total += static_cast<double>(n[l][e]);
      for (std::int64_t e = 0; e < E; ++e) {
        context_.store.add(ExpertLoadRow{.step = step_, .layer = l, .expert = e, .tokens = n[l][e]});
        const double share = static_cast<double>(n[l][e]) / total, even = 1 / static_cast<double>(E);
        row.max_violation = std::max(e == 0 ? -1 : row.max_violation, share / even - 1);
        squares += (share - even) * (share - even);
        if (n[l][e] == 0) {
          row.dead_fraction += even;
        } else {
          row.load_entropy -= share * std::log(share);
        }
      }
      row.load_cv = std::sqrt(squares * static_cast<double>(E));
      row.load_entropy = E == 1 ? 1 : row.load_entropy / std::log(static_cast<double>(E));
      row.z_loss = mean[l][0];
      row.balance_loss = mean[l][1];
      row.logit_norm = mean[l][2];
      row.logit_mean = mean[l][3];
      row.logit_std = mean[l][4];
      row.logit_max = mean[l][5];
      row.margin = mean[l][6];
      row.margin_min = mean[l][7];
      row.dropped = mean[l][8];
      context_.store.add(row);
    }
  }

 private:
  DiagnosticContext context_;
  std::int64_t step_ = 0;
  at::Tensor counts_LE_, means_LX_;  // of the last measured step, on the device
};

}  // namespace

std::unique_ptr<Diagnostic> make_router_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Router>(options.at("every").get<std::int64_t>(), std::move(context));
}

}  // namespace equisweep
