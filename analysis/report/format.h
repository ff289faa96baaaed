#pragma once
// Numbers and words as reports show them; the same in every locale.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/report/content.h"
#include "analysis/statistics/bootstrap.h"
#include "analysis/statistics/statistics.h"

namespace equisweep {

std::string fixed(double x, int decimals);          ///< "-0.0123" with a true minus sign; "∞" for infinity, "–" for NaN
std::string signed_fixed(double x, int decimals);   ///< "+0.0123"
std::string significant(double x, int digits = 3);  ///< "0.003", "1.5e-06"
std::string grouped(std::int64_t x);                ///< "1 228 800" with narrow spaces
std::string plural(std::size_t n, const std::string& noun);   ///< "1 run", "2 runs"
std::string and_list(const std::vector<std::string>& parts);  ///< "a, b and c"
std::string p_value(double p);                                ///< "p = 0.0028", "p < 0.0001"
/// "3.4120 ± 0.0031", or "3.4120 (3.4102 to 3.4147)" of a bootstrap; the mean alone where n = 1.
std::string with_interval(const Interval& i, int decimals);
std::string duration(double seconds);  ///< "4.2 s", "3 min 20 s", "2 h 05 min"

Value text(std::string shown);
Value count(std::int64_t x);
Value number(double x, int decimals);  ///< NaN is shown as a dash and empty in the CSV file
Value nothing();                       ///< a dash
/// "0.0031", half of a symmetric interval, or "3.4102 to 3.4147" of a bootstrap; in the CSV file half its width.
Value interval_value(const Interval& i, int decimals);

std::string interval_title(const IntervalMethod& method);  ///< the head of such a column: "± 95%" or "95% interval"
/// "95% t interval", "95% bootstrap interval (BCa, 2000 resamples, seed 0)".
std::string interval_name(const IntervalMethod& method);

inline constexpr int kLossDecimals = 4;

}  // namespace equisweep
