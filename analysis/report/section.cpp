#include "analysis/report/section.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/trials.h"
#include "core/document.h"

namespace equisweep {

std::span<const Section> sections() {
  static constexpr std::array table = {
      Section{"verdict", "Verdict", verdict_section},
      Section{"fairness", "Fairness checklist", fairness_section},
      Section{"main-table", "Main table", main_table_section},
      Section{"ablation", "Component ablation", ablation_section},
      Section{"learning-rates", "Learning-rate sensitivity", learning_rate_section},
      Section{"curves", "Curves", curves_section},
      Section{"time-to-target", "Time to target", time_to_target_section},
      Section{"cost", "Cost", cost_section},
      Section{"spectra", "Spectra", spectra_section},
      Section{"equivariance", "Equivariance", equivariance_section},
      Section{"routing", "Routing", routing_section},
      Section{"failures", "Failures", failures_section},
      Section{"runs", "All runs", all_runs_section},
      Section{"method", "Method", method_section},
  };
  return table;
}

std::vector<std::string> fewer_trials(const ReportData& data) {
  std::vector<std::string> sentences;
  const std::int64_t rounds = rounds_of_growth(data);
  for (const Arm& base : data.tuning_arms) {
    if (data.baseline != base.stack) continue;
    const Arm* most = &base;
    for (const Arm& arm : data.tuning_arms)
      if (arm.model == base.model && arm.trials() > most->trials() && !grew_alike(base, arm, rounds)) most = &arm;
    if (most != &base)
      sentences.push_back(
          fmt::format("On {} the baseline {} was tuned with {} trials and {} with {}: the comparison favours {}.",
                      visible(data.models[base.model]), visible(data.stacks[base.stack]), base.trials(),
                      visible(data.stacks[most->stack]), most->trials(), visible(data.stacks[most->stack])));
  }
  return sentences;
}

Figure small_plots(std::string id, std::string title, std::string caption, std::vector<std::string> data_columns) {
  return {.id = std::move(id),
          .title = std::move(title),
          .caption = std::move(caption),
          .alternative = {},
          .columns = 3,
          .show_key = true,
          .data = {.columns = std::move(data_columns)}};
}

std::string learning_rates(const RunRecord& run) {
  std::string out;
  const auto stack = run.config.find("stack");
  if (stack == run.config.end() || !stack->is_object()) return out;
  for (const auto& [entry, options] : stack->items()) {
    if (!options.is_object() || !options.contains("lr") || !options["lr"].is_number()) continue;
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", entry, significant(options["lr"].get<double>(), 4));
  }
  return out;
}

std::string point_name(const LrPoint& point) {
  std::string out = "lr_scale " + significant(point.lr_scale, 6);
  const nlohmann::json axes = object_of(point.axes);
  for (const auto& [path, value] : axes.items())
    out += fmt::format(", {} {}", path, value.is_string() ? value.get<std::string>() : value.dump());
  return out;
}

bool has_plain_id(const RunRecord& run) {
  return run.job.size() == 16 && run.job.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string stack_label(const ReportData& data, std::size_t stack) {
  return data.stacks[stack] + (data.baseline == stack ? " (baseline)" : "");
}

}  // namespace equisweep
