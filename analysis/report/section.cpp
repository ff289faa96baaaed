#include "analysis/report/section.h"

#include <fmt/format.h>

#include <array>

#include "analysis/report/format.h"

namespace equisweep {

std::span<const Section> sections() {
  static constexpr std::array table = {
      Section{"verdict", "Verdict", verdict_section},
      Section{"main-table", "Main table", main_table_section},
      Section{"learning-rates", "Learning-rate sensitivity", learning_rate_section},
      Section{"curves", "Curves", curves_section},
      Section{"spectra", "Spectra", spectra_section},
      Section{"runs", "All runs", all_runs_section},
      Section{"method", "Method", method_section},
  };
  return table;
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
  const nlohmann::json axes = nlohmann::json::parse(point.axes, nullptr, false);
  if (axes.is_object()) {
    for (const auto& [path, value] : axes.items())
      out += fmt::format(", {} {}", path, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return out;
}

std::string stack_label(const ReportData& data, std::size_t stack) {
  return data.stacks[stack] + (data.baseline == stack ? " (baseline)" : "");
}

}  // namespace equisweep
