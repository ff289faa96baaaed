#pragma once
// What the attempts and the steps of a run say beside its losses: cost, hardware, where it ended.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "analysis/report/data.h"

namespace equisweep {

struct AttemptRecord {
  std::int64_t attempt = 1, resume_step = 0, threads = 0;
  std::string state, message, device;
  std::optional<std::int64_t> peak_rss_bytes = {}, state_bytes = {};
  nlohmann::json environment;  ///< an empty object where the text is not JSON
};

/// By number.
std::vector<AttemptRecord> attempts_of(const ReportData& data, const RunRecord& run);

/// Sums over the updates of a run that count: of each step the newest attempt. Times in seconds.
struct StepSums {
  std::int64_t steps = 0;
  double step_seconds = 0, optimizer_seconds = 0, diagnostics_seconds = 0;
};

StepSums step_sums(const ReportData& data, const RunRecord& run);

/// Whether any update recorded what the optimizer's part of it took.
bool has_step_times(const ReportData& data, const RunRecord& run);

/// The last update that counts, with the loss of its batch; nothing before the first.
struct LastStep {
  std::int64_t step = 0;
  double loss = 0;  ///< NaN where it was no number
};

std::optional<LastStep> last_step(const ReportData& data, const RunRecord& run);

/// Tokens of one update by the config of a run; 0 if it does not say.
double batch_tokens(const RunRecord& run);

}  // namespace equisweep
