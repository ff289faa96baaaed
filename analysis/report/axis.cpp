#include "analysis/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace equisweep {
namespace {

std::string without_zeros(std::string digits) {
  if (digits.find('.') == std::string::npos) return digits;
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
  return digits;
}

// A true minus sign, and no negative zero.
std::string with_minus_sign(const std::string& digits) {
  if (digits.empty() || digits.front() != '-') return digits;
  const bool zero = digits.find_first_of("123456789") == std::string::npos;
  return zero ? digits.substr(1) : "−" + digits.substr(1);
}

std::string tick_label(double x, double step, double largest) {
  struct Unit {
    double size;
    const char* name;
  };
  static constexpr std::array<Unit, 3> units = {{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  if (largest >= 1e13 || (largest > 0 && largest < 1e-3)) {
    const int digits = static_cast<int>(std::floor(std::log10(largest)) - std::floor(std::log10(step) + 1e-9)) + 1;
    return with_minus_sign(fmt::format("{:.{}g}", x, std::clamp(digits, 1, 15)));
  }
  if (largest >= 1e4) {
    for (const Unit& unit : units)
      if (largest >= unit.size)
        return with_minus_sign(x == 0 ? "0" : without_zeros(fmt::format("{:.6f}", x / unit.size)) + unit.name);
  }
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  return with_minus_sign(fmt::format("{:.{}f}", x, decimals));
}

std::string power_label(int exponent) {
  static constexpr std::array<const char*, 10> digits = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  if (exponent == 0) return "1";
  if (exponent == 1) return "10";
  std::string out = "10";
  for (const char c : fmt::format("{}", exponent)) out += c == '-' ? "⁻" : digits[static_cast<std::size_t>(c - '0')];
  return out;
}

}  // namespace

std::vector<Plot::Tick> linear_ticks(double low, double high, std::size_t most) {
  std::vector<Plot::Tick> ticks;
  if (!(low < high) || !std::isfinite(high - low) || most == 0) return ticks;
  const int power = static_cast<int>(std::floor(std::log10((high - low) / static_cast<double>(most))));
  for (int e = power; e <= power + 2; ++e) {
    for (const int digit : {1, 2, 5}) {
      // Multiples of a number that is exact, or divided by one: 3 * 0.1 is not 0.3, 3 / 10 is.
      const double unit = std::pow(10, std::abs(e));
      const auto value = [&](double n) { return e < 0 ? n * digit / unit : n * digit * unit; };
      const double first = std::ceil(low / value(1) - 1e-9), last = std::floor(high / value(1) + 1e-9);
      if (!(last - first < static_cast<double>(most)) || !(std::abs(last) < 1e15)) continue;
      const double largest = std::max(std::abs(value(first)), std::abs(value(last)));
      for (double n = first; n <= last; ++n) ticks.push_back({value(n), tick_label(value(n), value(1), largest)});
      return ticks;
    }
  }
  return ticks;
}

std::vector<Plot::Tick> log_ticks(double low, double high, std::size_t most) {
  if (!(low > 0) || !(low < high) || !std::isfinite(high)) return {};
  const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9)),
            last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  if (last - first < 1) {
    std::vector<Plot::Tick> ticks;  // 2, 5, 10, 20: evenly apart on such an axis
    for (int e = first - 1; e <= last; ++e) {
      for (const int digit : {1, 2, 5}) {
        const double at = e < 0 ? digit / std::pow(10, -e) : digit * std::pow(10, e);
        if (at < low || at > high) continue;
        ticks.push_back(
            {at, at < 1e-3 || at >= 1e4 ? fmt::format("{}·{}", digit, power_label(e)) : fmt::format("{:g}", at)});
      }
    }
    return ticks.size() < 2 || ticks.size() > most + 1 ? linear_ticks(low, high, most) : ticks;
  }
  const int every = (last - first) / static_cast<int>(most) + 1;
  std::vector<Plot::Tick> ticks;
  for (int e = first; e <= last; ++e) {
    if ((e - last) % every == 0) ticks.push_back({std::pow(10, e), power_label(e)});
  }
  return ticks;
}

}  // namespace equisweep
