// What an update costs: time, the shares of the optimizer and of the diagnostics, memory.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analysis/report/attempts.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

struct ArmCost {
  std::vector<double> step_seconds;  // mean of each run
  StepSums sums;
  double tokens = 0;
  std::optional<std::int64_t> peak_memory, state;
  std::set<std::string> places;  // device and threads
};

void keep_largest(std::optional<std::int64_t>& largest, const std::optional<std::int64_t>& value) {
  if (value) largest = std::max(largest.value_or(0), *value);
}

ArmCost cost_of(const ReportData& data, const Arm& arm) {
  ArmCost cost;
  for (const CellRecord* cell : arm.chosen().cells) {
    const StepSums sums = step_sums(data, *cell->run);
    for (const AttemptRecord& a : attempts_of(data, *cell->run)) {
      keep_largest(cost.peak_memory, a.peak_rss_bytes);
      keep_largest(cost.state, a.state_bytes);
      if (!a.device.empty())
        cost.places.insert(fmt::format("{}, {}", visible(a.device), plural(static_cast<std::size_t>(a.threads), "thread")));
    }
    if (sums.steps == 0 || !(sums.step_seconds > 0)) continue;
    cost.step_seconds.push_back(sums.step_seconds / static_cast<double>(sums.steps));
    cost.sums.steps += sums.steps;
    cost.sums.step_seconds += sums.step_seconds;
    cost.sums.optimizer_seconds += sums.optimizer_seconds;
    cost.sums.diagnostics_seconds += sums.diagnostics_seconds;
    cost.tokens += static_cast<double>(sums.steps) * batch_tokens(*cell->run);
  }
  return cost;
}

Value share(double part, double whole) {
  if (!(whole > 0)) return nothing();
  return {.shown = fixed(100 * part / whole, 1) + "%", .value = part / whole};
}

Value bytes(const std::optional<std::int64_t>& size) {
  if (!size) return nothing();
  const double mebibytes = static_cast<double>(*size) / (1 << 20);
  return {.shown = mebibytes < 1      ? fmt::format("{:.1f} KiB", mebibytes * 1024)
                   : mebibytes < 1024 ? fmt::format("{:.1f} MiB", mebibytes)
                                      : fmt::format("{:.2f} GiB", mebibytes / 1024),
          .value = *size};
}

}  // namespace

Content cost_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Table table{
      .id = "cost",
      .caption =
          "What an update costs at the chosen learning rates: mean over all steps of the runs, evaluation left "
          "out. The optimizer's and the diagnostics' shares are parts of the step.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Step, ms", .numeric = true, .csv_name = "step_ms"},
                  {.title = "±\u00A095%", .numeric = true, .csv_name = "half_width_ms"},
                  {.title = "n", .numeric = true, .csv_name = "n"},
                  {.title = "To baseline", .numeric = true, .csv_name = "step_ratio"},
                  {.title = "Optimizer", .numeric = true, .csv_name = "optimizer_share"},
                  {.title = "Diagnostics", .numeric = true, .csv_name = "diagnostics_share"},
                  {.title = "Tokens/s", .numeric = true, .csv_name = "tokens_per_second"},
                  {.title = "Peak memory", .numeric = true, .csv_name = "peak_rss_bytes"},
                  {.title = "State", .numeric = true, .csv_name = "state_bytes"},
                  {.title = "State/weight", .numeric = true, .csv_name = "state_bytes_per_parameter"},
                  {.title = "Ran on", .csv_name = "ran_on", .hidden = true}},
      .rows = {},
      .notes = {"n: runs. Peak memory: largest resident size of a process. State: what the optimizer keeps between "
                "updates, in bytes; per weight in the last column. Where a step is fast because the machine was idle, "
                "this table shows it: times compare stacks only where the jobs shared the machine alike."}};
  std::set<std::string> places;
  std::map<const Arm*, ArmCost> costs;
  for (const Arm& arm : data.arms) costs.emplace(&arm, cost_of(data, arm));
  for (const Arm& arm : data.arms) {
    const ArmCost& cost = costs.at(&arm);
    if (cost.step_seconds.empty()) continue;
    places.insert(cost.places.begin(), cost.places.end());
    const Interval step = interval_of(cost.step_seconds);
    Value ratio = nothing();
    if (const Arm* base = data.baseline_arm(arm.model); base != nullptr && base != &arm) {
      const Interval other = interval_of(costs.at(base).step_seconds);
      if (other.mean > 0) ratio = {.shown = fmt::format("{:.2f}×", step.mean / other.mean), .value = step.mean / other.mean};
    }
    Value stack = text(stack_label(data, arm.stack));
    stack.key = static_cast<int>(arm.stack);
    stack.value = data.stacks[arm.stack];
    const std::int64_t parameters = arm.chosen().cells.front()->run->parameters;
    const double speed = cost.tokens / cost.sums.step_seconds;
    table.rows.push_back(
        {text(data.models[arm.model]), stack, number(1000 * step.mean, 2), number(1000 * step.half_width, 2),
         count(static_cast<std::int64_t>(step.n)), ratio, share(cost.sums.optimizer_seconds, cost.sums.step_seconds),
         share(cost.sums.diagnostics_seconds, cost.sums.step_seconds),
         speed > 0 ? Value{grouped(std::llround(speed)), speed} : nothing(), bytes(cost.peak_memory), bytes(cost.state),
         cost.state && parameters > 0 ? number(static_cast<double>(*cost.state) / static_cast<double>(parameters), 2)
                                      : nothing(),
         text(fmt::format("{}", fmt::join(cost.places, "; ")))});
  }
  if (table.rows.empty()) return {Paragraph{"No step has been recorded yet, so there is no cost to report."}};
  if (places.size() == 1) table.notes.push_back("All of these runs: " + *places.begin() + ".");
  if (places.size() > 1)
    table.notes.push_back(
        fmt::format("The runs had different places, so their times do not compare: {}.", fmt::join(places, "; ")));
  return {std::move(table)};
}

}  // namespace equisweep
