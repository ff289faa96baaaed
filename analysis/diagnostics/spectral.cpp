// Shapes: K weights of a bank, each of one or more matrices [..., m, n].
#include "analysis/diagnostics/spectral.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "analysis/diagnostics/power_iteration.h"

namespace equisweep {
namespace {

// A vector is one matrix of one row.
at::Tensor as_matrices(const at::Tensor& blocks) {
  at::Tensor x = blocks.detach();
  if (x.dim() == 1) x = x.unsqueeze(-1);
  if (x.dim() == 2) x = x.unsqueeze(1);
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

// Largest over the matrices of each weight, [K, ...] -> [K]; NaN wins, so that it is seen.
at::Tensor worst(const at::Tensor& per_matrix) { return per_matrix.reshape({per_matrix.size(0), -1}).amax(-1); }

class Spectral final : public Diagnostic {
 public:
  Spectral(std::int64_t every, DiagnosticContext context) : Diagnostic(every), context_(std::move(context)) {}

  void observe(const BankStep& bank) override {
    const at::NoGradGuard no_grad;
    if (!pending_.empty() && pending_.front().step != bank.step) flush();

    const at::Tensor weight = as_matrices(bank.weight), direction = as_matrices(bank.direction);
    const at::Tensor both = at::stack({weight, direction});  // [2, K, ..., m, n]: one batch
    auto [entry, is_new] = iterations_.try_emplace(bank.params.front()->name, iterations_.size());

    Pending row{.step = bank.step, .lr = bank.lr, .blocks = {}, .projections = entry->second.measure(both), .norms = {}};
    row.norms = at::cat({at::linalg_vector_norm(both, 2, at::IntArrayRef({-2, -1})),
                         at::linalg_vector_norm(as_matrices(bank.gradient), 2, at::IntArrayRef({-2, -1})).unsqueeze(0)});
    for (const Param* param : bank.params) {
      const auto found = context_.blocks.find(param->name);
      row.blocks.push_back(found == context_.blocks.end() ? -1 : found->second);
    }
    pending_.push_back(std::move(row));
  }

  void flush() override {
    for (const Pending& row : std::exchange(pending_, {})) write(row);
  }

 private:
  struct Pending {
    std::int64_t step;
    double lr;
    std::vector<std::int64_t> blocks;
    at::Tensor projections;  // [2, K, ..., p, p] of W and U
    at::Tensor norms;        // [3, K, ...] Frobenius, of W, U and G
  };

  void write(const Pending& row) {
    const double size = std::abs(row.lr);
    const at::Tensor top = spectral_norms(row.projections);
    const at::Tensor frobenius = row.norms.to(at::kCPU, at::kDouble);
    const at::Tensor columns = at::stack({worst(top[0]), worst((frobenius[0] / top[0]).square()), worst(top[1]) * size,
                                          worst(frobenius[1] * size / frobenius[0]), worst(frobenius[2])})
                                   .contiguous();
    const auto value = columns.accessor<double, 2>();
    for (std::size_t i = 0; i < row.blocks.size(); ++i) {
      if (row.blocks[i] < 0) continue;
      const auto k = static_cast<std::int64_t>(i);
      context_.store.add(BlockStatsRow{.step = row.step,
                                       .block = row.blocks[i],
                                       .spectral_norm = value[0][k],
                                       .stable_rank = value[1][k],
                                       .update_spectral_norm = value[2][k],
                                       .update_to_weight = value[3][k],
                                       .gradient_norm = value[4][k],
                                       .lr = row.lr});
    }
  }

  DiagnosticContext context_;
  std::map<std::string, PowerIteration> iterations_;  // by the first weight of a bank
  std::vector<Pending> pending_;
};

}  // namespace

std::unique_ptr<Diagnostic> make_spectral_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Spectral>(options.at("every").get<std::int64_t>(), std::move(context));
}

}  // namespace equisweep
