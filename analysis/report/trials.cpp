#include "analysis/report/trials.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/document.h"

namespace equisweep {
namespace {

// Beyond these nothing is decided: the search grows with them, and a database may hold anything.
constexpr std::size_t kMostTrials = 48, kMostRates = 3, kMostWays = 16;
constexpr std::int64_t kMostRounds = 16;  // that a sweep file may ask for

struct TuneTrial {
  double lr_scale = 1;
  nlohmann::json axes;
  double mean = 0;
  const LrPoint* point = nullptr;
};

using Trials = std::vector<TuneTrial>;

/// "" for lr_scale, else the path of an axis that is a learning rate.
std::vector<std::string> rates_of(const TuneTrial& trial) {
  std::vector<std::string> names = {""};
  for (const auto& [path, value] : trial.axes.items())
    if (path.ends_with(".lr") && path.find('.') == path.size() - 3 && value.is_number()) names.push_back(path);
  return names;
}

double rate_of(const TuneTrial& trial, const std::string& rate) {
  if (rate.empty()) return trial.lr_scale;
  const auto found = trial.axes.find(rate);
  return found != trial.axes.end() && found->is_number() ? found->get<double>() : kNan;
}

/// Whether two trials share everything but this rate.
bool on_line(const TuneTrial& a, const TuneTrial& b, const std::string& rate) {
  if (rate.empty()) return a.axes == b.axes;
  if (a.lr_scale != b.lr_scale || a.axes.size() != b.axes.size()) return false;
  const auto& first = a.axes.get_ref<const nlohmann::json::object_t&>();
  const auto& second = b.axes.get_ref<const nlohmann::json::object_t&>();
  return std::equal(first.begin(), first.end(), second.begin(), [&](const auto& x, const auto& y) {
    return x.first == y.first && (x.first == rate || x.second == y.second);
  });
}

/// The numbers of the trials on the line through `at`, by the rate.
std::vector<std::size_t> line_of(const Trials& trials, std::size_t at, const std::string& rate) {
  std::vector<std::size_t> line;
  for (std::size_t i = 0; i < trials.size(); ++i)
    if (on_line(trials[i], trials[at], rate) && !std::isnan(rate_of(trials[i], rate))) line.push_back(i);
  std::sort(line.begin(), line.end(),
            [&](std::size_t a, std::size_t b) { return rate_of(trials[a], rate) < rate_of(trials[b], rate); });
  return line;
}

/// Lowest mean, of equals the lower rates; nothing where none is finite.
std::optional<std::size_t> best_of(const Trials& trials) {
  const auto key = [](const TuneTrial& t) {
    std::vector<double> all = {t.mean};
    for (const std::string& rate : rates_of(t)) all.push_back(rate_of(t, rate));
    return all;
  };
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < trials.size(); ++i)
    if (std::isfinite(trials[i].mean) && (!best || key(trials[i]) < key(trials[*best]))) best = i;
  return best;
}

/// Rates in which `at` is the first or last of at least two on its line, with the value that comes next.
std::map<std::string, double> edges_of(const Trials& trials, std::size_t at) {
  std::map<std::string, double> edges;
  for (const std::string& rate : rates_of(trials[at])) {
    const std::vector<std::size_t> line = line_of(trials, at, rate);
    if (line.size() < 2) continue;
    const auto next = [&](std::size_t before, std::size_t end) {
      const double a = rate_of(trials[before], rate), b = rate_of(trials[end], rate);
      return b * (b / a);
    };
    double value = 0;
    if (line.front() == at) value = next(line[1], at);
    if (line.back() == at) value = next(line[line.size() - 2], at);
    if (value > 0 && std::isfinite(value)) edges.emplace(rate, value);
  }
  return edges;
}

bool nearly(double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); }

/// `trials` without the round that the rule made last, in each way in which it may have been one.
std::vector<Trials> before_last_round(const Trials& trials) {
  std::vector<Trials> ways;
  for (std::size_t winner = 0; winner < trials.size(); ++winner) {
    // In each rate the round may have added what lies next to the winner at the lower end, at the upper end, or nothing.
    std::vector<std::vector<std::size_t>> choices = {{}};
    for (const std::string& rate : rates_of(trials[winner])) {
      const std::vector<std::size_t> line = line_of(trials, winner, rate);
      const std::size_t n = line.size();
      std::vector<std::size_t> ends;
      if (n > 2 && line[1] == winner) ends.push_back(line[0]);
      if (n > 2 && line[n - 2] == winner) ends.push_back(line[n - 1]);
      for (std::size_t i = choices.size(); i-- > 0;) {
        for (const std::size_t end : ends) {
          std::vector<std::size_t> more = choices[i];
          more.push_back(end);
          choices.push_back(std::move(more));
        }
      }
    }
    for (const std::vector<std::size_t>& added : choices) {
      if (added.empty()) continue;
      Trials before;
      std::size_t own = 0;
      for (std::size_t i = 0; i < trials.size(); ++i) {
        if (std::find(added.begin(), added.end(), i) != added.end()) continue;
        if (i == winner) own = before.size();
        before.push_back(trials[i]);
      }
      if (best_of(before) != own) continue;
      const auto edges = edges_of(before, own);
      const bool all =
          edges.size() == added.size() && std::all_of(edges.begin(), edges.end(), [&](const auto& edge) {
            return std::any_of(added.begin(), added.end(), [&](std::size_t i) {
              return on_line(trials[i], trials[winner], edge.first) && nearly(rate_of(trials[i], edge.first), edge.second);
            });
          });
      if (all) ways.push_back(std::move(before));
    }
  }
  return ways;
}

/// What a stack may have begun with: how many trials, and at which lr_scales.
using Beginning = std::pair<std::size_t, std::set<double>>;

/// Every beginning from which the rule leads to `trials` and stops there.
std::set<Beginning> beginnings_of(const Trials& trials, std::int64_t rounds) {
  const std::optional<std::size_t> best = best_of(trials);
  const bool inside = !best || edges_of(trials, *best).empty();
  std::set<Beginning> all;
  std::vector<Trials> reached = {trials};
  for (std::int64_t taken = 0; taken <= std::min(rounds, kMostRounds) && !reached.empty() && reached.size() <= kMostWays;
       ++taken) {
    std::vector<Trials> before;
    for (const Trials& some : reached) {
      if (inside || taken == rounds) {
        Beginning beginning = {some.size(), {}};
        for (const TuneTrial& trial : some) beginning.second.insert(trial.lr_scale);
        all.insert(std::move(beginning));
      }
      for (Trials& way : before_last_round(some)) before.push_back(std::move(way));
    }
    reached = std::move(before);
  }
  return all;
}

/// Those with all seeds.
Trials trials_of(const Arm& arm) {
  Trials trials;
  for (const LrPoint& point : arm.points)
    if (!point.partial)
      trials.push_back({.lr_scale = point.lr_scale, .axes = object_of(point.axes), .mean = point.mean, .point = &point});
  return trials;
}

/// Whether anybody tunes like this.
bool reasonable(const Trials& trials) {
  return trials.size() <= kMostTrials && std::all_of(trials.begin(), trials.end(), [](const TuneTrial& trial) {
           return rates_of(trial).size() <= kMostRates;
         });
}

}  // namespace

std::vector<RateLine> rate_lines(const Arm& arm) {
  const Trials trials = trials_of(arm);
  std::vector<RateLine> lines;
  const auto chosen =
      std::find_if(trials.begin(), trials.end(), [&](const TuneTrial& trial) { return trial.point == &arm.chosen(); });
  if (chosen == trials.end()) return lines;
  const auto at = static_cast<std::size_t>(chosen - trials.begin());
  for (const std::string& rate : rates_of(*chosen)) {
    RateLine line{.rate = rate.empty() ? "lr_scale" : rate};
    for (const std::size_t i : line_of(trials, at, rate)) {
      if (i == at) line.chosen = line.values.size();
      line.values.push_back(rate_of(trials[i], rate));
      line.points.push_back(trials[i].point);
    }
    if (line.values.size() > 1) lines.push_back(std::move(line));
  }
  return lines;
}

bool at_edge(const Arm& arm) {
  const std::vector<RateLine> lines = rate_lines(arm);
  return std::any_of(lines.begin(), lines.end(), [](const RateLine& line) { return line.at_edge(); });
}

std::int64_t extend_in(std::string_view text) {
  std::optional<std::int64_t> smallest;
  constexpr std::string_view kKey = "extend", kBlank = " \t";
  const auto letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  bool comment = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') comment = false;
    if (text[i] == '#' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t' || text[i - 1] == '\n')) comment = true;
    if (comment || text.compare(i, kKey.size(), kKey) != 0) continue;
    if (i > 0 && (letter(text[i - 1]) || text[i - 1] == '_' || text[i - 1] == '-')) continue;
    std::size_t at = i + kKey.size();
    if (at < text.size() && (text[at] == '"' || text[at] == '\'')) ++at;
    at = std::min(text.find_first_not_of(kBlank, at), text.size());
    if (at == text.size() || (text[at] != ':' && text[at] != '=')) continue;
    at = std::min(text.find_first_not_of(kBlank, at + 1), text.size());
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
    if (error == std::errc() && value >= 0) smallest = std::min(smallest.value_or(value), value);
  }
  return smallest.value_or(0);
}

std::int64_t rounds_of_growth(const ReportData& data) {
  if (!data.tuned) return 0;
  std::optional<std::int64_t> least;
  for (const SweepRecord& sweep : data.sweeps) {
    const auto text = [&](const char* key) {
      const auto found = sweep.meta.find(key);
      return found == sweep.meta.end() ? std::string() : found->second;
    };
    std::int64_t rounds = extend_in(text("file"));
    const auto set = document_of(text("set"));
    if (set && set->is_array()) {
      for (const nlohmann::json& one : *set) {
        if (!one.is_string()) continue;
        const auto& setting = one.get_ref<const std::string&>();
        if (setting.starts_with("tune") && setting.find("extend") != std::string::npos) rounds = extend_in(setting);
      }
    }
    least = std::min(least.value_or(rounds), rounds);
  }
  return least.value_or(0);
}

bool grew_alike(const Arm& a, const Arm& b, std::int64_t rounds) {
  const Trials first = trials_of(a), second = trials_of(b);
  if (!reasonable(first) || !reasonable(second)) return false;
  const std::set<Beginning> one = beginnings_of(first, rounds), other = beginnings_of(second, rounds);
  return std::any_of(one.begin(), one.end(), [&](const Beginning& beginning) { return other.contains(beginning); });
}

}  // namespace equisweep
