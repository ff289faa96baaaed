#include "analysis/report/format.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "analysis/report/escape.h"

namespace equisweep {
namespace {

constexpr const char* kDash = "–";

std::string with_minus(std::string digits) {
  if (!digits.empty() && digits.front() == '-') {
    // "-0.0000" is zero.
    if (digits.find_first_of("123456789") == std::string::npos) return digits.substr(1);
    digits.replace(0, 1, "−");
  }
  return digits;
}

}  // namespace

std::string fixed(double x, int decimals) {
  if (std::isnan(x)) return kDash;
  if (std::isinf(x)) return x > 0 ? "∞" : "−∞";
  if (std::abs(x) >= 1e7) return with_minus(fmt::format("{:.3g}", x));
  return with_minus(fmt::format("{:.{}f}", x, decimals));
}

std::string signed_fixed(double x, int decimals) {
  const std::string digits = fixed(x, decimals);
  const bool zero = digits.find_first_of("123456789") == std::string::npos;
  return x > 0 && std::isfinite(x) && !zero ? "+" + digits : digits;
}

std::string significant(double x, int digits) {
  if (!std::isfinite(x)) return fixed(x, digits);
  return with_minus(fmt::format("{:.{}g}", x, digits));
}

std::string grouped(std::int64_t x) {
  std::string digits = fmt::format("{}", x);
  const std::size_t sign = x < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > sign + 3;) digits.insert(i -= 3, "\u202F");
  return with_minus(digits);
}

std::string plural(std::size_t n, const std::string& noun) { return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s"); }

std::string and_list(const std::vector<std::string>& parts) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    out.append(i == 0 ? "" : i + 1 < parts.size() ? ", " : " and ").append(parts[i]);
  return out;
}

std::string p_value(double p) { return p < 1e-4 ? "p < 0.0001" : fmt::format("p = {:.2g}", p); }

std::string with_interval(const Interval& i, int decimals) {
  if (std::isnan(i.half_width)) return fixed(i.mean, decimals);
  if (i.bounds)
    return fmt::format("{} ({} to {})", fixed(i.mean, decimals), fixed(i.low(), decimals), fixed(i.high(), decimals));
  return fixed(i.mean, decimals) + " ± " + fixed(i.half_width, decimals);
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return kDash;
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Value text(std::string shown) { return {.shown = visible(shown, 300), .value = shown}; }
Value count(std::int64_t x) { return {.shown = grouped(x), .value = x}; }
Value number(double x, int decimals) {
  if (std::isnan(x)) return nothing();
  return {.shown = fixed(x, decimals), .value = x};
}
Value nothing() { return {.shown = kDash, .value = std::monostate{}}; }
Value interval_value(const Interval& i, int decimals) {
  Value value = number(i.half_width, decimals);
  if (i.bounds && !std::isnan(i.half_width))
    value.shown = fmt::format("{} to {}", fixed(i.low(), decimals), fixed(i.high(), decimals));
  return value;
}

std::string interval_title(const IntervalMethod& method) { return method.bootstrap() ? "95% interval" : "±\u00A095%"; }

std::string interval_name(const IntervalMethod& method) {
  if (!method.bootstrap()) return "95% t interval";
  return fmt::format("95% bootstrap interval (BCa, {} resamples, seed {})", method.resamples, method.seed);
}

}  // namespace equisweep
