// Final loss against the learning rate: how wide the basin is, and whether the optimum lies inside the grid.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "analysis/report/trials.h"

namespace equisweep {
namespace {

constexpr double kBasin = 1.01;  // the basin: means within 1% of the best

struct Basin {
  double low = 0, high = 0;  // values of the rate
};

Basin basin_of(const RateLine& line) {
  const double limit = kBasin * line.points[line.chosen]->mean;
  std::size_t low = line.chosen, high = line.chosen;
  while (low > 0 && line.points[low - 1]->mean <= limit) --low;
  while (high + 1 < line.points.size() && line.points[high + 1]->mean <= limit) ++high;
  return {line.values[low], line.values[high]};
}

Figure rate_curve(const ReportData& data, std::size_t model) {
  Figure figure{.id = "lr-" + file_stem(data.models[model]),
                .title = "Final validation loss against the learning rate on " + visible(data.models[model]),
                .caption = {},
                .alternative = {},
                .data = {.columns = {"stack", "lr_scale", "axes", "seed", "val_loss_nats", "state"}}};
  Plot plot{.title = {},
            .x_label = "lr_scale (multiplies every learning rate of the stack)",
            .y_label = "final validation loss, nats per token",
            .log2_x = true};
  std::size_t seeds = 0;
  for (const Arm& arm : data.tuning_arms) {
    if (arm.model != model) continue;
    std::map<std::string, Series> lines;  // one for each setting of the stack's own axes
    Series points{.kind = Series::Kind::points, .label = {}, .stack = static_cast<int>(arm.stack)};
    for (const LrPoint& point : arm.points) {
      Series& line = lines.try_emplace(point.axes, Series{.label = {}, .stack = static_cast<int>(arm.stack)}).first->second;
      if (point.axes == arm.chosen().axes) line.label = data.stacks[arm.stack];
      const bool any = std::any_of(point.cells.begin(), point.cells.end(), [](auto* c) { return is_result(c->run->state); });
      if (any) line.points.push_back({.x = point.lr_scale, .y = point.mean});
      seeds = std::max(seeds, point.cells.size());
      for (const CellRecord* cell : point.cells) {
        const double loss = cell->run->gone() ? kNan : cell->run->final_loss();
        if (!std::isnan(loss)) points.points.push_back({.x = cell->lr_scale, .y = loss});
        figure.data.add(
            {data.stacks[arm.stack], cell->lr_scale, cell->axes, cell->seed, loss, std::string(name_of(cell->run->state))});
      }
    }
    for (auto& [axes, line] : lines) {
      if (axes != arm.chosen().axes) line.strength = 0.45;
      plot.series.push_back(std::move(line));
    }
    plot.series.push_back(std::move(points));
  }
  figure.plots.push_back(std::move(plot));
  figure.caption = fmt::format(
      "{}: points are seeds (up to {} a learning rate), lines their means. Triangles at the top are runs that diverged or "
      "lie "
      "above the axis; a mean over a seed that diverged is infinite and breaks the line.",
      visible(data.models[model]), seeds);
  for (const Arm& arm : data.tuning_arms) {
    if (arm.model != model || !std::isfinite(arm.chosen().mean)) continue;
    figure.alternative +=
        fmt::format("{}{} is lowest at {}: {}.", figure.alternative.empty() ? "" : " ", visible(data.stacks[arm.stack]),
                    visible(point_name(arm.chosen())), fixed(arm.chosen().mean, kLossDecimals));
  }
  return figure;
}

}  // namespace

Content learning_rate_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Content content = {
      Paragraph{"For each model and stack the point with the lowest mean final loss is chosen, by the same rule for every "
                "stack; a diverged seed makes the mean infinite, and a point without a result of every seed is not chosen "
                "before one that has them. Stacks with axes of their own show their best setting in full colour."}};
  if (data.tuned)
    content.emplace_back(Paragraph{
        fmt::format("These are the runs that tune, on seed{} {}; the claims of this report rest on other runs, with "
                    "fresh seeds. A trial is one point, on all of these seeds.",
                    data.seeds("tune").size() == 1 ? "" : "s", fmt::join(data.seeds("tune"), ", "))});
  Table table{
      .id = "learning-rates",
      .caption =
          "Where each stack is best, and how wide its basin is along each rate that was varied: the range around the "
          "optimum whose mean loss is within 1% of the best, all else as there.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Best", .csv_name = "best_point"},
                  {.title = "Mean loss", .numeric = true, .csv_name = "val_loss_nats"},
                  {.title = "n", .numeric = true, .csv_name = "n"},
                  {.title = "Trials", .numeric = true, .csv_name = "trials"},
                  {.title = "Rate", .csv_name = "rate"},
                  {.title = "Basin from", .numeric = true, .csv_name = "basin_low"},
                  {.title = "to", .numeric = true, .csv_name = "basin_high"},
                  {.title = "Width", .numeric = true, .csv_name = "basin_factor"},
                  {.title = "Optimum", .csv_name = "optimum"}},
      .rows = {},
      .notes = {}};
  bool edges = false;
  for (const Arm& arm : data.tuning_arms) {
    if (!std::isfinite(arm.chosen().mean)) continue;
    const std::vector<RateLine> lines = rate_lines(arm);
    Value stack = text(stack_label(data, arm.stack));
    stack.key = static_cast<int>(arm.stack);
    stack.value = data.stacks[arm.stack];
    const std::vector<Value> row = {text(data.models[arm.model]),
                                    stack,
                                    text(point_name(arm.chosen())),
                                    number(arm.chosen().mean, kLossDecimals),
                                    count(static_cast<std::int64_t>(finite_losses(arm.chosen()).size())),
                                    count(static_cast<std::int64_t>(arm.trials()))};
    const auto add = [&](const std::vector<Value>& along) {
      table.rows.push_back(row);
      table.rows.back().insert(table.rows.back().end(), along.begin(), along.end());
    };
    for (const RateLine& line : lines) {
      const Basin basin = basin_of(line);
      edges = edges || line.at_edge();
      add({text(line.rate), Value{significant(basin.low, 4), basin.low}, Value{significant(basin.high, 4), basin.high},
           Value{significant(basin.high / basin.low, 3) + "×", basin.high / basin.low},
           text(line.at_edge() ? "at the edge of the grid" : "inside the grid")});
    }
    if (lines.empty()) add({nothing(), nothing(), nothing(), nothing(), text("one learning rate")});
  }
  for (std::string& note : fewer_trials(data)) table.notes.push_back(std::move(note));
  if (rounds_of_growth(data) > 0)
    table.notes.push_back(
        fmt::format("A grid may grow by {} beyond an edge where the best trial lies (`tune: {{extend: {}}}`), by the same "
                    "rule for every stack.",
                    plural(static_cast<std::size_t>(rounds_of_growth(data)), "trial"), rounds_of_growth(data)));
  if (edges)
    table.notes.push_back("An optimum at the edge of the grid may lie beyond it: the stack is then not fully tuned.");
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    Figure figure = rate_curve(data, model);
    if (!figure.alternative.empty()) content.emplace_back(std::move(figure));
  }
  if (table.rows.empty())
    content.emplace_back(Paragraph{"No learning rate has a finite mean loss yet."});
  else
    content.emplace_back(std::move(table));
  return content;
}

}  // namespace equisweep
