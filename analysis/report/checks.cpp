#include "analysis/report/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "analysis/report/trials.h"

namespace equisweep {
namespace {

constexpr std::size_t kSeedsNeeded = 3;
constexpr std::size_t kExamples = 4;

bool is_baseline(const ReportData& data, const Arm& arm) { return data.baseline == arm.stack; }

/// "1 run failed, 2 runs oom" of runs that ended without a result.
std::string gone_words(const std::map<RunState, std::size_t>& gone) {
  std::string out;
  for (const auto& [state, n] : gone)
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", plural(n, "run"), name_of(state));
  return out;
}

/// What of an arm has no result and makes its choice, or the claim about it, uncertain: every such run of the baseline; of
/// another stack those at its chosen point and at one that could have been chosen instead.
void add_gone(const ReportData& data, const Arm& arm, std::vector<std::string>& failures) {
  const LrPoint* rival = arm.rival();
  for (const LrPoint& point : arm.points) {
    if (point.gone == 0) continue;
    const bool chosen = &point == &arm.chosen();
    if (!is_baseline(data, arm) && !chosen && &point != rival) continue;
    failures.push_back(fmt::format("{} at {}: {} of {} without a result{}", on(data, arm), visible(point_name(point)),
                                   point.gone, plural(point.cells.size(), "run"),
                                   &point == rival ? ", where it might have been best" : ""));
  }
}

/// Points of an arm on fewer seeds than its others.
std::size_t partial_points(const Arm& arm) { return arm.points.size() - arm.trials(); }

/// What is wrong with the seeds on which stacks were tuned on the model of the baseline's arm `base`.
void compare_tuning_seeds(const ReportData& data, const Arm& base, std::vector<std::string>& failures,
                          std::vector<std::string>& warnings) {
  const std::set<std::int64_t> own = base.seeds();
  for (const Arm& arm : data.tuning_arms) {
    if (arm.model != base.model) continue;
    if (const std::size_t n = partial_points(arm); n > 0)
      warnings.push_back(
          fmt::format("{}: {} on fewer seeds than the others, which no choice takes", on(data, arm), plural(n, "point")));
    const std::set<std::int64_t> seeds = arm.seeds();
    if (seeds == own) continue;
    (seeds.size() > own.size() ? failures : warnings)
        .push_back(fmt::format("{}: trials on seeds {}, the baseline's on {}", on(data, arm), fmt::join(seeds, ", "),
                               fmt::join(own, ", ")));
  }
}

}  // namespace

std::string some_of(const std::vector<std::string>& all) {
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
  return {question, grade, some_of(failures) + "."};
}

std::string on(const ReportData& data, const Arm& arm) {
  return visible(data.stacks[arm.stack]) + " on " + visible(data.models[arm.model]);
}

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
  std::size_t pending = 0;
  std::map<RunState, std::size_t> gone;
  for (const auto& run : data.runs) {
    pending += run->pending() ? 1 : 0;
    if (run->gone()) ++gone[run->state];
  }
  if (pending > 0) failures.push_back(fmt::format("{} of {} runs have no result yet", pending, data.runs.size()));
  for (const Arm& arm : data.tuning_arms) {
    add_gone(data, arm, failures);
    if (data.tuned && data.arm(arm.model, arm.stack) == nullptr) failures.push_back(on(data, arm) + " was not confirmed");
  }
  for (const Arm& arm : data.arms)
    if (data.tuned) add_gone(data, arm, failures);
  if (!gone.empty())
    warnings.push_back(gone_words(gone) + ", which may be the machine's doing and not the stack's: `equisweep retry`");
  return judged("All runs have a result", failures, warnings, fmt::format("{} of {}", data.results(), data.runs.size()));
}

Check equal_trials(const ReportData& data) {
  std::vector<std::string> failures, warnings, grown;
  std::set<std::size_t> trials;
  const std::int64_t rounds = rounds_of_growth(data);
  for (const Arm& base : data.tuning_arms) {
    if (!is_baseline(data, base)) continue;
    const std::size_t own = base.trials();
    trials.insert(own);
    for (const Arm& arm : data.tuning_arms) {
      const std::size_t other = arm.trials();
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
    compare_tuning_seeds(data, base, failures, warnings);
  }
  if (trials.empty()) failures.push_back("no run of a baseline, whose trials could be counted");
  if (!grown.empty()) warnings.push_back(some_of(grown) + "; by `extend`, the same rule for all");
  std::vector<std::string> counts;
  for (const std::size_t n : trials) counts.push_back(plural(n, "trial"));
  return judged("Equal trials for each stack", failures, warnings,
                fmt::format("{} for each stack, each on the same seeds", fmt::join(counts, " or ")));
}

Check optimum_inside(const ReportData& data) {
  std::vector<std::string> failures, warnings;
  for (const Arm& arm : data.tuning_arms) {
    std::vector<std::string>& out = is_baseline(data, arm) ? failures : warnings;
    const std::vector<RateLine> lines = rate_lines(arm);
    if (!std::isfinite(arm.chosen().mean)) {
      out.push_back(on(data, arm) + " has no trial with a finite mean loss");
    } else if (lines.empty()) {
      out.push_back(on(data, arm) + " was run at one learning rate");
    } else {
      std::vector<std::string> edges;
      for (const RateLine& line : lines)
        if (line.at_edge())
          edges.push_back(fmt::format("{} {}", visible(line.rate, 60), significant(line.values[line.chosen], 4)));
      if (!edges.empty()) out.push_back(fmt::format("{} is best at the edge, {}", on(data, arm), and_list(edges)));
    }
  }
  if (data.tuning_arms.empty()) failures.push_back("no run that could choose a learning rate");
  return judged("Optimum inside the grid", failures, warnings, "each stack is best between learning rates that were tried");
}

Check enough_seeds(const ReportData& data) {
  std::vector<std::string> failures;
  std::size_t least = SIZE_MAX;
  for (const Arm& arm : data.arms) {
    const std::size_t n = arm.chosen().seeds().size();
    least = std::min(least, n);
    if (n < kSeedsNeeded) failures.push_back(fmt::format("{}: {}", on(data, arm), plural(n, "seed")));
    if (const std::string why = why_copies(arm.chosen()); !why.empty()) failures.push_back(on(data, arm) + ": " + why);
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
  if (data.arms.empty()) return {question, Grade::warn, "The sweep has no runs, and so no seeds."};
  if (!data.chose()) return {question, Grade::pass, "Nothing was chosen, so every seed is fresh."};
  return {question, Grade::fail,
          "The seeds that chose the learning rates also support the claims; `tune: {confirm_seeds: [...]}` in the sweep "
          "file brings fresh ones."};
}

Check no_faults(const ReportData& data) {
  std::vector<std::string> failures;
  for (const auto& run : data.runs)
    if (run->faulted) failures.push_back(fmt::format("job {} was made to fail (EQUISWEEP_FAULT)", visible(run->job)));
  if (data.runs.empty()) failures.push_back("the sweep has no runs");
  return judged("No injected faults", failures, {}, fmt::format("none in {}", plural(data.runs.size(), "run")));
}

}  // namespace equisweep
