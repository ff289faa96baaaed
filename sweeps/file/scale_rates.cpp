// The learning rates of a stack times lr_scale.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "optimizers/rules.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

/// lr * scale with 15 significant digits: 0.1 * 3 is the 0.3 that somebody else writes, so the same config has the same id.
double scaled_rate(double lr, double scale) {
  if (scale == 1) return lr;
  const std::string text = fmt::format("{:.15g}", lr * scale);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

void scale_rates(const StackSpec& stack, json& entries, double scale) {
  Problems problems;
  for (auto& [name, entry] : entries.items()) {
    const auto in_file = std::find_if(stack.entries.begin(), stack.entries.end(),
                                      [&, &key = name](const StackEntry& e) { return e.name == key; });
    const SourcePosition where = in_file == stack.entries.end() ? stack.where : in_file->where;
    const std::string context = fmt::format("stacks.{}.{}", stack.name, name);
    json& rate = entry.at("lr");
    const double given = rate.get<double>(), lr = scaled_rate(given, scale);
    if (!std::isfinite(lr) || (lr == 0) != (given == 0)) {
      problems.add(where, fmt::format("{}: lr {} times lr_scale {} is out of range", context, given, scale),
                   "a positive, finite learning rate");
      continue;
    }
    rate = lr;
    try {
      check_rate(entry);
    } catch (const UsageError& e) {
      for (const Problem& p : e.problems())
        problems.add(where, fmt::format("{}: lr {} times lr_scale {}: {}", context, given, scale, p.what), p.allowed);
    }
  }
  problems.throw_if_any();
}

}  // namespace equisweep
