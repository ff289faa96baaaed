// Is the comparison fair? Every line is computed.
#include "analysis/report/fairness.h"

#include <fmt/format.h>

#include <algorithm>

#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {

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
                  {.title = "Found", .csv_name = "found"}},
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
  return {Paragraph{fmt::format("{} of {} questions pass, {} with a warning, {} fail.", count_of(Grade::pass), checks.size(),
                                count_of(Grade::warn), count_of(Grade::fail))},
          std::move(table)};
}

}  // namespace equisweep
