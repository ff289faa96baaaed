// How mixtures of experts route: balance, dead experts, the size of the router's logits.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/reduce.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

struct Measure {
  const char *name, *csv_name;
};

// In the order of the query in add_routed_run().
constexpr std::array<Measure, 6> kMeasures = {{{"load CV", "load_cv"},
                                               {"load entropy", "load_entropy"},
                                               {"dead experts", "dead_fraction"},
                                               {"z-loss", "z_loss"},
                                               {"logit norm", "logit_norm"},
                                               {"max violation", "max_violation"}}};

struct RouterPoint {
  std::array<double, kMeasures.size()> sum = {};
  std::int64_t n = 0;  // layers x runs
  double at(std::size_t i) const { return sum[i] / static_cast<double>(n); }
};

using RouterCurve = std::map<std::int64_t, RouterPoint>;  // by step, mean over layers and runs

bool add_routed_run(const ReportData& data, const RunRecord& run, RouterCurve& curve) {
  bool any = false;
  data.visit(run,
             std::string("SELECT step, load_cv, load_entropy, dead_fraction, z_loss, logit_norm, max_violation FROM "
                         "router_stats") +
                 kLiveRows,
             [&](SQLite::Statement& row) {
               RouterPoint& point = curve[row.getColumn(0).getInt64()];
               ++point.n;
               for (int i = 0; i < static_cast<int>(kMeasures.size()); ++i) {
                 const SQLite::Column value = row.getColumn(i + 1);
                 point.sum[static_cast<std::size_t>(i)] += value.isNull() ? kNan : value.getDouble();
               }
               any = true;
             });
  return any;
}

// Share of the tokens of each expert in the second half of the runs, by layer and expert; 1 / experts is even.
std::map<std::pair<std::int64_t, std::int64_t>, double> shares_of(const ReportData& data, const Arm& arm,
                                                                  std::int64_t half) {
  std::map<std::pair<std::int64_t, std::int64_t>, double> tokens;
  std::map<std::int64_t, double> total;
  for (const CellRecord* cell : arm.chosen().cells) {
    const std::string later = fmt::format("AND step > {} ", half);
    data.visit(*cell->run,
               "SELECT layer, expert, total(tokens) FROM expert_load" + (kLiveRows + later) + "GROUP BY layer, expert",
               [&](SQLite::Statement& row) {
                 const double n = row.getColumn(2).getDouble();
                 tokens[{row.getColumn(0).getInt64(), row.getColumn(1).getInt64()}] += n;
                 total[row.getColumn(0).getInt64()] += n;
               });
  }
  for (auto& [key, n] : tokens) n = total[key.first] > 0 ? n / total[key.first] : kNan;
  return tokens;
}

}  // namespace

Content routing_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Table table{
      .id = "routing",
      .caption = "Routers at the chosen learning rates: means over layers and runs, in the last quarter of training.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Load CV", .numeric = true, .csv_name = "load_cv"},
                  {.title = "Load entropy", .numeric = true, .csv_name = "load_entropy"},
                  {.title = "Dead experts", .numeric = true, .csv_name = "dead_fraction"},
                  {.title = "z-loss", .numeric = true, .csv_name = "z_loss"},
                  {.title = "Logit norm", .numeric = true, .csv_name = "logit_norm"},
                  {.title = "Max violation", .numeric = true, .csv_name = "max_violation"},
                  {.title = "Growth", .numeric = true, .csv_name = "logit_norm_growth"},
                  {.title = "n", .numeric = true, .csv_name = "n"}},
      .rows = {},
      .notes = {"Load CV: standard deviation of the tokens per expert over their mean; 0 is even. Load entropy: of the "
                "shares, in units of the largest possible; 1 is even. Dead experts: share that no token of the batch "
                "is sent to. Max violation: tokens of the busiest expert over the mean, less one. Growth: logit norm "
                "against the first one measured. n: runs."}};
  Content figures;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    const std::string name = visible(data.models[model]), stem = file_stem(data.models[model]);
    Figure lines =
        small_plots("routing-" + stem, "Routing on " + name,
                    name + ": means over layers and runs at the chosen learning rates, against steps.", {"stack", "step"});
    for (const Measure& m : kMeasures) {
      lines.plots.push_back({.title = m.name, .x_label = "steps", .y_label = {}});
      lines.data.columns.push_back(m.csv_name);
    }
    Figure map = small_plots("experts-" + stem, "Load of the experts on " + name,
                             name +
                                 ": tokens of each expert (across) in each layer with experts (upward), as a multiple of an "
                                 "even share, in the second half of training; all runs of the chosen point together. "
                                 "Light is idle, dark is crowded.",
                             {"stack", "layer", "expert", "share_of_tokens"});
    map.show_key = false;
    for (const Arm& arm : data.arms) {
      if (arm.model != model) continue;
      RouterCurve curve;
      std::int64_t runs = 0;
      for (const CellRecord* cell : arm.chosen().cells) {
        runs += add_routed_run(data, *cell->run, curve) ? 1 : 0;
      }
      if (curve.empty()) continue;
      const std::int64_t last_step = curve.rbegin()->first;
      RouterPoint late;
      for (auto point = curve.upper_bound(last_step * 3 / 4); point != curve.end(); ++point) {
        late.n += point->second.n;
        for (std::size_t i = 0; i < kMeasures.size(); ++i) late.sum[i] += point->second.sum[i];
      }
      Value stack = text(stack_label(data, arm.stack));
      stack.key = static_cast<int>(arm.stack);
      stack.value = data.stacks[arm.stack];
      const double growth = late.at(4) / curve.begin()->second.at(4);
      std::vector<Value> row = {text(data.models[model]), stack};
      for (std::size_t i = 0; i < kMeasures.size(); ++i) row.push_back(number(late.at(i), 4));
      row.push_back(std::isfinite(growth) ? Value{fmt::format("{:.2f}×", growth), growth} : nothing());
      row.push_back(count(runs));
      table.rows.push_back(std::move(row));
      for (std::size_t i = 0; i < kMeasures.size(); ++i) {
        Series series{.label = {}, .stack = static_cast<int>(arm.stack)};
        for (const auto& [step, point] : curve) series.points.push_back({static_cast<double>(step), point.at(i)});
        reduce(series, kSmallPlotColumns);
        lines.plots[i].series.push_back(std::move(series));
      }
      for (const auto& [step, point] : curve)
        lines.data.add(
            {data.stacks[arm.stack], step, point.at(0), point.at(1), point.at(2), point.at(3), point.at(4), point.at(5)});
      lines.alternative += fmt::format("{}{} ends at load CV {} and logit norm {}.", lines.alternative.empty() ? "" : " ",
                                       visible(data.stacks[arm.stack]), significant(late.at(0)), significant(late.at(4)));
      const auto shares = shares_of(data, arm, last_step / 2);
      if (shares.empty()) continue;
      Plot plot{.title = data.stacks[arm.stack], .x_label = "expert", .y_label = "layer"};
      Series tiles{.kind = Series::Kind::tiles, .label = {}, .stack = static_cast<int>(arm.stack)};
      std::map<std::int64_t, double> experts;
      for (const auto& [key, share] : shares) experts[key.first] += 1;
      double crowded = 0;
      for (const auto& [key, share] : shares) {
        const double load = share * experts[key.first];
        crowded = std::max(crowded, std::isnan(load) ? 0 : load);
        tiles.points.push_back({static_cast<double>(key.second), static_cast<double>(key.first), load});
        map.data.add({data.stacks[arm.stack], key.first, key.second, share});
      }
      map.alternative += fmt::format("{}{}: the busiest expert gets {} even shares.", map.alternative.empty() ? "" : " ",
                                     visible(data.stacks[arm.stack]), significant(crowded));
      plot.series.push_back(std::move(tiles));
      map.plots.push_back(std::move(plot));
    }
    if (lines.data.size > 0) figures.emplace_back(std::move(lines));
    if (!map.plots.empty()) figures.emplace_back(std::move(map));
  }
  if (table.rows.empty())
    return {Paragraph{
        "No routing was recorded: no model has experts, or `log: {router: {every: 10}}` is not in the sweep file."}};
  Content content = {std::move(table)};
  for (Block& figure : figures) content.push_back(std::move(figure));
  return content;
}

}  // namespace equisweep
