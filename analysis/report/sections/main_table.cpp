// Models x stacks: final validation loss at the chosen learning rate.
#include <fmt/format.h>

#include <cmath>

#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {

Content main_table_section(const SectionInput& input) {
  const ReportData& data = input.data;
  const std::string interval = (data.intervals.bootstrap() ? "and " : "± ") + interval_name(data.intervals);
  const bool chosen = data.tuned || data.chose();
  Table table{
      .id = "main",
      .caption = "Final validation loss in nats per token: mean " + interval +
                 (chosen ? " over seeds at the learning rate with the lowest mean."
                         : " over seeds; each stack has run at one learning rate alone, so none was chosen.") +
                 " The best mean of each model is bold, and so is every mean inside its interval.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Validation loss", .numeric = true, .csv_name = "val_loss_nats"},
                  {.title = interval_title(data.intervals), .numeric = true, .csv_name = "half_width_nats"},
                  {.title = "low", .numeric = true, .csv_name = "low_nats", .hidden = true},
                  {.title = "high", .numeric = true, .csv_name = "high_nats", .hidden = true},
                  {.title = "sd", .numeric = true, .csv_name = "sd_nats", .hidden = true},
                  {.title = "n", .numeric = true, .csv_name = "n"},
                  {.title = "Diverged", .numeric = true, .csv_name = "diverged_or_failed"},
                  {.title = "Runs", .csv_name = "runs", .hidden = true},
                  {.title = chosen ? "Chosen" : "Point", .csv_name = "chosen_point"},
                  {.title = "Learning rates", .csv_name = "learning_rates", .prose = true},
                  {.title = "Parameters", .numeric = true, .csv_name = "parameters", .hidden = true}},
      .rows = {},
      .notes = {data.tuned ? "Runs on fresh seeds that confirm the chosen point, and no others. Diverged: how many of them "
                             "diverged or failed. n: seeds with a finite loss."
                : chosen   ? "Diverged: runs of the stack, over all its learning rates, that diverged or failed. n: "
                             "seeds with a finite loss at the chosen point."
                           : "Diverged: runs of the stack that diverged or failed. n: seeds with a finite loss."}};
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    const Arm* best = nullptr;
    for (const Arm& arm : data.arms) {
      if (arm.model == model && (best == nullptr || arm.chosen().mean < best->chosen().mean)) best = &arm;
    }
    for (const Arm& arm : data.arms) {
      if (arm.model != model) continue;
      std::vector<double> losses, best_losses;
      for (const auto& [seed, loss] : finite_losses(arm.chosen())) losses.push_back(loss);
      for (const auto& [seed, loss] : finite_losses(best->chosen())) best_losses.push_back(loss);
      const Interval i = interval_of(losses, data.intervals), top = interval_of(best_losses, data.intervals);
      std::size_t lost = 0, runs = 0;
      for (const LrPoint& point : arm.points) lost += point.lost, runs += point.cells.size();
      const RunRecord& run = *arm.chosen().cells.front()->run;
      Value stack = text(stack_label(data, arm.stack)), loss = number(i.mean, kLossDecimals);
      stack.key = static_cast<int>(arm.stack);
      stack.value = data.stacks[arm.stack];
      loss.strong = &arm == best || (std::isfinite(arm.chosen().mean) && i.mean <= top.high());
      if (std::isinf(arm.chosen().mean)) loss.strong = false;
      Value lost_cell{.shown = fmt::format("{}/{}", lost, runs), .value = static_cast<std::int64_t>(lost)};
      table.rows.push_back({text(data.models[model]), stack, loss, interval_value(i, kLossDecimals),
                            number(i.low(), kLossDecimals), number(i.high(), kLossDecimals), number(i.sd, kLossDecimals),
                            count(static_cast<std::int64_t>(i.n)), lost_cell, count(static_cast<std::int64_t>(runs)),
                            text(point_name(arm.chosen())), text(learning_rates(run)),
                            run.parameters > 0 ? count(run.parameters) : nothing()});
    }
  }
  if (table.rows.empty())
    return {Paragraph{data.tuned ? "No learning rate has been chosen yet, so nothing is confirmed."
                                 : "No cells in this sweep."}};
  return {std::move(table)};
}

}  // namespace equisweep
