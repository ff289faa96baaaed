// Is the comparison fair? Every line is computed.
#include "analysis/report/fairness.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/facts.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

std::string setting_of(const ReportData& data, std::size_t sweep, const char* part, const char* key) {
  ValuesByPath facts;
  for (const auto& run : data.runs) {
    if (run->sweep == sweep && run->config.contains(part)) gather(run->config[part], "", facts);
  }
  const ValueSet values = values_at(facts, key);
  return values.empty() ? "–" : fmt::format("{}", fmt::join(values, ", "));
}

/// Which sweeps a report joins, and what is to know about that.
void add_sweeps(const ReportData& data, Content& content) {
  Table table{.id = "sweeps",
              .caption = "The sweeps that this report joins, by model and stack.",
              .columns = {{.title = "Sweep", .csv_name = "sweep"},
                          {.title = "Runs", .numeric = true, .csv_name = "runs"},
                          {.title = "Results", .numeric = true, .csv_name = "results"},
                          {.title = "Used here", .numeric = true, .csv_name = "used_runs"},
                          {.title = "Steps", .numeric = true, .csv_name = "steps"},
                          {.title = "Precision", .csv_name = "precision"},
                          {.title = "Corpus", .csv_name = "corpus"},
                          {.title = "Stacks", .csv_name = "stacks", .prose = true}},
              .rows = {},
              .notes = {}};
  for (std::size_t s = 0; s < data.sweeps.size(); ++s) {
    const SweepRecord& sweep = data.sweeps[s];
    std::set<std::size_t> stacks;
    for (const CellRecord& cell : data.cells)
      if (cell.run->sweep == s) stacks.insert(cell.stack);
    std::string names;
    for (const std::size_t stack : stacks) names += (names.empty() ? "" : ", ") + visible(data.stacks[stack]);
    const auto used = std::count_if(data.runs.begin(), data.runs.end(), [&](const auto& r) { return r->sweep == s; });
    table.rows.push_back({text(sweep.name), count(static_cast<std::int64_t>(sweep.runs)),
                          count(static_cast<std::int64_t>(sweep.results)), count(used),
                          text(setting_of(data, s, "train", "steps")), text(setting_of(data, s, "train", "precision")),
                          text(setting_of(data, s, "data", "corpus")), text(names)});
  }
  content.emplace_back(std::move(table));
  List notes;
  for (const std::string& line : data.mixed) notes.items.push_back("Mixed. " + line);
  notes.items.insert(notes.items.end(), data.joined.begin(), data.joined.end());
  if (notes.items.empty()) notes.items.push_back("They agree in every setting that a loss depends on.");
  content.emplace_back(std::move(notes));
}

}  // namespace

Content fairness_section(const SectionInput& input) {
  const std::vector<Check> checks = fairness(input.data);
  const auto count_of = [&](Grade grade) {
    return static_cast<std::size_t>(
        std::count_if(checks.begin(), checks.end(), [&](const Check& c) { return c.grade == grade; }));
  };
  Table table{
      .id = "fairness",
      .caption = "What a fair comparison needs, computed from the database.",
      .columns = {{.title = "Question", .csv_name = "question"},
                  {.title = "Answer", .csv_name = "answer"},
                  {.title = "Found", .csv_name = "found", .prose = true}},
      .rows = {},
      .notes = {"Fail: the comparison cannot be relied on as it stands. Warn: it can, but something beside it cannot, "
                "or it is unfair to a stack other than the baseline."}};
  for (const Check& check : checks) {
    const char* word = check.grade == Grade::pass ? "pass" : check.grade == Grade::warn ? "warn" : "fail";
    const char* mark = check.grade == Grade::pass ? "✓" : check.grade == Grade::warn ? "!" : "✗";
    Value answer{
        .shown = fmt::format("{} {}", mark, word), .value = std::string(word), .strong = check.grade == Grade::fail};
    Value found = text(check.found);
    found.shown = check.found;
    table.rows.push_back({text(check.question), answer, found});
  }
  Content content = {Paragraph{fmt::format("{} of {} questions pass, {} with a warning, {} fail.", count_of(Grade::pass),
                                           checks.size(), count_of(Grade::warn), count_of(Grade::fail))},
                     std::move(table)};
  if (input.data.sweeps.size() > 1) add_sweeps(input.data, content);
  return content;
}

}  // namespace equisweep
