#pragma once
// The median of a list.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace equisweep {

/// The one in the middle, or the mean of the two there; infinities count, none of the values is NaN. NaN of an empty list.
inline double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : values[half - 1] / 2 + values[half] / 2;
}

}  // namespace equisweep
