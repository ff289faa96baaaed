// One value, a list, or a rule that makes a list: the axes of a sweep.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "sweeps/file/grammar.h"

namespace equisweep {

using nlohmann::json;

namespace {

constexpr double kMaxValues = 100'000;

/// 15 significant digits: the value that a person would have written.
double rounded(double x) {
  const std::string text = fmt::format("{:.15g}", x);
  std::from_chars(text.data(), text.data() + text.size(), x);
  return x;
}

/// The numbers that `generator` makes of `args`; fills `wrong` if they do not fit.
std::vector<double> generate(const std::string& generator, const std::vector<double>& args, std::string& wrong) {
  std::vector<double> values;
  const double a = args[0], b = args[1];
  const auto fits = [&](double count) {
    if (count > kMaxValues) wrong = fmt::format("{:.0f} values; at most {:.0f} can stand in a list", count, kMaxValues);
    return count <= kMaxValues;
  };
  if (generator == "range") {
    if (a != std::floor(a) || b != std::floor(b) || a > b) {
      wrong = "range needs integers a <= b";
    } else if (fits(b - a + 1)) {
      for (double x = a; x <= b; ++x) values.push_back(x);
    }
  } else if (generator == "log2") {
    const double octaves = a > 0 && b >= a ? std::round(std::log2(b / a)) : -1;
    if (octaves < 0 || std::fabs(a * std::exp2(octaves) - b) > 1e-12 * b) {
      wrong = "log2 needs 0 < a <= b, and b = a, 2a, 4a, ...";
    } else {
      for (double k = 0; k <= octaves; ++k) values.push_back(rounded(a * std::exp2(k)));
    }
  } else {
    const double n = args[2];
    if (!(a > 0) || !(b > a) || n < 2 || n != std::floor(n)) {
      wrong = "log needs 0 < a < b and an integer n >= 2";
    } else if (fits(n)) {
      for (double k = 0; k < n; ++k) values.push_back(rounded(a * std::exp2(std::log2(b / a) * k / (n - 1))));
    }
  }
  return values;
}

std::vector<json> read_generator(const Node& node, const Field& field, const std::string& path, Problems& problems) {
  static const std::string kAllowed = "a value, a list, {log2: [a, b]}, {log: [a, b, n]} or {range: [a, b]}";
  const auto refuse = [&](const SourcePosition& where, const std::string& what) {
    problems.add(where, fmt::format("{}: {}", path, what), kAllowed);
    return std::vector<json>{};
  };
  if (node.members.size() != 1) return refuse(node.where, "a map that is not a rule for a list");
  const auto& [name, where, value] = node.members.front();
  const std::size_t count = name == "log" ? 3 : name == "log2" || name == "range" ? 2 : 0;
  if (count == 0) return refuse(where, fmt::format("unknown rule for a list '{}'", printable(name, 60)));
  if (value.kind == NodeKind::broken) return {};
  if (value.kind != NodeKind::sequence || value.items.size() != count)
    return refuse(value.where, fmt::format("{} needs a list of {} numbers", name, count));
  std::vector<double> args;
  for (const Node& item : value.items) {
    if (item.kind == NodeKind::broken) return {};
    if (item.kind != NodeKind::number) return refuse(item.where, fmt::format("{} is not a number", describe(item)));
    args.push_back(scalar_to_json(item).get<double>());
  }
  std::string wrong;
  std::vector<json> values;
  for (const double x : generate(name, args, wrong)) {
    const json number =
        field.kind == FieldKind::integer && x == std::floor(x) ? json(static_cast<std::int64_t>(x)) : json(x);
    if (const std::string bad = check_value(field, number); !bad.empty()) {
      problems.add(value.where, fmt::format("{}: {}", path, bad), allowed_values(field));
      return {};
    }
    values.push_back(number);
  }
  if (!wrong.empty()) return refuse(value.where, wrong);
  return values;
}

bool has_lists(const Node& node) {
  return std::any_of(node.items.begin(), node.items.end(), [](const Node& item) { return item.kind == NodeKind::sequence; });
}

}  // namespace

std::vector<json> read_values(const Node& node, const Field& field, const std::string& path, Problems& problems) {
  if (node.kind == NodeKind::map && (field.kind == FieldKind::number || field.kind == FieldKind::integer))
    return read_generator(node, field, path, problems);
  std::vector<json> values;
  if (node.kind != NodeKind::sequence ||
      ((field.kind == FieldKind::number_list || field.kind == FieldKind::name_list) && !has_lists(node))) {
    if (json value = read_value(node, field, path, problems); !value.is_null()) values.push_back(std::move(value));
    return values;
  }
  if (node.items.empty()) problems.add(node.where, fmt::format("{}: an empty list", path), "one value or more");
  std::unordered_set<std::string> seen;
  for (const Node& item : node.items) {
    json value = read_value(item, field, path, problems);
    if (value.is_null()) continue;
    if (!seen.insert(value.dump()).second) {
      problems.add(item.where, fmt::format("{}: {} stands in the list twice", path, describe(item)), "each value once");
      continue;
    }
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace equisweep
