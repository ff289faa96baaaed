#include "analysis/report/reduce.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace equisweep {

std::vector<std::size_t> shown_points(std::span<const Series::Point> points, Series::Kind kind, std::size_t columns) {
  std::vector<std::size_t> out;
  if (points.size() <= 2 * columns) {
    for (std::size_t i = 0; i < points.size(); ++i) out.push_back(i);
    return out;
  }
  const auto [left, right] =
      std::minmax_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  const double begin = left->x, width = (right->x - begin) / static_cast<double>(columns);
  const auto top = [&](std::size_t i) { return kind == Series::Kind::band ? points[i].high : points[i].y; };
  struct Kept {
    std::optional<std::size_t> low, high, gap;
  };
  std::vector<Kept> kept(columns);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double part = (points[i].x - begin) / width;  // NaN where all x are the same
    Kept& column = kept[part >= 0 ? static_cast<std::size_t>(std::min(part, static_cast<double>(columns - 1))) : 0];
    if (!std::isfinite(points[i].y)) {
      if (!column.gap) column.gap = i;
      continue;
    }
    if (!column.low || points[i].y < points[*column.low].y) column.low = i;
    if (!column.high || top(i) > top(*column.high)) column.high = i;
  }
  out = {0, points.size() - 1};
  for (const Kept& column : kept) {
    for (const auto& i : {column.low, column.high, column.gap})
      if (i) out.push_back(*i);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void reduce(Series& series, std::size_t columns) {
  std::vector<Series::Point> points;
  for (const std::size_t i : shown_points(series.points, series.kind, columns)) points.push_back(series.points[i]);
  series.points = std::move(points);
}

}  // namespace equisweep
