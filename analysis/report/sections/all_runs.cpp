// Every run of the sweep.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

/// What trains a run that has ended again and compares the losses.
std::string rerun_command(const RunRecord& run) {
  return run.pending() || !has_plain_id(run) ? "" : fmt::format("equisweep rerun {} --verify", run.job);
}

}  // namespace

Content all_runs_section(const SectionInput& input) {
  const ReportData& data = input.data;
  std::string states;
  for (const RunState state : kRunStates) {
    if (const std::size_t n = data.count(state); n > 0)
      states += fmt::format("{}{} {}", states.empty() ? "" : ", ", n, name_of(state));
  }
  // A column in which every run says the same of nothing is in the CSV file alone.
  const auto all_cells = [&](auto&& idle) { return std::all_of(data.cells.begin(), data.cells.end(), idle); };
  const bool no_axes = all_cells([](const CellRecord&c) { return c.axes == "{}"; }),
             no_bits = all_cells([](const CellRecord&c) { return !c.run->last_eval || !c.run->last_eval->bits_per_byte; }),
             one_attempt = all_cells([](const CellRecord&c) { return c.run->attempt <= 1; }),
             no_message = all_cells([](const CellRecord&c) { return c.run->message.empty(); });
  Table table{.id = "runs",
              .caption = "Every cell of the sweep with its run. Losses in nats per token, at the last evaluation.",
              .columns = {{.title = "Job", .csv_name = "job"},
                          {.title = "Model", .csv_name = "model"},
                          {.title = "Stack", .csv_name = "stack"},
                          {.title = "lr_scale", .numeric = true, .csv_name = "lr_scale"},
                          {.title = "Own axes", .csv_name = "axes", .hidden = no_axes},
                          {.title = "Seed", .numeric = true, .csv_name = "seed"},
                          {.title = "Phase", .csv_name = "phase", .hidden = !data.tuned},
                          {.title = "State", .csv_name = "state"},
                          {.title = "Validation loss", .numeric = true, .csv_name = "val_loss_nats"},
                          {.title = "Bits/byte", .numeric = true, .csv_name = "bits_per_byte", .hidden = no_bits},
                          {.title = "Step", .numeric = true, .csv_name = "step"},
                          {.title = "Tokens", .numeric = true, .csv_name = "tokens", .hidden = true},
                          {.title = "Training time", .numeric = true, .csv_name = "seconds"},
                          {.title = "Attempt", .numeric = true, .csv_name = "attempt", .hidden = one_attempt},
                          {.title = "Message", .csv_name = "message", .hidden = no_message, .prose = true},
                          {.title = "Command", .csv_name = "command", .hidden = true}},
              .rows = {},
              .notes = {}};
  for (const CellRecord& cell : data.cells) {
    const RunRecord& run = *cell.run;
    const EvalRow* last = run.last_eval ? &*run.last_eval : nullptr;
    Value stack = text(data.stacks[cell.stack]);
    stack.key = static_cast<int>(cell.stack);
    table.rows.push_back(
        {text(run.job), text(data.models[cell.model]), stack, Value{significant(cell.lr_scale, 6), cell.lr_scale},
         cell.axes == "{}" ? nothing() : text(cell.axes), count(cell.seed), text(cell.phase),
         text(std::string(name_of(run.state))), last != nullptr ? number(last->loss, kLossDecimals) : nothing(),
         last != nullptr && last->bits_per_byte ? number(*last->bits_per_byte, kLossDecimals) : nothing(),
         last != nullptr ? count(last->step) : nothing(), last != nullptr ? count(last->tokens) : nothing(),
         last != nullptr ? Value{duration(last->seconds), last->seconds} : nothing(), count(run.attempt),
         run.message.empty() ? text("") : text(run.message), text(rerun_command(run))});
  }
  Content content = {Paragraph{fmt::format("{} in {}: {}.", plural(data.runs.size(), "run"),
                                           plural(data.cells.size(), "cell"), states.empty() ? "none" : states)}};
  if (!table.rows.empty()) content.emplace_back(std::move(table));
  return content;
}

}  // namespace equisweep
