// How soon each stack reaches the baseline's final loss, seed by seed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "core/median.h"

namespace equisweep {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// The curve of one run alone; a run without a finite final loss has none.
MeanCurve curve_of(const ReportData& data, const CellRecord& cell) {
  return mean_curve(data, LrPoint{.axes = {}, .cells = {&cell}});
}

/// What the runs of a stack needed to reach their targets, and that over what the baseline's runs needed; infinite for a
/// miss.
struct Needed {
  std::vector<double> own, relative;
  void add(double ours, double theirs) {
    if (!std::isnan(ours)) own.push_back(ours);
    if (ours > 0) relative.push_back(std::isinf(ours) ? kNever : ours / theirs);
  }
};

struct Race {
  Needed steps, tokens, seconds;
  std::size_t runs = 0, reached = 0;
};

void add(Race& race, const std::optional<Reached>& own, const Reached& baseline) {
  const Reached needed = own.value_or(Reached{kNever, kNever, kNever});
  ++race.runs;
  race.reached += own ? 1 : 0;
  race.steps.add(needed.step, baseline.step);
  race.tokens.add(needed.tokens, baseline.tokens);
  race.seconds.add(needed.seconds, baseline.seconds);
}

/// The curves of the baseline on one model, read once for all stacks.
struct Opponents {
  MeanCurve mean;
  std::map<std::int64_t, MeanCurve> by_seed;  // of the runs that have a finite final loss
};

Opponents opponents_of(const ReportData& data, const Arm& baseline) {
  Opponents all{.mean = mean_curve(data, baseline.chosen()), .by_seed = {}};
  for (const CellRecord* cell : baseline.chosen().cells)
    if (std::isfinite(cell->run->final_loss())) all.by_seed.insert_or_assign(cell->seed, curve_of(data, *cell));
  return all;
}

Race race_of(const ReportData& data, const Arm& arm, const Opponents& baseline) {
  Race race;
  if (baseline.mean.points.empty()) return race;
  for (const CellRecord* cell : arm.chosen().cells) {
    if (cell->run->pending()) continue;
    // The baseline's run with the same seed; where there is none, its mean.
    const auto same = baseline.by_seed.find(cell->seed);
    const MeanCurve& opponent = same == baseline.by_seed.end() ? baseline.mean : same->second;
    const double target = opponent.points.back().loss;
    add(race, first_reach(curve_of(data, *cell), target), *first_reach(opponent, target));
  }
  return race;
}

Value amount(double x) {
  if (std::isnan(x)) return nothing();
  return {.shown = std::isinf(x) ? "∞" : grouped(std::llround(x)), .value = x};
}

// The median is that of what was needed, where a miss has its place as the largest; its inverse says how many times sooner.
// A median of inverses would average a miss, 0, with a hit.
Value times(const Needed& needed) {
  const double x = 1 / median(needed.relative);
  if (std::isnan(x)) return nothing();
  return {.shown = x == 0 ? "never" : fmt::format("{:.2f}×", x), .value = x};
}

}  // namespace

Content time_to_target_section(const SectionInput& input) {
  const ReportData& data = input.data;
  if (!data.baseline) return {Paragraph{"No stack is marked as the baseline, so there is no target."}};
  Table table{
      .id = "time-to-target",
      .caption =
          "How soon each stack comes down to the loss at which the baseline's run of the same seed ended: "
          "medians over seeds, and how many times sooner than that run of the baseline.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Reached", .numeric = true, .csv_name = "reached"},
                  {.title = "n", .csv_name = "n", .hidden = true},
                  {.title = "Steps", .numeric = true, .csv_name = "steps"},
                  {.title = "Tokens", .numeric = true, .csv_name = "tokens"},
                  {.title = "Seconds", .numeric = true, .csv_name = "seconds"},
                  {.title = "Steps", .numeric = true, .csv_name = "steps_ratio"},
                  {.title = "Tokens", .numeric = true, .csv_name = "tokens_ratio"},
                  {.title = "Time", .numeric = true, .csv_name = "seconds_ratio"}},
      .rows = {},
      .notes = {"Reached: how many of the runs get there at all. A run that does not, and one that diverged, needs "
                "infinitely many steps and counts in the median. × says how many times sooner than the baseline: "
                "the inverse of the median, over seeds, of the stack's steps, tokens or seconds over the baseline's.",
                "Linear between evaluations. Seconds are training time, the optimizer's and the diagnostics' "
                "included, evaluation left out."}};
  std::map<const Arm*, Opponents> opponents;
  for (const Arm& arm : data.arms) {
    const Arm* baseline = data.baseline_arm(arm.model);
    if (baseline == nullptr || baseline == &arm) continue;
    if (!opponents.contains(baseline)) opponents.emplace(baseline, opponents_of(data, *baseline));
    const Race race = race_of(data, arm, opponents.at(baseline));
    if (race.runs == 0) continue;
    Value stack = text(data.stacks[arm.stack]);
    stack.key = static_cast<int>(arm.stack);
    const double seconds = median(race.seconds.own);
    table.rows.push_back(
        {text(data.models[arm.model]), stack,
         Value{.shown = fmt::format("{} of {}", race.reached, race.runs), .value = static_cast<std::int64_t>(race.reached)},
         count(static_cast<std::int64_t>(race.runs)), amount(median(race.steps.own)), amount(median(race.tokens.own)),
         std::isnan(seconds)   ? nothing()
         : std::isinf(seconds) ? Value{"∞", seconds}
                               : Value{duration(seconds), seconds},
         times(race.steps), times(race.tokens), times(race.seconds)});
  }
  if (table.rows.empty())
    return {Paragraph{"No stack can be timed against the baseline yet: both need a run with a finite final loss."}};
  return {std::move(table)};
}

}  // namespace equisweep
