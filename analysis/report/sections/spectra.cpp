// Spectral norms of the weights by layer over steps, at the chosen learning rates.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

constexpr std::size_t kPointsPerLine = 400;
constexpr double kLogFactor = 20;  // a wider span of norms gets a log axis

// The lowest and the highest point of each of kPointsPerLine / 2 stretches: spikes stay.
std::vector<Series::Point> thinned(const std::vector<Series::Point>& points) {
  if (points.size() <= kPointsPerLine) return points;
  std::vector<Series::Point> out;
  const std::size_t stretches = kPointsPerLine / 2;
  for (std::size_t i = 0; i < stretches; ++i) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(i * points.size() / stretches);
    const auto end = points.begin() + static_cast<std::ptrdiff_t>((i + 1) * points.size() / stretches);
    auto [low, high] = std::minmax_element(begin, end, [](const auto& a, const auto& b) { return a.y < b.y; });
    if (high < low) std::swap(low, high);
    out.push_back(*low);
    if (high != low) out.push_back(*high);
  }
  return out;
}

struct Mean {
  double sum = 0;
  std::size_t n = 0;
};

struct Key {
  std::string role;
  std::int64_t layer = -1;
  std::size_t stack = 0;
  auto operator<=>(const Key&) const = default;
};

using Lines = std::map<Key, std::map<std::int64_t, Mean>>;  // by step

void add_run(SQLite::Database& db, const RunRecord& run, std::size_t stack, Lines& lines, std::vector<std::string>& roles) {
  SQLite::Statement query(db,
                          "SELECT b.role, b.layer, s.step, s.spectral_norm FROM block_stats s "
                          "JOIN live_attempts a ON a.run = s.run AND a.attempt = s.attempt "
                          "JOIN blocks b ON b.run = s.run AND b.block = s.block "
                          "WHERE s.run = ? AND s.step > a.after_step AND (a.until_step IS NULL OR s.step <= a.until_step) "
                          "AND s.spectral_norm IS NOT NULL AND b.role <> 'vector' ORDER BY b.block, s.step");
  query.bind(1, run.run);
  while (query.executeStep()) {
    const std::string role = query.getColumn(0).getString();
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
    const double norm = query.getColumn(3).getDouble();
    if (!std::isfinite(norm)) continue;
    Mean& mean = lines[{role, query.getColumn(1).getInt64(), stack}][query.getColumn(2).getInt64()];
    mean.sum += norm;
    ++mean.n;
  }
}

std::optional<Figure> norm_curves(const ReportData& data, std::size_t model) {
  Lines lines;
  std::vector<std::string> roles;
  std::set<std::size_t> stacks;
  std::string seeds;
  for (const Arm& arm : data.arms) {
    if (arm.model != model) continue;
    std::size_t n = 0;
    for (const CellRecord* cell : arm.chosen().cells) {
      if (!std::isfinite(cell->run->final_loss())) continue;
      add_run(data.db(), *cell->run, arm.stack, lines, roles);
      ++n;
    }
    if (n > 0) seeds += fmt::format("{}{} n = {}", seeds.empty() ? "" : ", ", visible(data.stacks[arm.stack]), n);
  }
  if (lines.empty()) return std::nullopt;
  std::int64_t last_layer = 0;
  for (const auto& [key, line] : lines) last_layer = std::max(last_layer, key.layer);

  const std::string name = visible(data.models[model]);
  Figure figure{.id = "spectra-" + file_stem(data.models[model]),
                .title = "Spectral norms of the weights of " + name,
                .caption = fmt::format("{}: largest singular value of every weight over steps; means over "
                                       "seeds ({}). One line a layer, from faint (first) to full (last of {}).",
                                       name, seeds, last_layer + 1),
                .alternative = {},
                .columns = 3,
                .show_key = true,
                .data = {.id = {},
                         .caption = {},
                         .columns = {{"Stack", false, "stack"},
                                     {"Role", false, "role"},
                                     {"layer", true, "layer"},
                                     {"step", true, "step"},
                                     {"spectral norm", true, "spectral_norm_mean"},
                                     {"n", true, "n"}},
                         .rows = {},
                         .notes = {}}};
  for (const std::string& role : roles) {
    Plot plot{.title = role, .x_label = "steps", .y_label = {}};
    double largest = 0, smallest = std::numeric_limits<double>::infinity();
    for (const auto& [key, line] : lines) {
      if (key.role != role) continue;
      Series series{.label = {}, .stack = static_cast<int>(key.stack)};
      if (key.layer >= 0 && last_layer > 0)
        series.strength = 0.35 + 0.65 * static_cast<double>(key.layer) / static_cast<double>(last_layer);
      for (const auto& [step, mean] : line) {
        const double value = mean.sum / static_cast<double>(mean.n);
        series.points.push_back({static_cast<double>(step), value});
        largest = std::max(largest, value);
        smallest = std::min(smallest, value);
        figure.data.rows.push_back({text(data.stacks[key.stack]), text(role), count(key.layer), count(step),
                                    number(value, 4), count(static_cast<std::int64_t>(mean.n))});
      }
      series.points = thinned(series.points);
      plot.series.push_back(std::move(series));
    }
    figure.alternative +=
        fmt::format("{}{}: at most {}.", figure.alternative.empty() ? "" : " ", visible(role), significant(largest));
    figure.plots.push_back(std::move(plot));
  }
  return figure;
}

}  // namespace

Content spectra_section(const SectionInput& input) {
  Content content;
  for (std::size_t model = 0; model < input.data.models.size(); ++model) {
    if (auto figure = norm_curves(input.data, model)) content.emplace_back(std::move(*figure));
  }
  if (content.empty())
    content.emplace_back(
        Paragraph{"No spectral norms were recorded; switch them on with `log: {spectral: {every: 10}}` in the sweep file."});
  return content;
}

}  // namespace equisweep
