#include "analysis/report/fairness.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analysis/report/attempts.h"
#include "analysis/report/checks.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"

namespace equisweep {
namespace {

constexpr double kSameLoss = 1e-5;  // relative: losses before training on one machine agree far better

using Where = std::vector<const char*>;

std::string part_of(const RunRecord& run, const Where& path) {
  const nlohmann::json* value = &run.config;
  for (const char* key : path) {
    const auto found = value->is_object() ? value->find(key) : value->end();
    if (!value->is_object() || found == value->end()) return "unknown";
    value = &*found;
  }
  return visible(value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 60);
}

/// Whether all runs have the same value at each of `paths`; `good` is followed by the values.
Check same_config(const ReportData& data, const std::string& question, const std::vector<Where>& paths) {
  std::vector<std::string> failures, found;
  for (const Where& path : paths) {
    std::set<std::string> values;
    for (const auto& run : data.runs) values.insert(part_of(*run, path));
    const std::string name = fmt::format("{}", fmt::join(path, "."));
    const std::string line = fmt::format("{} {}", name, fmt::join(values, " and "));
    (values.size() > 1 ? failures : found).push_back(line);
  }
  if (data.runs.empty()) return {question, Grade::warn, "The sweep has no runs."};
  return judged(question, failures, {}, fmt::format("{}", fmt::join(found, ", ")));
}

Check same_data(const ReportData& data) {
  std::vector<Where> paths;
  for (const char* key : {"corpus", "seq_len", "seed"}) paths.push_back({"data", key});
  Check check = same_config(data, "Same data in the same order", paths);
  std::set<std::string> digests;
  for (const auto& run : data.runs)
    if (run->corpus.contains("digest")) digests.insert(visible(run->corpus["digest"].dump(), 40));
  if (digests.size() > 1)
    return {check.question, Grade::fail,
            "The corpus had different contents: " + some_of({digests.begin(), digests.end()}) + "."};
  return check;
}

Check same_weights(const ReportData& data) {
  std::vector<std::string> failures, warnings;
  struct Start {
    std::set<std::string> configs;
    double low = INFINITY, high = -INFINITY;
  };
  std::map<std::pair<std::size_t, std::int64_t>, Start> starts;
  for (const CellRecord& cell : data.cells) {
    Start& start = starts[{cell.model, cell.seed}];
    start.configs.insert(part_of(*cell.run, {"init_from"}));
    if (!cell.run->first_eval || cell.run->first_eval->step != 0) continue;
    const double loss = cell.run->first_eval->loss;
    if (std::isfinite(loss)) start.low = std::min(start.low, loss), start.high = std::max(start.high, loss);
  }
  std::size_t seen = 0;
  for (const auto& [key, start] : starts) {
    const std::string where = fmt::format("{}, seed {}", visible(data.models[key.first]), key.second);
    if (start.configs.size() > 1) failures.push_back(where + " started from different weights");
    if (!(start.low <= start.high)) continue;
    ++seen;
    if (start.high - start.low > kSameLoss * std::abs(start.high))
      warnings.push_back(
          fmt::format("{}: losses before training from {} to {}", where, fixed(start.low, 6), fixed(start.high, 6)));
  }
  if (seen == 0) warnings.push_back("no run says its loss before training");
  return judged("Same initial weights", failures, warnings,
                fmt::format("in {} of {} pairs of model and seed the loss before training is known, and the same for all "
                            "stacks",
                            seen, starts.size()));
}

Check same_horizon(const ReportData& data) {
  return same_config(data, "Same horizon and schedule", {{"train", "steps"}, {"schedule"}, {"train", "grad_clip"}});
}

Check same_hardware(const ReportData& data) {
  std::set<std::string> places, commits;
  for (const auto& run : data.runs) {
    for (const AttemptRecord& a : attempts_of(data, *run)) {
      const std::string cpu = a.environment.value("cpu", nlohmann::json("")).is_string()
                                  ? a.environment.value("cpu", nlohmann::json("")).get<std::string>()
                                  : "";
      places.insert(fmt::format("{}, {}{}{}", visible(a.device), plural(static_cast<std::size_t>(a.threads), "thread"),
                                cpu.empty() ? "" : ", ", visible(cpu)));
    }
  }
  if (places.empty()) return {"Same hardware", Grade::warn, "No run has begun."};
  return judged("Same hardware", {},
                places.size() > 1
                    ? std::vector<std::string>{"losses compare, times do not: " + some_of({places.begin(), places.end()})}
                    : std::vector<std::string>{},
                *places.begin());
}

Check one_commit(const ReportData& data) {
  std::set<std::string> versions;
  bool modified = false, unknown = false;
  for (const auto& run : data.runs) {
    for (const AttemptRecord& a : attempts_of(data, *run)) {
      const auto commit = a.environment.find("commit");
      if (commit == a.environment.end() || !commit->is_string()) {
        unknown = true;
        continue;
      }
      versions.insert(visible(commit->get<std::string>(), 40));
      modified = modified || a.environment.value("modified", nlohmann::json(false)) == true;
    }
  }
  std::vector<std::string> failures, warnings;
  if (versions.size() > 1) failures.push_back("more than one: " + some_of({versions.begin(), versions.end()}));
  if (modified) warnings.push_back("the program was built from changed files");
  if (unknown || versions.empty()) warnings.push_back("not every attempt says its commit");
  return judged("One commit", failures, warnings, versions.empty() ? "" : *versions.begin());
}

Check intervals(const ReportData& data) {
  std::vector<std::string> failures;
  for (const Arm& arm : data.arms) {
    const std::size_t n = finite_losses(arm.chosen()).size();
    if (n < 2) failures.push_back(fmt::format("{} has n = {}, and so no sd", on(data, arm), n));
  }
  if (data.arms.empty()) failures.push_back("nothing to claim yet");
  return judged("n, sd and interval everywhere", failures, {},
                "each mean of a claim stands with its n, sd (CSV) and interval");
}

Check overhead(const ReportData& data) {
  std::vector<std::string> warnings;
  for (const Arm& arm : data.arms) {
    const auto& cells = arm.chosen().cells;
    if (std::none_of(cells.begin(), cells.end(), [&](const CellRecord* c) { return has_step_times(data, *c->run); }))
      warnings.push_back("no step times of " + on(data, arm));
  }
  if (data.arms.empty()) warnings.push_back("no run that a claim could rest on");
  return judged("Step overhead counted", {}, warnings, "times of training hold the optimizer's work; see Cost");
}

Check divergence(const ReportData& data) {
  const auto diverged = static_cast<std::size_t>(std::count_if(
      data.runs.begin(), data.runs.end(), [](const auto& r) { return is_result(r->state) && std::isinf(r->final_loss()); }));
  std::vector<std::string> warnings;
  for (const Arm& arm : data.arms) {
    if (arm.chosen().lost > 0)
      warnings.push_back(
          fmt::format("{} lost {} of {} seeds at its chosen point: its mean holds the others, and no claim is "
                      "made of it",
                      on(data, arm), arm.chosen().lost, arm.chosen().cells.size()));
  }
  if (data.runs.empty()) warnings.push_back("the sweep has no runs");
  return judged("Diverged runs counted", {}, warnings,
                fmt::format("{} of {}, all as infinite losses", diverged, plural(data.runs.size(), "run")));
}

}  // namespace

std::vector<Check> fairness(const ReportData& data) {
  return {has_baseline(data),
          is_complete(data),
          equal_trials(data),
          optimum_inside(data),
          enough_seeds(data),
          fresh_seeds(data),
          same_data(data),
          same_weights(data),
          same_config(data, "Same batch", {{"data", "batch_tokens"}, {"data", "target_offset"}}),
          same_config(data, "Same precision", {{"train", "precision"}}),
          same_horizon(data),
          same_hardware(data),
          one_commit(data),
          intervals(data),
          overhead(data),
          divergence(data),
          no_faults(data)};
}

}  // namespace equisweep
