// How the numbers were made: formulas, data, versions, hardware.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/facts.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "core/document.h"

namespace equisweep {
namespace {

Table facts_table(const std::string& id, const std::string& caption, const ValuesByPath& facts) {
  Table table{.id = id,
              .caption = caption,
              .columns = {{.title = "What", .csv_name = "what"}, {.title = "Value", .csv_name = "value", .prose = true}},
              .rows = {},
              .notes = {}};
  for (const auto& [path, values] : facts) {
    std::string all;
    std::size_t listed = 0;
    for (const std::string& value : values) {
      if (listed++ < 6) all += (all.empty() ? "" : "; ") + visible(value, 160);
    }
    if (listed > 6) all += fmt::format("; and {} more", listed - 6);
    table.rows.push_back({text(path), text(all)});
  }
  return table;
}

std::string interval_formula(const IntervalMethod& method) {
  if (!method.bootstrap()) return "Intervals: mean ± t(0.975; n − 1) · sd / √n over seeds.";
  return fmt::format(
      "Intervals of losses and of their differences, as asked for: bias-corrected and accelerated bootstrap (BCa; Efron, "
      "JASA "
      "82, 1987) of {} resamples of the seeds, from seed {}; without pairs each side is resampled by itself. Over few seeds "
      "it is too narrow, so p-values, verdicts and the smallest detectable difference remain Student's. Intervals of step "
      "times: mean ± t(0.975; n − 1) · sd / √n.",
      method.resamples, method.seed);
}

}  // namespace

Content method_section(const SectionInput& input) {
  const ReportData& data = input.data;
  std::set<std::int64_t> seeds;
  for (const CellRecord& cell : data.cells) seeds.insert(cell.seed);
  std::string seed_list;
  for (const std::int64_t seed : seeds) seed_list += fmt::format("{}{}", seed_list.empty() ? "" : ", ", seed);

  Content content;
  content.emplace_back(List{{
      "Final validation loss: mean cross entropy in nats per token over fixed validation windows, after the last update of "
      "a run that ended as done. A run that diverged or ended without a finite loss counts as +∞. A run that failed, ran "
      "out "
      "of memory or time, was lost or cancelled has no loss, and its point is incomplete.",
      "Choice of the learning rate: for each model and stack the point (lr_scale and the stack's own axes) with the lowest "
      "mean final loss over seeds, ties to the smaller lr_scale, of the points that have a result of every seed; a point on "
      "fewer seeds than others of its stack is not chosen. Where an incomplete point might have won (no seed of it "
      "diverged, "
      "and those that it has are not worse than the same seeds of the chosen point), no claim is made. The same rule for "
      "every stack.",
      interval_formula(data.intervals) +
          " Differences: stack minus baseline, paired by seed where seeds are shared, else Welch's t.",
      "Several comparisons: p-values are adjusted by Holm's step-down method over all stacks and models of this report; a "
      "difference is called better or worse where the adjusted p is below 0.05.",
      "Smallest detectable difference: the true difference δ that the test of its row finds with 80% power, alone at a "
      "level "
      "of 0.05 and before Holm's correction: P(T > t(0.975; df)) = 0.8 for a noncentral t variable T with noncentrality "
      "δ / se. In pairs df = n − 1 and se = sd of the differences / √n, else those of Welch's test. For the smallest of m "
      "p-values Holm asks for a level of 0.05 / m, which takes a larger difference.",
      "Speed-up: the baseline's steps, tokens or seconds to its own final loss, divided by the stack's to the same loss, on "
      "the mean validation curves, linear between evaluations. Seconds are training time on the machine that ran the job; "
      "they compare stacks only where the jobs had the machine to themselves alike.",
      data.tuned ? fmt::format("Seeds that chose the learning rates: {}. Seeds of the runs that the claims rest on: {}.",
                               fmt::join(data.seeds("tune"), ", "), fmt::join(data.seeds("confirm"), ", "))
                 : fmt::format("Seeds of this sweep: {}. {}", seed_list.empty() ? "none" : seed_list,
                               data.chose()
                                   ? "The seeds that chose the learning rates also support the claims; a claim free of that "
                                     "choice needs seeds that no choice has seen."
                                   : "Nothing was chosen, so every seed is fresh."),
  }});

  ValuesByPath corpora, settings, environment;
  for (const auto& run : data.runs) {
    gather(run->corpus, "", corpora);
    for (const char* part : {"data", "train", "schedule", "stop"}) {
      if (run->config.contains(part)) gather(run->config[part], part, settings);
    }
  }
  for (std::size_t sweep = 0; sweep < data.sweeps.size(); ++sweep) {
    SQLite::Statement attempts(data.db_of_sweep(sweep),
                               "SELECT device, threads, environment FROM attempts ORDER BY run, attempt");
    while (attempts.executeStep()) {
      if (const std::string device = attempts.getColumn(0).getString(); !device.empty())
        environment["device"].insert(device);
      environment["threads per job"].insert(fmt::format("{}", attempts.getColumn(1).getInt64()));
      gather(object_of(attempts.getColumn(2).getString()), "", environment);
    }
  }
  if (!corpora.empty()) content.emplace_back(facts_table("corpus", "The data.", corpora));
  if (!settings.empty())
    content.emplace_back(facts_table("settings", "Settings that all runs share, or their different values.", settings));
  if (!environment.empty())
    content.emplace_back(facts_table("environment", "Versions and hardware, as the workers recorded them.", environment));
  for (const SweepRecord& sweep : data.sweeps) {
    const std::string whose = data.sweeps.size() > 1 ? visible(sweep.name) + ", " : "";
    for (const auto& [key, value] : sweep.meta) {
      const bool long_text = value.find('\n') != std::string::npos || value.size() > 120;
      if (long_text) {
        content.emplace_back(Paragraph{whose + visible(key) + ":"});
        content.emplace_back(Paragraph{value, TextStyle::code});
      } else {
        content.emplace_back(Paragraph{whose + visible(key) + ": " + visible(value, 200)});
      }
    }
  }
  return content;
}

}  // namespace equisweep
