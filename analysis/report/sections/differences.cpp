// The verdict as a picture: each stack's difference from the baseline with its interval, a small plot a model.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

/// The results of a model, the first at the top, around the vertical line of no difference.
Plot differences_on(const ReportData& data, const std::vector<const StackResult*>& results) {
  Plot plot{.title = visible(data.models[results.front()->arm->model]),
            .x_label = "difference from the baseline, nats per token"};
  const auto count = static_cast<double>(results.size());
  plot.series.push_back({.points = {{0, 0.4, 0}, {0, count + 0.6, 0}}});
  for (std::size_t i = 0; i < results.size(); ++i) {
    const StackResult& r = *results[i];
    const Interval& d = r.comparison.difference;
    const double y = count - static_cast<double>(i);
    const int stack = static_cast<int>(r.arm->stack);
    plot.y_ticks.push_back({y, data.stacks[r.arm->stack]});
    if (std::isfinite(d.low()) && std::isfinite(d.high()))
      plot.series.push_back({.stack = stack, .points = {{d.low(), y, 0}, {d.high(), y, 0}}});
    plot.series.push_back({.kind = Series::Kind::points, .stack = stack, .points = {{d.mean, y, 0}}});
  }
  return plot;
}

}  // namespace

std::optional<Figure> differences_figure(const SectionInput& input) {
  const ReportData& data = input.data;
  Figure figure{.id = "differences",
                .title = "Difference of the final validation loss from the tuned baseline",
                .columns = 2,
                .row_height = 165,
                .same_ranges = true,
                .data = {.columns = {"model", "stack", "difference_nats", "low_nats", "high_nats", "n", "p_holm"}}};
  std::size_t most = 0, least = SIZE_MAX;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    std::vector<const StackResult*> results;
    for (const StackResult& r : input.results)
      if (r.arm->model == model && std::isfinite(r.comparison.difference.mean)) results.push_back(&r);
    if (results.empty()) continue;
    for (const StackResult* r : results) {
      const Interval& d = r->comparison.difference;
      const auto n = static_cast<std::int64_t>(d.n);
      figure.data.add({data.models[model], data.stacks[r->arm->stack], d.mean, d.low(), d.high(), n, r->adjusted_p});
      most = std::max(most, d.n), least = std::min(least, d.n);
      figure.alternative +=
          fmt::format("{}{} on {}: {} ({} to {}).", figure.alternative.empty() ? "" : " ",
                      visible(data.stacks[r->arm->stack]), visible(data.models[model]), signed_fixed(d.mean, kLossDecimals),
                      signed_fixed(d.low(), kLossDecimals), signed_fixed(d.high(), kLossDecimals));
    }
    figure.plots.push_back(differences_on(data, results));
  }
  if (figure.plots.empty()) return std::nullopt;
  figure.caption = fmt::format(
      "Stack minus baseline, nats per token, n = {}. Circles: means; lines: 95% intervals, each for itself, before Holm's "
      "correction. Left of the vertical line a stack is better than the baseline.",
      most == least ? fmt::format("{}", most) : fmt::format("{} to {}", least, most));
  return figure;
}

}  // namespace equisweep
