#include "sweeps/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "sweeps/expander.h"
#include "sweeps/file/grid.h"
#include "sweeps/file/stacks.h"

namespace equisweep {

using nlohmann::json;

namespace {

std::int64_t length(const auto& list) { return static_cast<std::int64_t>(list.size()); }

/// The values of one row of `zip` or `include`: its own where it has one, else those of `all`.
template <typename T>
std::vector<T> chosen(const std::optional<T>& own, const std::vector<T>& all) {
  return own ? std::vector<T>{*own} : all;
}

/// Number of settings of `stack` for a model, or nothing if that does not fit.
std::optional<std::int64_t> count_settings(const StackSpec& stack, const ModelSpec& model) {
  std::int64_t count = 1;
  for (const StackEntry* entry : used_entries(stack, model.roles))
    for (const StackOption& option : entry->options)
      if (__builtin_mul_overflow(count, length(option.values), &count)) return std::nullopt;
  return count;
}

/// "muon.matrix.lr 3 x muon.matrix.beta 2"
std::string describe_axes(const StackSpec& stack) {
  std::string text;
  for (const StackEntry& entry : stack.entries)
    for (const StackOption& option : entry.options)
      if (option.values.size() > 1)
        text += fmt::format("{}{}.{}.{} {}", text.empty() ? "" : " x ", stack.name, entry.name, option.path,
                            option.values.size());
  return text;
}

/// What a tuning adds to a grid of one model and stack: seeds that confirm, and trials beyond the edges.
std::int64_t most_after_tuning(const TuneSpec& tune, const StackSpec& stack) {
  std::int64_t rates = 1;
  for (const StackEntry& entry : stack.entries)
    rates += std::count_if(entry.options.begin(), entry.options.end(),
                           [](const StackOption& o) { return o.path == "lr" && o.values.size() > 1; });
  return length(tune.confirm_seeds) + tune.extend * rates * length(tune.seeds);
}

/// One model and stack: its trials, and the jobs of each.
struct TunedPair {
  Tuning tuning;
  std::vector<Expander::Cell> cells;  ///< of the trials
  std::vector<Expander::Point> points;
};

/// The loss of a trial as tune.h says, from what its jobs came to.
void judge_trial(Trial& trial, const Expander::Cell& cell, const TuneSpec& tune, const TuneResults& results) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  trial.results = trial.diverged = 0;
  double sum = 0;
  for (const std::int64_t seed : tune.seeds) {
    const auto it = results.find(cell.id(seed));
    if (it == results.end() || !is_result(it->second.state)) continue;
    ++trial.results;
    const bool finite = it->second.state == RunState::done && std::isfinite(it->second.loss);
    trial.diverged += finite ? 0 : 1;
    sum += finite ? it->second.loss : kInfinity;
  }
  if (trial.results == tune.seeds.size()) trial.loss = sum / static_cast<double>(tune.seeds.size());
}

/// Judges every trial and lets the grid grow as far as the results go.
void tune_pair(TunedPair& pair, Expander& expander, const TuneSpec& tune, const TuneResults& results) {
  Tuning& t = pair.tuning;
  t.grid = t.trials.size();
  for (std::size_t judged = 0;;) {
    for (; judged < t.trials.size(); ++judged) judge_trial(t.trials[judged], pair.cells[judged], tune, results);
    t.done = std::none_of(t.trials.begin(), t.trials.end(), [](const Trial& trial) { return std::isnan(trial.loss); });
    t.winner = best_trial(t.trials);
    if (!t.winner) return;
    std::vector<Trial> beyond = trials_beyond(t.trials, *t.winner);
    t.at_edge = !beyond.empty();
    if (!t.at_edge || t.rounds == tune.extend) return;
    const Expander::Point near = pair.points[*t.winner];
    const std::size_t before = t.trials.size();
    for (Trial& trial : beyond) {
      try {
        pair.cells.push_back(expander.cell(near, trial.lr_scale, trial.axes));
      } catch (const UsageError&) {  // a rate that its rule refuses: the grid does not grow past it
        continue;
      }
      pair.points.push_back(near);
      t.trials.push_back(std::move(trial));
    }
    if (t.trials.size() == before) return;
    ++t.rounds;
  }
}

SweepPlan plan_tuning(const SweepSpec& spec, Expander& expander, const std::vector<Expander::Point>& points,
                      const TuneResults& results) {
  const TuneSpec& tune = *spec.tune;
  SweepPlan plan;
  const auto add = [&](const Expander::Cell& cell, std::int64_t seed, const char* phase) {
    plan.jobs.push_back(cell.with_seed(seed));
    plan.jobs.back().phase = phase;
  };
  std::map<std::pair<std::size_t, std::size_t>, TunedPair> pairs;
  for (const Expander::Point& p : points) {
    if (p[0] != points[0][0]) break;  // the other seeds have the same points
    const double scale = expander.values().lr_scales[p[4]];
    TunedPair& pair = pairs[{p[1], p[2]}];
    pair.cells.push_back(expander.cell(p, scale, expander.axes(p)));
    pair.points.push_back(p);
    pair.tuning.trials.push_back({.lr_scale = scale, .axes = expander.axes(p)});
  }
  for (const std::int64_t seed : tune.seeds)
    for (const auto& [key, pair] : pairs)
      for (const Expander::Cell& cell : pair.cells) add(cell, seed, "tune");
  for (auto& [key, pair] : pairs) {
    const Job& any = pair.cells.front().job;
    pair.tuning.model = any.model;
    pair.tuning.stack = any.stack;
    pair.tuning.baseline = any.baseline;
    tune_pair(pair, expander, tune, results);
  }
  for (const std::int64_t seed : tune.seeds)
    for (const auto& [key, pair] : pairs)
      for (std::size_t i = pair.tuning.grid; i < pair.cells.size(); ++i) add(pair.cells[i], seed, "tune");
  for (const std::int64_t seed : tune.confirm_seeds)
    for (const auto& [key, pair] : pairs)
      if (pair.tuning.done && pair.tuning.winner) add(pair.cells[*pair.tuning.winner], seed, "confirm");
  for (auto& [key, pair] : pairs) plan.tunings.push_back(std::move(pair.tuning));
  return plan;
}

std::vector<Selection> read_selections(const SweepSpec& spec, const std::vector<std::string>& only) {
  std::vector<Selection> selections;
  for (const std::string& text : only) selections.push_back(read_selection(text, spec));
  return selections;
}

bool selects(const std::vector<Selection>& selections, const Job& job) {
  return std::any_of(selections.begin(), selections.end(), [&](const Selection& s) {
    return (!s.phase || *s.phase == job.phase) && matches(s, job.model, job.stack, job.lr_scale, job.seed, job.axes);
  });
}

}  // namespace

std::int64_t count_jobs(const SweepSpec& spec) {
  const Grid& grid = spec.grid;
  const AxisValues all = axis_values(grid);
  std::map<std::pair<std::string, std::string>, std::optional<std::int64_t>> settings;
  for (const ModelSpec& model : spec.models)
    for (const StackSpec& stack : spec.stacks) settings[{model.name, stack.name}] = count_settings(stack, model);
  std::int64_t jobs = 0;
  bool fits = true;
  const auto add = [&](const Selection& own, const auto& models, const auto& stacks, std::int64_t scales,
                       std::int64_t seeds) {
    std::int64_t cells = 0;
    for (const std::string& model : chosen(own.model, models))
      for (const std::string& stack : chosen(own.stack, stacks)) {
        const std::optional<std::int64_t> n = settings.at({model, stack});
        fits = fits && n && !__builtin_add_overflow(cells, *n, &cells);
      }
    fits = fits && !__builtin_mul_overflow(cells, own.lr_scale ? 1 : scales, &cells) &&
           !__builtin_mul_overflow(cells, own.seed ? 1 : seeds, &cells) && !__builtin_add_overflow(jobs, cells, &jobs);
  };
  const std::int64_t scales = length(grid.lr_scales), seeds = length(grid.seeds);
  if (grid.zip.empty()) add({}, grid.models, grid.stacks, scales, seeds);
  for (const Selection& row : grid.zip) add(row, grid.models, grid.stacks, scales, seeds);
  for (const Selection& row : grid.include) add(row, all.models, all.stacks, length(all.lr_scales), length(all.seeds));
  if (spec.tune)
    for (const StackSpec& stack : spec.stacks)
      fits = fits && !__builtin_add_overflow(jobs, length(all.models) * most_after_tuning(*spec.tune, stack), &jobs);
  if (fits && jobs <= kMaxJobs) return jobs;
  std::string axes;
  for (const StackSpec& stack : spec.stacks)
    if (const std::string own = describe_axes(stack); !own.empty()) axes += (axes.empty() ? "" : "; ") + own;
  throw UsageError({Problem{
      {spec.file, 0, 0},
      fmt::format("{} jobs: model {} x stack {} x lr_scale {} x seed {}{}{}", fits ? fmt::to_string(jobs) : "more than 9e18",
                  all.models.size(), all.stacks.size(), all.lr_scales.size(), all.seeds.size(),
                  grid.zip.empty() ? "" : fmt::format(", {} rows of zip", grid.zip.size()),
                  axes.empty() ? "" : ", with the axes " + axes),
      fmt::format("at most {}", kMaxJobs),
      ""}});
}

SweepPlan make_plan(const SweepSpec& spec, const TuneResults& results) {
  count_jobs(spec);
  Expander expander(spec);
  const std::vector<Expander::Point> points = expander.points();
  if (spec.tune) return plan_tuning(spec, expander, points, results);
  std::map<std::array<std::size_t, 4>, Expander::Cell> cells;
  SweepPlan plan;
  plan.jobs.reserve(points.size());
  for (const Expander::Point& p : points) {
    const auto [it, fresh] = cells.try_emplace({p[1], p[2], p[3], p[4]});
    if (fresh) it->second = expander.cell(p, expander.values().lr_scales[p[4]], expander.axes(p));
    plan.jobs.push_back(it->second.with_seed(expander.values().seeds[p[0]]));
  }
  return plan;
}

std::vector<Job> expand(const SweepSpec& spec, const TuneResults& results) { return make_plan(spec, results).jobs; }

std::vector<Job> select(const SweepSpec& spec, const std::vector<Job>& jobs, const std::vector<std::string>& only) {
  if (only.empty()) return jobs;
  const std::vector<Selection> selections = read_selections(spec, only);
  std::vector<Job> chosen;
  std::copy_if(jobs.begin(), jobs.end(), std::back_inserter(chosen),
               [&](const Job& job) { return selects(selections, job); });
  if (chosen.empty())
    throw Error("no job of this sweep is selected by --only " + join(only, " --only "), ExitCode::nothing_matches);
  return chosen;
}

bool is_selected(const SweepSpec& spec, const Job& job, const std::vector<std::string>& only) {
  return only.empty() || selects(read_selections(spec, only), job);
}

std::vector<std::string> plan_changes(const std::vector<Job>& before, const std::vector<Job>& after) {
  const auto label = [](const Job& job) {
    return fmt::format("{} {} {} {} {}", job.model, job.stack, job.lr_scale, job.seed, canonical(job.axes));
  };
  std::unordered_set<std::string> old_ids, new_ids;
  std::unordered_map<std::string, const Job*> by_label;
  for (const Job& job : before) old_ids.insert(job.id);
  for (const Job& job : after) {
    new_ids.insert(job.id);
    by_label.emplace(label(job), &job);
  }
  std::map<std::string, std::set<std::string>> retired;  // ids by reason
  std::unordered_set<std::string> replacing;
  for (const Job& job : before) {
    if (new_ids.contains(job.id)) continue;
    const auto now = by_label.find(label(job));
    if (now != by_label.end()) replacing.insert(now->second->id);
    retired[now == by_label.end() ? "" : join(difference(job.config, now->second->config))].insert(job.id);
  }
  std::set<std::string> fresh;
  for (const Job& job : after)
    if (job.phase != "confirm" && !old_ids.contains(job.id) && !replacing.contains(job.id)) fresh.insert(job.id);
  const auto some = [](const std::set<std::string>& ids) {
    constexpr std::size_t kShown = 3;
    std::vector<std::string> shown(ids.begin(),
                                   std::next(ids.begin(), static_cast<std::ptrdiff_t>(std::min(ids.size(), kShown))));
    return join(shown) + (ids.size() > kShown ? ", ..." : "");
  };
  std::vector<std::string> lines;
  for (const auto& [reason, ids] : retired)
    lines.push_back(reason.empty() ? fmt::format("{} jobs are retired, because the sweep has their points no longer: {}",
                                                 ids.size(), some(ids))
                                   : fmt::format("{} jobs are retired and others take their places, because of {}: {}",
                                                 ids.size(), reason, some(ids)));
  if (!fresh.empty() && !before.empty()) lines.push_back(fmt::format("{} jobs are new: {}", fresh.size(), some(fresh)));
  return lines;
}

PlanSummary summarize(const SweepSpec& spec, const SweepPlan& plan) {
  const std::vector<Job>& jobs = plan.jobs;
  PlanSummary summary;
  summary.jobs = length(jobs);
  std::unordered_set<std::string> ids;
  for (const Job& job : jobs) ids.insert(job.id);
  summary.unique = length(ids);
  for (const ModelSpec& model : spec.models) {
    const auto mine = std::count_if(jobs.begin(), jobs.end(), [&](const Job& job) { return job.model == model.name; });
    summary.models.push_back({model.name, model.parameters, static_cast<std::int64_t>(mine)});
  }
  for (const Tuning& t : plan.tunings)
    if (!t.done) summary.to_confirm += length(spec.tune->confirm_seeds);
  summary.tokens_per_run = spec.train.at("steps").get<std::int64_t>() * spec.data.at("batch_tokens").get<std::int64_t>();
  summary.tokens = static_cast<double>(summary.tokens_per_run) * static_cast<double>(summary.unique);
  return summary;
}

}  // namespace equisweep
