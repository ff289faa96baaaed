// Do the updates keep the symmetry that their rule claims, on the gradients of the runs?
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/reduce.h"
#include "analysis/report/section.h"
#include "core/median.h"

namespace equisweep {
namespace {

// Verdicts of an audit (analysis/audit/statistic.h), the worst last.
constexpr std::array<std::string_view, 5> kVerdicts = {"exact", "holds", "undecided", "inspect", "broken"};

constexpr std::size_t kAuditColumns = kSmallPlotColumns / 2;  // circles are wider than lines

struct Audits {
  std::vector<double> errors, floors, horizontality;
  double worst_ratio = 0;
  std::size_t verdict = 0, claimed = 0;
  double final_losses = 0;
  std::int64_t runs = 0;
  std::vector<Series::Point> points;  // error by step
};

struct AuditKey {
  std::size_t stack = 0;
  std::string role, group;
  auto operator<=>(const AuditKey&) const = default;
};

// Of what was measured: an audit may have no floor.
double median_measured(std::vector<double> values) {
  std::erase_if(values, [](double x) { return std::isnan(x); });
  return median(std::move(values));
}

double real_at(SQLite::Statement& query, int column) {
  return query.getColumn(column).isNull() ? kNan : query.getColumn(column).getDouble();
}

void add_audits(const ReportData& data, const CellRecord& cell, std::map<AuditKey, Audits>& all) {
  std::map<std::int64_t, std::string> roles;
  SQLite::Statement blocks(data.db(*cell.run), "SELECT block, role FROM blocks WHERE run = ?");
  blocks.bind(1, cell.run->run);
  while (blocks.executeStep()) roles.emplace(blocks.getColumn(0).getInt64(), blocks.getColumn(1).getString());
  std::set<AuditKey> seen;
  data.visit(*cell.run,
             "SELECT block, \"group\", step, error, floor, ratio, horizontality, verdict, claimed FROM equivariance" +
                 std::string(kLiveRows) + "ORDER BY step, block",
             [&](SQLite::Statement& row) {
               const auto role = roles.find(row.getColumn(0).getInt64());
               if (role == roles.end()) return;
               const AuditKey key{cell.stack, role->second, row.getColumn(1).getString()};
               Audits& audits = all[key];
               const double error = real_at(row, 3), ratio = real_at(row, 5), along = real_at(row, 6);
               if (seen.insert(key).second) ++audits.runs, audits.final_losses += cell.run->final_loss();
               audits.errors.push_back(std::isnan(error) ? INFINITY : error);
               audits.floors.push_back(real_at(row, 4));
               if (!std::isnan(along)) audits.horizontality.push_back(along);
               audits.worst_ratio = std::max(audits.worst_ratio, std::isnan(ratio) ? INFINITY : ratio);
               const auto verdict = std::find(kVerdicts.begin(), kVerdicts.end(), row.getColumn(7).getString());
               audits.verdict = std::max(audits.verdict, static_cast<std::size_t>(verdict - kVerdicts.begin()));
               audits.claimed += row.getColumn(8).getInt() == 1 ? 1 : 0;
               audits.points.push_back({.x = row.getColumn(2).getDouble(), .y = error});
             });
}

/// "rows.orthogonal" for that rung, and "claimed" for what each rule claims.
std::string kind_of(const std::string& group) {
  return group.starts_with("rows.") || group.starts_with("features.") ? group : "claimed";
}

Figure violation_figure(const ReportData& data, std::size_t model, const std::map<AuditKey, Audits>& all) {
  const std::string name = visible(data.models[model]);
  // Several groups are compared with each other; where there is one, the roles are.
  std::vector<std::string> kinds, roles;
  const auto remember = [](std::vector<std::string>& names, const std::string& one) {
    if (std::find(names.begin(), names.end(), one) == names.end()) names.push_back(one);
  };
  for (const auto& [key, audits] : all) remember(kinds, kind_of(key.group)), remember(roles, key.role);
  const bool by_group = kinds.size() > 1;
  const char* const of = by_group ? "group" : "role";
  Figure figure =
      small_plots("equivariance-" + file_stem(data.models[model]), "Equivariance error of the updates on " + name,
                  fmt::format("{}: relative equivariance error of each audit, by {}, on a logarithmic axis. Dashed: the "
                              "highest rounding floor of the {}, that is what the arithmetic alone would show. An error of "
                              "zero is drawn at the bottom.",
                              name, of, of),
                  {"stack", "role", "group", "step", "relative_error", "floor"});
  figure.same_ranges = true;
  bool thinned = false;
  const auto panel_of = [&](const AuditKey& key) { return by_group ? kind_of(key.group) : key.role; };
  for (const std::string& panel : by_group ? kinds : roles) {
    Plot plot{.title = panel, .x_label = "steps", .y_label = {}, .log_y = true};
    double floor = 0, worst = 0, least = INFINITY;
    for (const auto& [key, audits] : all) {
      if (panel_of(key) != panel) continue;
      for (const auto* values : {&audits.errors, &audits.floors})
        for (const double x : *values)
          if (x > 0) least = std::min(least, x);
    }
    for (const auto& [key, audits] : all) {
      if (panel_of(key) != panel) continue;
      for (std::size_t i = 0; i < audits.points.size(); ++i) {
        if (std::isfinite(audits.floors[i])) floor = std::max(floor, audits.floors[i]);
        worst = std::max(worst, audits.points[i].y);
      }
      Series series{.kind = Series::Kind::points, .label = {}, .stack = static_cast<int>(key.stack)};
      const auto shown = shown_points(audits.points, series.kind, kAuditColumns);
      thinned = thinned || shown.size() < audits.points.size();
      for (const std::size_t i : shown) {
        Series::Point p = audits.points[i];
        figure.data.add({data.stacks[key.stack], key.role, key.group, static_cast<std::int64_t>(p.x), audits.errors[i],
                         audits.floors[i]});
        if (p.y == 0) p.y = std::isfinite(least) ? least / 2 : 1e-18;
        series.points.push_back(p);
      }
      plot.series.push_back(std::move(series));
    }
    if (floor > 0) plot.level = Plot::Level{floor, ""};
    figure.alternative +=
        fmt::format("{}{}: at most {}.", figure.alternative.empty() ? "" : " ", visible(panel), significant(worst));
    figure.plots.push_back(std::move(plot));
  }
  if (thinned)
    figure.caption += fmt::format(
        " Of many audits of a stack and role the least and the largest error in each of {} "
        "stretches of steps are drawn.",
        kAuditColumns);
  return figure;
}

}  // namespace

Content equivariance_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Table table{
      .id = "equivariance",
      .caption =
          "Audits during training at the chosen learning rates: how far an update is from moving with the "
          "symmetry, in units of its own rounding.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Role", .csv_name = "role"},
                  {.title = "Group", .csv_name = "group"},
                  {.title = "Claimed", .csv_name = "claimed"},
                  {.title = "Verdict", .csv_name = "worst_verdict"},
                  {.title = "Error", .numeric = true, .csv_name = "median_relative_error"},
                  {.title = "Floor", .numeric = true, .csv_name = "median_floor"},
                  {.title = "Worst ratio", .numeric = true, .csv_name = "worst_ratio"},
                  {.title = "Horizontality", .numeric = true, .csv_name = "worst_horizontality"},
                  {.title = "Audits", .numeric = true, .csv_name = "audits", .hidden = true},
                  {.title = "n", .numeric = true, .csv_name = "n"},
                  {.title = "Final loss", .numeric = true, .csv_name = "mean_val_loss_nats"}},
      .rows = {},
      .notes = {"Error: ‖Φ(gS, gG) − gΦ(S, G)‖ / ‖Φ(S, G)‖, median over audits. Floor: the same for a perturbation of the "
                "size of a rounding. Worst ratio: largest error in units of its floor; below 5 the symmetry holds, "
                "above 30 it is broken. Horizontality: largest share of an update along the direction that the "
                "softmax does not see. n: runs; the loss is the mean of theirs."}};
  Content content;
  bool all_claimed = true;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    std::map<AuditKey, Audits> all;
    for (const Arm& arm : data.arms) {
      if (arm.model != model) continue;
      for (const CellRecord* cell : arm.chosen().cells) add_audits(data, *cell, all);
    }
    if (all.empty()) continue;
    for (const auto& [key, audits] : all) {
      Value stack = text(stack_label(data, key.stack));
      stack.key = static_cast<int>(key.stack);
      stack.value = data.stacks[key.stack];
      const double error = median(audits.errors), floor = median_measured(audits.floors);
      const auto worst = std::max_element(audits.horizontality.begin(), audits.horizontality.end());
      const auto short_number = [](double x) { return std::isnan(x) ? nothing() : Value{significant(x, 3), x}; };
      const std::string verdict(audits.verdict < kVerdicts.size() ? kVerdicts[audits.verdict] : "unknown");
      Value judged = text(verdict);
      all_claimed = all_claimed && audits.claimed > 0;
      judged.strong = verdict == "broken" && audits.claimed > 0;
      table.rows.push_back({text(data.models[model]), stack, text(key.role), text(key.group),
                            text(audits.claimed > 0 ? "yes" : "no"), judged, short_number(error), short_number(floor),
                            short_number(audits.worst_ratio),
                            worst == audits.horizontality.end() ? nothing() : short_number(*worst),
                            count(static_cast<std::int64_t>(audits.errors.size())), count(audits.runs),
                            number(audits.final_losses / static_cast<double>(audits.runs), kLossDecimals)});
    }
    content.emplace_back(violation_figure(data, model, all));
  }
  if (table.rows.empty()) {
    content.emplace_back(
        Paragraph{"No audits during training were recorded; switch them on with `log: {equivariance: {every: 50}}` in the "
                  "sweep file."});
  } else {
    if (all_claimed) {
      const auto claimed =
          std::find_if(table.columns.begin(), table.columns.end(), [](const Column& c) { return c.csv_name == "claimed"; });
      claimed->hidden = true;
      table.notes.push_back("Each of these symmetries is claimed by the rule that makes the updates.");
    }
    content.insert(content.begin(), std::move(table));
  }
  for (Block& block : audit_tables(data)) content.push_back(std::move(block));
  return content;
}

}  // namespace equisweep
