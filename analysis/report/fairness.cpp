#include "analysis/report/fairness.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analysis/report/attempts.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/trials.h"

namespace equisweep {
namespace {

constexpr std::size_t kSeedsNeeded = 3;
constexpr double kSameLoss = 1e-5;  // relative: losses before training on one machine agree far better
constexpr std::size_t kExamples = 4;

/// "a; b; c; and 3 more"
std::string some(const std::vector<std::string>& all) {
  std::string out;
  for (std::size_t i = 0; i < std::min(all.size(), kExamples); ++i) out.append(i == 0 ? "" : "; ").append(all[i]);
  if (all.size() > kExamples) out += fmt::format("; and {} more", all.size() - kExamples);
  return out;
}

Check judged(const std::string& question, std::vector<std::string> failures, std::vector<std::string> warnings,
             const std::string& good) {
  if (failures.empty() && warnings.empty()) return {question, Grade::pass, good + "."};
  const Grade grade = failures.empty() ? Grade::warn : Grade::fail;
  failures.insert(failures.end(), warnings.begin(), warnings.end());
  return {question, grade, some(failures) + "."};
}

std::string on(const ReportData& data, const Arm& arm) {
  return visible(data.stacks[arm.stack]) + " on " + visible(data.models[arm.model]);
}

bool is_baseline(const ReportData& data, const Arm& arm) { return data.baseline == arm.stack; }

Check has_baseline(const ReportData& data) {
  std::vector<std::string> failures;
  if (!data.baseline) failures.push_back("no stack is marked as the baseline");
  for (std::size_t model = 0; data.baseline && model < data.models.size(); ++model)
    if (data.baseline_arm(model) == nullptr)
      failures.push_back("nothing of the baseline to compare with on " + visible(data.models[model]));
  return judged("A tuned baseline", failures, {},
                data.baseline ? visible(data.stacks[*data.baseline]) + " was run on every model" : "");
}

Check is_complete(const ReportData& data) {
  std::vector<std::string> failures, warnings;
  if (data.runs.empty()) failures.push_back("the sweep has no runs");
  const auto pending = static_cast<std::size_t>(
      std::count_if(data.runs.begin(), data.runs.end(), [](const auto& r) { return r->pending(); }));
  if (pending > 0) failures.push_back(fmt::format("{} of {} runs have no result yet", pending, data.runs.size()));
  std::map<std::string, std::size_t> lost;
  for (const auto& run : data.runs)
    if (!run->pending() && !is_result(run->state)) ++lost[std::string(name_of(run->state))];
  for (const auto& [state, n] : lost)
    warnings.push_back(fmt::format("{} {}, which may be the machine's doing and not the stack's", plural(n, "run"), state));
  for (const Arm& arm : data.tuning_arms)
    if (data.tuned && data.arm(arm.model, arm.stack) == nullptr) failures.push_back(on(data, arm) + " was not confirmed");
  return judged("All runs have a result", failures, warnings, fmt::format("{} of {}", data.results(), data.runs.size()));
}

Check equal_trials(const ReportData& data) {
  std::vector<std::string> failures, warnings, grown;
  std::set<std::size_t> trials;
  const std::int64_t rounds = rounds_of_growth(data);
  for (const Arm& base : data.tuning_arms) {
    if (!is_baseline(data, base)) continue;
    const std::size_t own = base.points.size();
    trials.insert(own);
    for (const Arm& arm : data.tuning_arms) {
      const std::size_t other = arm.points.size();
      if (arm.model != base.model || other == own) continue;
      if (rounds > 0 && grew_alike(base, arm, rounds)) {
        grown.push_back(fmt::format("{}: {} {} than the baseline", on(data, arm),
                                    plural(std::max(other, own) - std::min(other, own), "trial"),
                                    other > own ? "more" : "fewer"));
      } else {
        (other > own ? failures : warnings)
            .push_back(fmt::format("{}: {}, the baseline {}", on(data, arm), plural(other, "trial"), own));
      }
    }
  }
  if (!grown.empty()) warnings.push_back(some(grown) + "; by `extend`, the same rule for all");
  return judged("Equal trials for each stack", failures, warnings,
                fmt::format("{} trials for each stack, each on the same seeds", fmt::join(trials, " or ")));
}

Check optimum_inside(const ReportData& data) {
  std::vector<std::string> failures, warnings;
  for (const Arm& arm : data.tuning_arms) {
    if (!std::isfinite(arm.chosen().mean)) continue;
    std::vector<std::string>& out = is_baseline(data, arm) ? failures : warnings;
    const auto tried =
        std::count_if(arm.points.begin(), arm.points.end(), [&](const LrPoint& p) { return p.axes == arm.chosen().axes; });
    if (tried < 2)
      out.push_back(on(data, arm) + " was run at one learning rate");
    else if (arm.at_edge())
      out.push_back(
          fmt::format("{} is best at the edge, lr_scale {}", on(data, arm), significant(arm.chosen().lr_scale, 4)));
  }
  return judged("Optimum inside the grid", failures, warnings, "each stack is best between learning rates that were tried");
}

Check enough_seeds(const ReportData& data) {
  std::vector<std::string> failures;
  std::size_t least = SIZE_MAX;
  for (const Arm& arm : data.arms) {
    const std::size_t n = arm.chosen().cells.size();
    least = std::min(least, n);
    if (n < kSeedsNeeded) failures.push_back(fmt::format("{}: {}", on(data, arm), plural(n, "seed")));
  }
  if (data.arms.empty()) failures.push_back("nothing to claim yet");
  return judged(fmt::format("At least {} seeds", kSeedsNeeded), failures, {}, fmt::format("{} or more everywhere", least));
}

Check fresh_seeds(const ReportData& data) {
  const char* question = "Fresh seeds";
  if (data.tuned) {
    std::vector<std::string> failures;
    const auto tune = data.seeds("tune"), confirm = data.seeds("confirm");
    for (const std::int64_t seed : confirm)
      if (std::binary_search(tune.begin(), tune.end(), seed))
        failures.push_back(fmt::format("seed {} chose a learning rate and supports a claim", seed));
    if (confirm.empty()) failures.push_back("no run on a fresh seed yet");
    return judged(question, failures, {},
                  fmt::format("chosen on {}, claimed on {}", fmt::join(tune, ", "), fmt::join(confirm, ", ")));
  }
  const bool chose = std::any_of(data.arms.begin(), data.arms.end(), [](const Arm& arm) { return arm.points.size() > 1; });
  if (!chose) return {question, Grade::pass, "Nothing was chosen, so every seed is fresh."};
  return {question, Grade::fail,
          "The seeds that chose the learning rates also support the claims; `tune: {confirm_seeds: [...]}` in the sweep "
          "file brings fresh ones."};
}

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
            "The corpus had different contents: " + some({digests.begin(), digests.end()}) + "."};
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
                    ? std::vector<std::string>{"losses compare, times do not: " + some({places.begin(), places.end()})}
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
  if (versions.size() > 1) failures.push_back("more than one: " + some({versions.begin(), versions.end()}));
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
  return judged("Step overhead counted", {}, warnings, "times of training hold the optimizer's work; see Cost");
}

Check divergence(const ReportData& data) {
  const auto lost = static_cast<std::size_t>(std::count_if(
      data.runs.begin(), data.runs.end(), [](const auto& r) { return !r->pending() && std::isinf(r->final_loss()); }));
  std::vector<std::string> warnings;
  for (const Arm& arm : data.arms) {
    if (arm.chosen().lost > 0)
      warnings.push_back(
          fmt::format("{} lost {} of {} seeds at its chosen point: its mean holds the others, and no claim is "
                      "made of it",
                      on(data, arm), arm.chosen().lost, arm.chosen().cells.size()));
  }
  return judged("Diverged runs counted", {}, warnings,
                fmt::format("{} of {}, all as infinite losses", lost, plural(data.runs.size(), "run")));
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
          divergence(data)};
}

}  // namespace equisweep
