// Shapes: Q quantities (weight, update, ...), K weights of a bank, B matrices of each, m x n.
#include "analysis/diagnostics/spectral.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "analysis/diagnostics/power_iteration.h"

namespace equisweep {
namespace {

// [K, ..., m, n] -> [K, B, m, n]; a vector is one matrix of one row.
at::Tensor as_matrices(const at::Tensor& blocks) {
  at::Tensor x = blocks.detach();
  if (x.dim() == 1) x = x.unsqueeze(-1);
  if (x.dim() == 2) x = x.unsqueeze(1);
  if (x.dim() == 3) x = x.unsqueeze(1);
  if (x.dim() > 4) x = x.flatten(1, -3);
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

// Largest and least over the matrices of each weight, [K, B] -> [K]; NaN wins, so that it is seen.
at::Tensor largest(const at::Tensor& per_matrix) { return per_matrix.amax(-1); }
at::Tensor least(const at::Tensor& per_matrix) { return per_matrix.amin(-1); }

struct Singular {
  double norm = 0, nuclear = 0, effective_rank = 0;
};

/// From x [m, n] on the CPU in double.
Singular singular_values(const at::Tensor& x) {
  const at::Tensor gram = x.size(0) < x.size(1) ? at::matmul(x, x.mT()) : at::matmul(x.mT(), x);
  if (!gram.isfinite().all().item<bool>()) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, nan};
  }
  const at::Tensor s = at::linalg_eigvalsh(gram).clamp_min_(0).sqrt_();
  const at::Tensor p = s / s.sum();
  return {s.amax().item<double>(), s.sum().item<double>(), std::exp(-at::special_xlogy(p, p).sum().item<double>())};
}

class Spectral final : public Diagnostic {
 public:
  Spectral(const nlohmann::json& options, DiagnosticContext context)
      : Diagnostic(options.at("every").get<std::int64_t>()),
        context_(std::move(context)),
        every_(options.at("every").get<std::int64_t>()),
        of_(options.at("of").get<std::vector<std::string>>()),
        exact_every_(options.at("exact_every").get<std::int64_t>()),
        exact_all_(options.at("exact_all").get<bool>()) {
    for (const std::string& quantity : of_)
      if (quantity == "gradient" || quantity == "momentum") quantities_.push_back(quantity);
  }

  void observe(const BankStep& bank) override {
    const at::NoGradGuard no_grad;
    if (!pending_.empty() && pending_.front().step != bank.step) flush();

    Pending row;
    row.step = bank.step;
    row.lr = bank.lr;
    std::vector<at::Tensor> all;
    for (const std::string& quantity : quantities_) {
      if (quantity == "momentum" && bank.state.slots.empty()) continue;
      row.quantities.push_back(quantity);
      all.push_back(as_matrices(quantity == "weight"     ? bank.weight
                                : quantity == "update"   ? bank.direction
                                : quantity == "gradient" ? bank.gradient
                                                         : bank.state.slots[0]));
    }
    auto [entry, is_new] = iterations_.try_emplace(bank.params.front()->name, iterations_.size());
    row.projections = entry->second.measure(all);
    std::vector<at::Tensor> lengths;
    for (const at::Tensor& x_KBmn : all) lengths.push_back(at::linalg_vector_norm(x_KBmn, 2, at::IntArrayRef{-1}));
    const at::Tensor rows = at::stack(lengths);  // [Q, K, B, m]
    row.norms = at::linalg_vector_norm(rows, 2, at::IntArrayRef{-1});
    row.gradient_norms = at::linalg_vector_norm(as_matrices(bank.gradient), 2, at::IntArrayRef({-2, -1}));
    if (!of_.empty()) {
      const at::Tensor most = rows.amax(-1, true);
      // The median by sorting, NaN where one is: median(-1) refuses to be deterministic on a GPU.
      const at::Tensor middle = std::get<0>(rows.sort(-1)).select(-1, (rows.size(-1) - 1) / 2);
      row.rows = at::stack({rows.amin(-1), at::where(most.squeeze(-1).isnan(), most.squeeze(-1), middle), most.squeeze(-1),
                            (rows <= most * kDeadRow).sum(-1).to(rows.scalar_type())});
    }
    const at::Tensor& x = all.front();
    const double work = std::pow(static_cast<double>(std::min(x.size(-2), x.size(-1))), 2) *
                        static_cast<double>(std::max(x.size(-2), x.size(-1)));
    const bool exact = !of_.empty() && exact_every_ > 0 && bank.step % exact_every_ == 0 && work <= kExactWork;
    // The steps at which both paces meet are counted, so that no weight is left out.
    const auto turn = !exact || context_.blocks.empty()
                          ? 0
                          : bank.step / std::lcm(every_, exact_every_) % static_cast<std::int64_t>(context_.blocks.size());
    for (std::size_t i = 0; i < bank.params.size(); ++i) {
      const auto found = context_.blocks.find(bank.params[i]->name);
      row.blocks.push_back(found == context_.blocks.end() ? -1 : found->second);
      // A copy: the weights have changed when it is read.
      if (!exact || (!exact_all_ && row.blocks.back() != turn)) continue;
      std::vector<at::Tensor> copies;
      for (const at::Tensor& x_KBmn : all) copies.push_back(x_KBmn.select(0, static_cast<std::int64_t>(i)));
      row.exact.emplace(i, at::stack(copies));
    }
    pending_.push_back(std::move(row));
  }

  void flush() override {
    for (const Pending& row : std::exchange(pending_, {})) {
      const at::Tensor top = spectral_norms(row.projections).contiguous();
      write_blocks(row, top);
      if (!of_.empty()) write_matrices(row, top);
    }
  }

 private:
  struct Pending {
    std::int64_t step = 0;
    double lr = 0;
    std::vector<std::int64_t> blocks;
    std::vector<std::string> quantities;
    at::Tensor projections;                   // [Q, K, B, p, p]
    at::Tensor norms;                         // [Q, K, B] Frobenius
    at::Tensor gradient_norms;                // [K, B]
    at::Tensor rows;                          // [4, Q, K, B]: least, median, largest, dead
    std::map<std::size_t, at::Tensor> exact;  // [Q, B, m, n] of the weights in turn
  };

  void write_blocks(const Pending& row, const at::Tensor& top) {
    const double size = std::abs(row.lr);
    const at::Tensor frobenius = row.norms.to(at::kCPU, at::kDouble);
    const at::Tensor columns =
        at::stack({largest(top[0]), least((frobenius[0] / top[0]).square()), largest(top[1]) * size,
                   largest(frobenius[1] * size / frobenius[0]), largest(row.gradient_norms.to(at::kCPU, at::kDouble))})
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

  void write_matrices(const Pending& row, const at::Tensor& top) {
    const at::Tensor norms = row.norms.to(at::kCPU, at::kDouble).contiguous();
    const at::Tensor rows = row.rows.to(at::kCPU, at::kDouble).contiguous();
    const auto top_QKB = top.accessor<double, 3>(), norm_QKB = norms.accessor<double, 3>();
    const auto rows_4QKB = rows.accessor<double, 4>();
    for (std::size_t q = 0; q < row.quantities.size(); ++q) {
      const std::string& quantity = row.quantities[q];
      if (std::find(of_.begin(), of_.end(), quantity) == of_.end()) continue;
      const double size = quantity == "update" ? std::abs(row.lr) : 1;
      const auto Q = static_cast<std::int64_t>(q);
      for (std::size_t i = 0; i < row.blocks.size(); ++i) {
        if (row.blocks[i] < 0) continue;
        const auto k = static_cast<std::int64_t>(i);
        const auto exact = row.exact.find(i);
        const at::Tensor copy = exact == row.exact.end() ? at::Tensor() : exact->second[Q].to(at::kCPU, at::kDouble);
        for (std::int64_t b = 0; b < norms.size(2); ++b) {
          MatrixStatsRow out{.step = row.step,
                             .block = row.blocks[i],
                             .quantity = quantity,
                             .matrix = b,
                             .spectral_norm = size * top_QKB[Q][k][b],
                             .frobenius_norm = size * norm_QKB[Q][k][b],
                             .stable_rank = std::pow(norm_QKB[Q][k][b] / top_QKB[Q][k][b], 2),
                             .row_min = size * rows_4QKB[0][Q][k][b],
                             .row_median = size * rows_4QKB[1][Q][k][b],
                             .row_max = size * rows_4QKB[2][Q][k][b],
                             .dead_rows = static_cast<std::int64_t>(rows_4QKB[3][Q][k][b])};
          if (copy.defined()) {
            const Singular s = singular_values(copy[b]);
            out.exact_norm = size * s.norm;
            out.nuclear_norm = size * s.nuclear;
            out.effective_rank = s.effective_rank;
          }
          context_.store.add(out);
        }
      }
    }
  }

  DiagnosticContext context_;
  std::int64_t every_;
  std::vector<std::string> of_;
  std::int64_t exact_every_;
  bool exact_all_;
  std::vector<std::string> quantities_ = {"weight", "update"};  // always measured, in this order
  std::map<std::string, PowerIteration> iterations_;            // by the first weight of a bank
  std::vector<Pending> pending_;
};

}  // namespace

std::unique_ptr<Diagnostic> make_spectral_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<Spectral>(options, std::move(context));
}

}  // namespace equisweep
