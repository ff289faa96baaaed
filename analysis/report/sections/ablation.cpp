// The full stack, then the others by what they do differently: what each component is worth.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/report/components.h"
#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

struct Row {
  const Arm* arm = nullptr;
  std::vector<Component> components;
  Comparison comparison = {};
  std::string why = {};  // there is no test
};

const CellRecord& example(const Arm& arm) { return *arm.chosen().cells.front(); }

// The stack that does most roles differently from the baseline; of equals the one that most stacks differ from in a single
// component, then the last. None where no other stack but the baseline is left to compare with it. A stack without a finite
// loss, pending or lost, is nothing that others could be compared with.
const Arm* full_stack(const ReportData& data, std::size_t model, const Arm& baseline) {
  const RoleOptions base = role_options(data, example(baseline));
  const Arm* full = nullptr;
  std::pair<std::size_t, std::size_t> most = {0, 0};
  std::size_t stacks = 0;
  for (const Arm& arm : data.arms) {
    if (arm.model != model || &arm == &baseline) continue;
    ++stacks;
    if (finite_losses(arm.chosen()).empty()) continue;
    const RoleOptions own = role_options(data, example(arm));
    std::size_t roles = 0, neighbours = 0;
    for (const Component& c : changed_components(base, own)) roles += c.rate_only ? 0 : c.roles.size();
    for (const Arm& other : data.arms) {
      if (other.model == model && &other != &arm &&
          count_components(changed_components(own, role_options(data, example(other)))) == 1)
        ++neighbours;
    }
    if (roles > 0 && std::pair(roles, neighbours) >= most) most = {roles, neighbours}, full = &arm;
  }
  return stacks >= 2 ? full : nullptr;
}

std::vector<Row> rows_of(const ReportData& data, const Arm& full) {
  std::vector<Row> rows;
  const RoleOptions own = role_options(data, example(full));
  for (const Arm& arm : data.arms) {
    if (arm.model != full.model || &arm == &full) continue;
    Row row{.arm = &arm, .components = changed_components(own, role_options(data, example(arm)))};
    row.comparison = compare_points(finite_losses(arm.chosen()), finite_losses(full.chosen()), data.intervals);
    if (arm.chosen().lost > 0) row.why = "a seed diverged or failed";
    if (full.chosen().lost > 0) row.why = "a seed of the full stack diverged or failed";
    for (const Arm* side : {&arm, &full})
      if (row.why.empty()) row.why = why_copies(side->chosen());
    rows.push_back(std::move(row));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return count_components(a.components) < count_components(b.components);
  });
  return rows;
}

std::string changes_of(const Row& row) {
  std::string out;
  for (const Component& c : row.components) out.append(out.empty() ? "" : "; ").append(c.text());
  return out.empty() ? "nothing but tuning" : out;
}

std::string reading(const Row& row, double adjusted_p) {
  if (!row.why.empty()) return "no claim: " + row.why;
  if (row.comparison.difference.n == 0) return "no claim: no run has ended yet";
  if (row.comparison.difference.n < 2) return "no claim: one seed";
  if (std::isnan(row.comparison.p)) return "no claim: the difference is the same for every seed";
  if (!(adjusted_p < kAlpha)) return "not distinguishable";
  return row.comparison.difference.mean > 0 ? "worse than the full stack" : "better than the full stack";
}

}  // namespace

Content ablation_section(const SectionInput& input) {
  const ReportData& data = input.data;
  std::vector<std::pair<const Arm*, std::vector<Row>>> models;
  std::vector<double> p;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    const Arm* baseline = data.baseline_arm(model);
    const Arm* full = baseline == nullptr ? nullptr : full_stack(data, model, *baseline);
    if (full == nullptr) continue;
    models.emplace_back(full, rows_of(data, *full));
    for (const Row& row : models.back().second) p.push_back(row.why.empty() ? row.comparison.p : kNan);
  }
  if (models.empty())
    return {
        Paragraph{"A component ablation compares a full stack with stacks that leave one part of it out; it needs a "
                  "baseline and at least two other stacks on one model."}};
  const std::vector<double> adjusted = holm(p);

  Table table{.id = "ablation",
              .caption =
                  "The full stack of each model, then the other stacks in the order of how many components they change. "
                  "Difference: final validation loss minus the full stack's, in nats per token, with its 95% interval.",
              .columns = {{.title = "Model", .csv_name = "model"},
                          {.title = "Stack", .csv_name = "stack"},
                          {.title = "Components", .numeric = true, .csv_name = "components_changed"},
                          {.title = "Difference", .numeric = true, .csv_name = "difference_nats"},
                          {.title = interval_title(data.intervals), .numeric = true, .csv_name = "half_width_nats"},
                          {.title = "low", .numeric = true, .csv_name = "low_nats", .hidden = true},
                          {.title = "high", .numeric = true, .csv_name = "high_nats", .hidden = true},
                          {.title = "n", .numeric = true, .csv_name = "n"},
                          {.title = "p (Holm)", .numeric = true, .csv_name = "p_holm"},
                          {.title = "Reading", .csv_name = "reading"},
                          {.title = "Changed keys", .csv_name = "changed_keys", .prose = true}},
              .rows = {},
              .notes = {"The full stack is the one that updates most roles differently from the baseline. A component is a "
                        "group of roles that change alike; one that differs in its learning rate alone is tuning and does "
                        "not count. Only rows with one component say what that component is worth. A positive difference: "
                        "the full stack is better.",
                        "Paired by seed where seeds are shared. p is adjusted over the rows of this table; none is printed "
                        "below three seeds."}};
  std::size_t test = 0;
  for (const auto& [full, rows] : models) {
    const auto stack = [&](const Arm& arm) {
      Value v = text(stack_label(data, arm.stack));
      v.key = static_cast<int>(arm.stack);
      v.value = data.stacks[arm.stack];
      return v;
    };
    const auto losses = finite_losses(full->chosen());
    table.rows.push_back({text(data.models[full->model]), stack(*full), count(0), nothing(), nothing(), nothing(), nothing(),
                          count(static_cast<std::int64_t>(losses.size())), nothing(), text("the full stack"),
                          text("mean loss " + fixed(full->chosen().mean, kLossDecimals))});
    table.rows.back()[1].strong = true;
    for (const Row& row : rows) {
      const Interval& d = row.comparison.difference;
      const double p_adjusted = adjusted[test++];
      Value difference = number(d.mean, kLossDecimals);
      if (std::isfinite(d.mean)) difference.shown = signed_fixed(d.mean, kLossDecimals);
      Value changes = text(changes_of(row));
      changes.shown = visible(changes_of(row), 600);
      table.rows.push_back({text(data.models[full->model]), stack(*row.arm),
                            count(static_cast<std::int64_t>(count_components(row.components))), difference,
                            interval_value(d, kLossDecimals), number(d.low(), kLossDecimals),
                            number(d.high(), kLossDecimals), count(static_cast<std::int64_t>(d.n)),
                            row.comparison.printable_p() && !std::isnan(p_adjusted)
                                ? Value{.shown = p_value(p_adjusted).substr(p_adjusted < 1e-4 ? 2 : 4), .value = p_adjusted}
                                : nothing(),
                            text(reading(row, p_adjusted)), changes});
    }
  }
  return {std::move(table)};
}

}  // namespace equisweep
