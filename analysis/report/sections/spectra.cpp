// Spectral norms, stable ranks and relative updates by weight and layer over steps, at the chosen learning rates.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/reduce.h"
#include "analysis/report/section.h"
#include "core/median.h"

namespace equisweep {
namespace {

constexpr double kLogFactor = 20;        // a wider span of values gets a log axis
constexpr std::size_t kMapColumns = 48;  // of tiles

struct Quantity {
  const char *id, *title, *caption, *csv_name;
};

// In the order of the query in add_run().
constexpr std::array<Quantity, 3> kQuantities = {
    {{"spectra", "Spectral norms of the weights of ", "largest singular value of every weight over steps",
      "spectral_norm_mean"},
     {"stable-ranks", "Stable ranks of the weights of ", "stable rank ‖W‖²F / ‖W‖²₂ of every weight over steps",
      "stable_rank_mean"},
     {"update-ratios", "Relative updates of the weights of ",
      "Frobenius norm of each update over that of its weight, ‖lr·U‖F / ‖W‖F, over steps", "update_to_weight_mean"}}};

struct SpectralMean {
  std::array<double, kQuantities.size()> sum = {};
  std::array<std::int64_t, kQuantities.size()> n = {};
  double at(std::size_t i) const { return n[i] > 0 ? sum[i] / static_cast<double>(n[i]) : kNan; }
};

/// A weight: its role and layer.
using Place = std::pair<std::string, std::int64_t>;

struct ArmSpectra {
  std::size_t stack = 0, runs = 0;
  std::vector<Place> places = {};                                // in the order of the blocks
  std::map<std::int64_t, std::vector<SpectralMean>> steps = {};  // by place
};

void add_spectra_of(const ReportData& data, const RunRecord& run, ArmSpectra& arm) {
  std::map<std::int64_t, std::size_t> place_of;
  SQLite::Statement blocks(data.db(run),
                           "SELECT block, role, layer FROM blocks WHERE run = ? AND role <> 'vector' ORDER BY block");
  blocks.bind(1, run.run);
  while (blocks.executeStep()) {
    const Place place(blocks.getColumn(1).getString(), blocks.getColumn(2).getInt64());
    auto found = std::find(arm.places.begin(), arm.places.end(), place);
    if (found == arm.places.end()) found = arm.places.insert(found, place);
    place_of.emplace(blocks.getColumn(0).getInt64(), static_cast<std::size_t>(found - arm.places.begin()));
  }
  bool any = false;
  std::int64_t step = -1;
  std::vector<SpectralMean>* means = nullptr;  // of that step; rows come step by step
  data.visit(run,
             std::string("SELECT step, block, spectral_norm, stable_rank, update_to_weight FROM block_stats") + kLiveRows,
             [&](SQLite::Statement& row) {
               const auto place = place_of.find(row.getColumn(1).getInt64());
               if (place == place_of.end()) return;
               if (means == nullptr || row.getColumn(0).getInt64() != step) {
                 step = row.getColumn(0).getInt64();
                 means = &arm.steps[step];
                 if (means->size() < arm.places.size()) means->resize(arm.places.size());
               }
               for (std::size_t i = 0; i < kQuantities.size(); ++i) {
                 const SQLite::Column value = row.getColumn(static_cast<int>(i) + 2);
                 if (value.isNull() || !std::isfinite(value.getDouble())) continue;
                 (*means)[place->second].sum[i] += value.getDouble();
                 ++(*means)[place->second].n[i];
               }
               any = true;
             });
  arm.runs += any ? 1 : 0;
}

std::vector<ArmSpectra> spectra_of(const ReportData& data, std::size_t model) {
  std::vector<ArmSpectra> all;
  for (const Arm& arm : data.arms) {
    if (arm.model != model) continue;
    ArmSpectra spectra{.stack = arm.stack};
    for (const CellRecord* cell : arm.chosen().cells)
      if (std::isfinite(cell->run->final_loss())) add_spectra_of(data, *cell->run, spectra);
    for (auto& [step, means] : spectra.steps) means.resize(spectra.places.size());
    if (spectra.runs > 0) all.push_back(std::move(spectra));
  }
  return all;
}

std::string seeds_of(const ReportData& data, const std::vector<ArmSpectra>& all) {
  std::string out;
  for (const ArmSpectra& arm : all)
    out += fmt::format("{}{} n = {}", out.empty() ? "" : ", ", visible(data.stacks[arm.stack]), arm.runs);
  return out;
}

std::int64_t last_layer(const std::vector<ArmSpectra>& all) {
  std::int64_t last = 0;
  for (const ArmSpectra& arm : all)
    for (const Place& place : arm.places) last = std::max(last, place.second);
  return last;
}

Figure spectral_lines(const ReportData& data, std::size_t model, const std::vector<ArmSpectra>& all, std::size_t quantity) {
  const Quantity& q = kQuantities[quantity];
  const std::string name = visible(data.models[model]);
  const std::int64_t last = last_layer(all);
  Figure figure = small_plots(
      fmt::format("{}-{}", q.id, file_stem(data.models[model])), q.title + name,
      fmt::format("{}: {}; means over seeds ({}).{}", name, q.caption, seeds_of(data, all),
                  last > 0 ? fmt::format(" One line a layer, from faint (first) to full (last of {}).", last + 1) : ""),
      {"stack", "role", "layer", "step", q.csv_name, "n"});
  std::vector<std::string> roles;
  for (const ArmSpectra& arm : all)
    for (const Place& place : arm.places)
      if (std::find(roles.begin(), roles.end(), place.first) == roles.end()) roles.push_back(place.first);
  for (const std::string& role : roles) {
    Plot plot{.title = role, .x_label = "steps", .y_label = {}};
    double largest = -kInfinity, smallest = kInfinity;
    for (const ArmSpectra& arm : all) {
      for (std::size_t p = 0; p < arm.places.size(); ++p) {
        const auto& [own, layer] = arm.places[p];
        if (own != role) continue;
        Series series{.label = {}, .stack = static_cast<int>(arm.stack)};
        if (layer >= 0 && last > 0) series.strength = 0.35 + 0.65 * static_cast<double>(layer) / static_cast<double>(last);
        for (const auto& [step, means] : arm.steps) {
          const double value = means[p].at(quantity);
          if (std::isnan(value)) continue;
          series.points.push_back({static_cast<double>(step), value});
          largest = std::max(largest, value);
          smallest = std::min(smallest, value);
        }
        if (series.points.empty()) continue;
        reduce(series, kSmallPlotColumns);
        for (const Series::Point& point : series.points) {
          const auto step = static_cast<std::int64_t>(point.x);
          figure.data.add({data.stacks[arm.stack], role, layer, step, point.y, arm.steps.at(step)[p].n[quantity]});
        }
        plot.series.push_back(std::move(series));
      }
    }
    if (plot.series.empty()) continue;
    plot.log_y = smallest > 0 && largest / smallest > kLogFactor;
    figure.alternative += fmt::format("{}{}: {} to {}.", figure.alternative.empty() ? "" : " ", visible(role),
                                      significant(smallest), significant(largest));
    figure.plots.push_back(std::move(plot));
  }
  return figure;
}

/// Every weight a row, every stretch of steps a column, as dark as the norm is large against the first one.
Figure growth_map(const ReportData& data, std::size_t model, const std::vector<ArmSpectra>& all) {
  const std::string name = visible(data.models[model]);
  Figure figure = small_plots("spectra-map-" + file_stem(data.models[model]), "Growth of the spectral norms of " + name,
                              name +
                                  ": spectral norm of every weight as a multiple of the first one measured, over steps; "
                                  "layers upward within a role. Light has shrunk, blue is as it was, near black has grown "
                                  "four times or more.",
                              {"stack", "role", "layer", "step", "spectral_norm_growth"});
  figure.show_key = false;
  figure.columns = 2;
  for (const ArmSpectra& arm : all) {
    std::vector<std::int64_t> steps;
    for (const auto& [step, means] : arm.steps) steps.push_back(step);
    const std::size_t columns = std::min(kMapColumns, steps.size());
    const double width =
        columns < 2 ? 1 : static_cast<double>(steps.back() - steps.front()) / static_cast<double>(columns - 1);
    // The order of the blocks goes layer by layer; a map is read role by role.
    std::vector<std::string> roles;
    for (const Place& place : arm.places)
      if (std::find(roles.begin(), roles.end(), place.first) == roles.end()) roles.push_back(place.first);
    Plot plot{.title = data.stacks[arm.stack], .x_label = "steps", .y_label = {}};
    double most = 0;
    for (std::size_t r = 0; r < roles.size(); ++r) {
      std::vector<std::size_t> own;
      for (std::size_t p = 0; p < arm.places.size(); ++p)
        if (arm.places[p].first == roles[r]) own.push_back(p);
      const double height = 0.92 / static_cast<double>(own.size());
      Series tiles{.kind = Series::Kind::tiles,
                   .label = {},
                   .stack = static_cast<int>(arm.stack),
                   .tile_width = width,
                   .tile_height = height};
      for (std::size_t layer = 0; layer < own.size(); ++layer) {
        const double y = static_cast<double>(r) - 0.46 + height * (static_cast<double>(layer) + 0.5);
        double start = kNan;
        for (std::size_t c = 0; c < columns; ++c) {
          double sum = 0, n = 0;
          const std::size_t begin = c * steps.size() / columns, end = (c + 1) * steps.size() / columns;
          for (std::size_t i = begin; i < end; ++i) {
            const double norm = arm.steps.at(steps[i])[own[layer]].at(0);
            if (!(norm > 0)) continue;
            if (std::isnan(start)) start = norm;
            sum += norm / start;
            n += 1;
          }
          if (n == 0) continue;
          const double x = static_cast<double>(steps[begin] + steps[end - 1]) / 2;
          most = std::max(most, sum / n);
          tiles.points.push_back({x, y, sum / n});
          figure.data.add({data.stacks[arm.stack], roles[r], arm.places[own[layer]].second, x, sum / n});
        }
      }
      plot.series.push_back(std::move(tiles));
      plot.y_ticks.push_back({static_cast<double>(r), roles[r]});
    }
    figure.row_height = std::max<std::size_t>(figure.row_height, 75 + 14 * roles.size());
    figure.plots.push_back(std::move(plot));
    figure.alternative += fmt::format("{}{}: at most {} times the first.", figure.alternative.empty() ? "" : " ",
                                      visible(data.stacks[arm.stack]), significant(most));
  }
  return figure;
}

/// The role of the weight at which a number is largest or smallest, with that number.
struct Extreme {
  double value = kNan;
  std::string role = {};
  void add(double x, const std::string& where, bool larger) {
    if (std::isnan(x) || (!std::isnan(value) && (larger ? x <= value : x >= value))) return;
    value = x;
    role = where;
  }
};

void add_rows(const ReportData& data, std::size_t model, const std::vector<ArmSpectra>& all, Table& table) {
  for (const ArmSpectra& arm : all) {
    Extreme norm, growth, rank;
    std::vector<double> updates;
    const auto &first = arm.steps.begin()->second, &last = arm.steps.rbegin()->second;
    for (std::size_t p = 0; p < arm.places.size(); ++p) {
      const std::string& role = arm.places[p].first;
      norm.add(last[p].at(0), role, true);
      growth.add(last[p].at(0) / first[p].at(0), role, true);
      rank.add(last[p].at(1), role, false);
      for (const auto& [step, means] : arm.steps)
        if (!std::isnan(means[p].at(2))) updates.push_back(means[p].at(2));
    }
    Value stack = text(stack_label(data, arm.stack));
    stack.key = static_cast<int>(arm.stack);
    stack.value = data.stacks[arm.stack];
    const auto short_number = [](double x) { return std::isnan(x) ? nothing() : Value{significant(x, 3), x}; };
    table.rows.push_back(
        {text(data.models[model]), stack, short_number(norm.value), text(norm.role),
         std::isfinite(growth.value) ? Value{fmt::format("{:.2f}×", growth.value), growth.value} : nothing(),
         text(growth.role), short_number(rank.value), text(rank.role), short_number(median(std::move(updates))),
         count(static_cast<std::int64_t>(arm.runs))});
  }
}

}  // namespace

Content spectra_section(const SectionInput& input) {
  Table table{
      .id = "spectra",
      .caption =
          "Extremes over the weights at the last step measured, at the chosen learning rates; the figures show every "
          "weight.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Largest norm", .numeric = true, .csv_name = "largest_spectral_norm"},
                  {.title = "of", .csv_name = "largest_spectral_norm_role"},
                  {.title = "Largest growth", .numeric = true, .csv_name = "largest_growth"},
                  {.title = "of", .csv_name = "largest_growth_role"},
                  {.title = "Least stable rank", .numeric = true, .csv_name = "least_stable_rank"},
                  {.title = "of", .csv_name = "least_stable_rank_role"},
                  {.title = "Update/weight", .numeric = true, .csv_name = "median_update_to_weight"},
                  {.title = "n", .numeric = true, .csv_name = "n"}},
      .rows = {},
      .notes = {
          "Of each weight the mean over n runs. Growth: spectral norm against the first one measured. Stable rank: ‖W‖²F / "
          "‖W‖²₂. Update/weight: ‖lr·U‖F / ‖W‖F, median over weights and steps."}};
  Content figures;
  for (std::size_t model = 0; model < input.data.models.size(); ++model) {
    const std::vector<ArmSpectra> all = spectra_of(input.data, model);
    if (all.empty()) continue;
    add_rows(input.data, model, all, table);
    for (std::size_t quantity = 0; quantity < kQuantities.size(); ++quantity) {
      Figure figure = spectral_lines(input.data, model, all, quantity);
      if (!figure.plots.empty()) figures.emplace_back(std::move(figure));
    }
    figures.emplace_back(growth_map(input.data, model, all));
  }
  if (table.rows.empty())
    return {
        Paragraph{"No spectral norms were recorded; switch them on with `log: {spectral: {every: 10}}` in the sweep file."}};
  Content content = {std::move(table)};
  for (Block& figure : figures) content.push_back(std::move(figure));
  return content;
}

}  // namespace equisweep
