#include "analysis/diagnostics/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace equisweep {
namespace {

class AttentionPeaks final : public Diagnostic {
 public:
  AttentionPeaks(std::int64_t every, std::int64_t sequences, DiagnosticContext context)
      : Diagnostic(every), sequences_(sequences), context_(std::move(context)) {}

  void observe(const BankStep&) override {}

  void observe_forward(std::int64_t step, const Forward& forward) override {
    flush();
    if (!forward.attention_peaks) return;
    const at::NoGradGuard no_grad;
    step_ = step;
    peaks_ = forward.attention_peaks(sequences_);
  }

  void flush() override {
    std::int64_t layer = 0;
    for (const at::Tensor& peaks_H : std::exchange(peaks_, {})) {
      const at::Tensor host = peaks_H.to(at::kCPU, at::kDouble);
      const auto value = host.accessor<double, 1>();
      for (std::int64_t head = 0; head < host.size(0); ++head)
        context_.store.add(AttentionStatsRow{.step = step_, .layer = layer, .head = head, .max_logit = value[head]});
      ++layer;
    }
  }

 private:
  std::int64_t sequences_;
  DiagnosticContext context_;
  std::int64_t step_ = 0;
  std::vector<at::Tensor> peaks_;  // [H] a layer, on the device
};

}  // namespace

std::unique_ptr<Diagnostic> make_attention_diagnostic(const nlohmann::json& options, DiagnosticContext context) {
  return std::make_unique<AttentionPeaks>(options.at("every").get<std::int64_t>(),
                                          options.at("sequences").get<std::int64_t>(), std::move(context));
}

}  // namespace equisweep
