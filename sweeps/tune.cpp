#include "sweeps/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>

namespace equisweep {

using nlohmann::json;

namespace {

/// The rates of a trial: lr_scale, then its axes that are rates by path. The lower one wins a tie.
std::vector<double> rates(const Trial& trial) {
  std::vector<double> values = {trial.lr_scale};
  for (const auto& [path, value] : trial.axes.items())
    if (is_rate(path)) values.push_back(value.get<double>());
  return values;
}

double rate_of(const Trial& trial, const std::string& rate) {
  return rate.empty() ? trial.lr_scale : trial.axes.at(rate).get<double>();
}

void set_rate(Trial& trial, const std::string& rate, double value) {
  if (rate.empty()) {
    trial.lr_scale = value;
  } else {
    trial.axes.at(rate) = value;
  }
}

/// Whether `a` and `b` differ in `rate` alone, or not at all.
bool on_one_line(Trial a, Trial b, const std::string& rate) {
  set_rate(a, rate, 0);
  set_rate(b, rate, 0);
  return a.lr_scale == b.lr_scale && a.axes == b.axes;
}

/// b * (b / a) with 15 significant digits: what a person would have written next after a, b.
double next_value(double a, double b) {
  const std::string text = fmt::format("{:.15g}", b * (b / a));
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string pair_name(const Tuning& t) { return fmt::format("{} on {}", t.stack, t.model); }

}  // namespace

bool is_rate(std::string_view path) { return path.ends_with(".lr") && path.find('.') == path.size() - 3; }

std::optional<std::size_t> best_trial(std::span<const Trial> trials) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (std::isnan(trials[i].loss)) return std::nullopt;
    if (std::isinf(trials[i].loss)) continue;
    if (!best || trials[i].loss < trials[*best].loss ||
        (trials[i].loss == trials[*best].loss && rates(trials[i]) < rates(trials[*best])))
      best = i;
  }
  return best;
}

std::vector<Trial> trials_beyond(std::span<const Trial> trials, std::size_t best) {
  std::vector<std::string> names = {""};  // lr_scale
  for (const auto& [path, value] : trials[best].axes.items())
    if (is_rate(path)) names.push_back(path);
  std::vector<Trial> beyond;
  for (const std::string& name : names) {
    std::vector<double> line;
    for (const Trial& trial : trials)
      if (on_one_line(trial, trials[best], name)) line.push_back(rate_of(trial, name));
    std::sort(line.begin(), line.end());
    if (line.size() < 2) continue;
    const double own = rate_of(trials[best], name);
    const std::size_t n = line.size();
    double value = 0;
    if (own == line[0]) value = next_value(line[1], line[0]);
    if (own == line[n - 1]) value = next_value(line[n - 2], line[n - 1]);
    if (!(value > 0) || !std::isfinite(value)) continue;  // inside, or past the range of a double
    Trial next{.lr_scale = trials[best].lr_scale, .axes = trials[best].axes};
    set_rate(next, name, value);
    beyond.push_back(std::move(next));
  }
  return beyond;
}

std::vector<std::string> tuning_notes(std::span<const Tuning> tunings) {
  std::vector<std::string> notes;
  for (const Tuning& base : tunings) {
    if (!base.baseline) continue;
    const Tuning *named = &base, *most = &base;
    for (const Tuning& t : tunings) {
      if (t.model != base.model) continue;
      if (t.grid > named->grid) named = &t;
      if (t.trials.size() > most->trials.size()) most = &t;
    }
    if (named != &base)
      notes.push_back(fmt::format("the baseline {} has {} trials and {} has {}: give the baseline at least as many",
                                  pair_name(base), base.grid, named->stack, named->grid));
    else if (most != &base)
      notes.push_back(fmt::format(
          "the baseline {} has {} trials and {} has {}, {} of them by tune.extend: the same rule for "
          "every stack, so the sweep file needs no change",
          pair_name(base), base.trials.size(), most->stack, most->trials.size(), most->trials.size() - most->grid));
  }
  for (const Tuning& t : tunings) {
    if (t.done && !t.winner)
      notes.push_back(fmt::format("{}: every trial diverged, so nothing of it is confirmed", pair_name(t)));
    if (t.done && t.at_edge)
      notes.push_back(fmt::format(
          "{}: the best trial lies on the edge of its grid{}, so a better one may lie beyond", pair_name(t),
          t.rounds > 0 ? fmt::format(" even after it grew {}", t.rounds == 1 ? "once" : fmt::format("{} times", t.rounds))
                       : ""));
  }
  return notes;
}

}  // namespace equisweep
