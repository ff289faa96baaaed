#pragma once
// Fewer points where a plot cannot show them all.

#include <cstddef>
#include <span>
#include <vector>

#include "analysis/report/content.h"

namespace equisweep {

/// Columns that a plot tells apart, a large one and one of a grid: about one for two pixels on a page. A line shows at most
/// two points in each.
inline constexpr std::size_t kPlotColumns = 250, kSmallPlotColumns = 120;

/// The numbers, ascending, of the points that stand for all: the first and the last and, of those that fall into one of
/// `columns` equal parts of the range of x, the lowest y and the highest (of a band the highest `high`), so that no spike is
/// lost, and the first that is not finite, so that a line breaks where it did. All of them where there are no more than two
/// a column.
std::vector<std::size_t> shown_points(std::span<const Series::Point> points, Series::Kind kind = Series::Kind::line,
                                      std::size_t columns = kPlotColumns);

/// Keeps the points that shown_points() names.
void reduce(Series& series, std::size_t columns = kPlotColumns);

}  // namespace equisweep
