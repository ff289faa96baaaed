#pragma once
// Where an axis has ticks, and what stands beside them.

#include <cstddef>
#include <vector>

#include "analysis/report/content.h"

namespace equisweep {

/// At most `most` (and, where numbers allow, at least two) multiples of 1, 2 or 5 times a power of ten in [low, high], with
/// as many digits as tell them apart: "0.02", "150k", "2.5M".
std::vector<Plot::Tick> linear_ticks(double low, double high, std::size_t most);

/// At most `most` powers of ten in [low, high] > 0, "10⁻⁷"; where there are fewer than two, 1, 2 and 5
/// times powers of ten, or multiples as above.
std::vector<Plot::Tick> log_ticks(double low, double high, std::size_t most);

}  // namespace equisweep
