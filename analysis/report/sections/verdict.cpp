// Each stack against the tuned baseline: the answer as a whole, a paragraph a model, and a table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "analysis/report/escape.h"
#include "analysis/report/fairness.h"
#include "analysis/report/format.h"
#include "analysis/report/section.h"
#include "analysis/report/trials.h"

namespace equisweep {
namespace {

constexpr std::size_t kListed = 6;  // stacks that the opening names

std::string percent(double part) { return fmt::format("{:.0f}%", 100 * part); }

std::string interval_words(const Comparison& c) {
  const Interval& d = c.difference;
  // The sentence around it says "lower" or "higher", so the bounds are sizes in that direction.
  const double a = d.mean < 0 ? -d.high() : d.low(), b = d.mean < 0 ? -d.low() : d.high();
  return fmt::format("95% interval {} to {}, {} n = {}", fixed(a, kLossDecimals), fixed(b, kLossDecimals),
                     c.paired ? "paired by seed," : "unpaired,", d.n);
}

std::string p_words(const StackResult& r, std::size_t tests) {
  if (!r.comparison.printable_p()) return "";
  return fmt::format(", {}{}", p_value(r.adjusted_p), tests > 1 ? " after Holm's correction" : "");
}

std::string speed_words(const StackResult& r) {
  if (!r.reached) return ", and did not reach the baseline's final loss";
  if (!r.baseline_reached || r.baseline_reached->step <= 0) return "";
  std::string out = fmt::format(", and reached the baseline's final loss in {} of its steps",
                                percent(r.reached->step / r.baseline_reached->step));
  if (r.baseline_reached->seconds > 0)
    out += fmt::format(" and {} of its training time", percent(r.reached->seconds / r.baseline_reached->seconds));
  return out;
}

std::string sentence(const ReportData& data, const StackResult& r, std::size_t tests) {
  const std::string stack = visible(data.stacks[r.arm->stack]);
  const Interval& d = r.comparison.difference;
  const std::string size = fixed(std::abs(d.mean), kLossDecimals);
  switch (r.outcome) {
    case Outcome::better:
    case Outcome::worse:
      return fmt::format("{} ended {} nats per token {} ({}{}){}.", stack, size, d.mean < 0 ? "lower" : "higher",
                         interval_words(r.comparison), p_words(r, tests), d.mean < 0 ? speed_words(r) : "");
    case Outcome::indistinguishable: {
      const bool apart = d.low() > 0 || d.high() < 0;
      const std::string around =
          d.bounds ? fmt::format("(95% interval {} to {})", fixed(d.low(), kLossDecimals), fixed(d.high(), kLossDecimals))
                   : "± " + fixed(d.half_width, kLossDecimals);
      return fmt::format(
          "{} is not distinguishable from the baseline at n = {}: difference {} {} (smallest detectable {} by this test "
          "alone{}){}.",
          stack, d.n, signed_fixed(d.mean, kLossDecimals), around, fixed(r.detectable, kLossDecimals), p_words(r, tests),
          !apart     ? ""
          : d.bounds ? "; its interval leaves out zero, but Student's test does not tell them apart"
                     : fmt::format("; its own interval leaves out zero, but not after Holm's correction for {} comparisons",
                                   tests));
    }
    case Outcome::no_claim:
      break;
  }
  std::string out = fmt::format("No claim about {}: {}", stack, r.why);
  if (std::isfinite(d.mean)) out += fmt::format(" (difference {} at n = {})", signed_fixed(d.mean, kLossDecimals), d.n);
  return out + ".";
}

// "The lowest mean loss, 3.61 (muon on qwen3-nano), is 1.92 nats below the unigram entropy of the corpus (5.53)."
std::string unigram_sentence(const ReportData& data) {
  const Arm* best = nullptr;
  for (const Arm& arm : data.arms) {
    if (std::isfinite(arm.chosen().mean) && (best == nullptr || arm.chosen().mean < best->chosen().mean)) best = &arm;
  }
  if (best == nullptr) return "";
  const double entropy = ReportData::unigram_entropy(*best->chosen().cells.front()->run), loss = best->chosen().mean;
  if (std::isnan(entropy)) return "";
  return fmt::format(" The lowest mean loss, {} ({} on {}), is {} nats {} the unigram entropy of the corpus, {}.",
                     fixed(loss, kLossDecimals), visible(data.stacks[best->stack]), visible(data.models[best->model]),
                     fixed(std::abs(entropy - loss), 3), loss < entropy ? "below" : "above", fixed(entropy, 3));
}

std::string ratio(const std::optional<Reached>& stack, const std::optional<Reached>& baseline, double Reached::*what) {
  if (!baseline) return "–";  // one of them has no curve
  if (!stack) return "not reached";
  if (!((*stack).*what > 0)) return "–";
  return fmt::format("{:.2f}×", (*baseline).*what / (*stack).*what);
}

Value ratio_value(const StackResult& r, double Reached::*what) {
  Value v = text(ratio(r.reached, r.baseline_reached, what));
  v.value = std::monostate{};
  if (!r.reached && r.baseline_reached) v.value = 0.0;
  if (r.reached && r.baseline_reached && (*r.reached).*what > 0) v.value = (*r.baseline_reached).*what / (*r.reached).*what;
  return v;
}

std::string outcome_word(Outcome outcome) {
  switch (outcome) {
    case Outcome::better:
      return "better";
    case Outcome::worse:
      return "worse";
    case Outcome::indistinguishable:
      return "not distinguishable";
    case Outcome::no_claim:
      break;
  }
  return "no claim";
}

/// Why a stack of a sweep that tunes has no run that confirms.
std::string unconfirmed(const ReportData& data, std::size_t model, std::size_t stack) {
  std::string why = "its learning rate is still being chosen";
  const Arm* arm = data.tuning_arm(model, stack);
  if (arm == nullptr) {
    why = "it was not run on this model";
  } else {
    const auto all = [&](auto&& holds) { return std::all_of(arm->points.begin(), arm->points.end(), holds); };
    std::size_t gone = 0, runs = 0;
    for (const LrPoint& p : arm->points) gone += p.gone, runs += p.cells.size();
    if (all([](const LrPoint& p) { return p.complete && std::isinf(p.mean); })) {
      why = "at every learning rate a seed diverged";
    } else if (gone > 0 && all([](const LrPoint& p) { return p.complete || p.gone > 0; })) {
      why = fmt::format("{} of the {} that choose its learning rate ended without a result", gone, plural(runs, "run"));
    }
  }
  return fmt::format("No claim about {} on {}: {}.", visible(data.stacks[stack]), visible(data.models[model]), why);
}

// "This report joins a, b. They differ in train.steps: ..." of several sweeps.
std::string joined_words(const ReportData& data) {
  std::string names;
  for (const SweepRecord& sweep : data.sweeps) names += (names.empty() ? "" : ", ") + visible(sweep.name);
  std::string out = fmt::format("This report joins the sweeps {}. ", names);
  if (!data.mixed.empty()) {
    out += "They were not trained alike, so differences between them may have other causes than the stacks:";
    for (const std::string& line : data.mixed) out += " " + line;
    out += " ";
  }
  return out;
}

/// What the comparisons with the baseline came to; those without a claim are the rest.
struct Answers {
  std::vector<const StackResult*> better, worse;
  std::size_t same = 0, no_claim = 0;
  std::size_t all() const { return better.size() + worse.size() + same + no_claim; }
};

/// Stacks of a model in a sweep that tunes of which nothing is confirmed.
std::vector<std::size_t> unconfirmed_stacks(const ReportData& data, std::size_t model) {
  std::vector<std::size_t> stacks;
  for (const Arm& arm : data.tuning_arms)
    if (data.tuned && arm.model == model && arm.stack != data.baseline && data.arm(model, arm.stack) == nullptr)
      stacks.push_back(arm.stack);
  return stacks;
}

Answers answers_of(const SectionInput& input) {
  Answers answers;
  for (const StackResult& r : input.results) {
    if (r.outcome == Outcome::better) answers.better.push_back(&r);
    if (r.outcome == Outcome::worse) answers.worse.push_back(&r);
    answers.same += r.outcome == Outcome::indistinguishable ? 1 : 0;
    answers.no_claim += r.outcome == Outcome::no_claim ? 1 : 0;
  }
  for (std::size_t model = 0; model < input.data.models.size(); ++model)
    answers.no_claim += unconfirmed_stacks(input.data, model).size();
  return answers;
}

/// "muon (qwen3-nano, olmoe-nano) and scion (qwen3-nano)"; of one model "muon and scion".
std::string names_of(const ReportData& data, const std::vector<const StackResult*>& results) {
  std::map<std::size_t, std::string> models;  // by stack
  for (const StackResult* r : results) {
    std::string& own = models[r->arm->stack];
    own += (own.empty() ? "" : ", ") + visible(data.models[r->arm->model]);
  }
  std::vector<std::string> parts;
  for (const auto& [stack, names] : models)
    parts.push_back(visible(data.stacks[stack]) + (data.models.size() > 1 ? " (" + names + ")" : ""));
  const std::size_t more = parts.size() > kListed ? parts.size() - kListed : 0;
  parts.resize(parts.size() - more);
  if (more > 0) parts.push_back(fmt::format("{} others", more));
  return and_list(parts);
}

// "Of 16 comparisons with the tuned adamw (4 stacks, 4 models, n = 5), 3 are better, 1 is worse and 12 are not
// distinguishable. Better: muon (qwen3-nano). Worse: ..."
std::string overall_words(const SectionInput& input, const Answers& answers) {
  const ReportData& data = input.data;
  std::set<std::size_t> stacks, models, n;
  std::size_t tests = 0;
  bool tuned = true;
  for (const StackResult& r : input.results) {
    stacks.insert(r.arm->stack), models.insert(r.arm->model);
    if (r.outcome != Outcome::no_claim) n.insert(r.comparison.difference.n);
    tests += std::isnan(r.adjusted_p) ? 0 : 1;
  }
  for (const Arm& arm : data.tuning_arms) tuned = tuned && (arm.stack != data.baseline || arm.points.size() > 1);
  std::vector<std::string> counts;
  const auto add = [&](std::size_t count, const char* what) {
    if (count > 0) counts.push_back(fmt::format("{} {} {}", count, count == 1 ? "is" : "are", what));
  };
  add(answers.better.size(), "better");
  add(answers.worse.size(), "worse");
  add(answers.same, "not distinguishable");
  if (answers.no_claim > 0)
    counts.push_back(fmt::format("{} {} no claim", answers.no_claim, answers.no_claim == 1 ? "allows" : "allow"));
  std::string what = plural(stacks.size(), "stack");
  if (models.size() > 1) what += ", " + plural(models.size(), "model");
  if (!n.empty())
    what += *n.begin() == *n.rbegin() ? fmt::format(", n = {}", *n.begin())
                                      : fmt::format(", n = {} to {}", *n.begin(), *n.rbegin());
  std::string out = fmt::format(
      "Of {} with the {}{} ({}), {}{}.", plural(answers.all(), "comparison"), tuned ? "tuned " : "baseline ",
      visible(data.stacks[*data.baseline]), what, and_list(counts),
      tests > 1 ? fmt::format(", at a level of {:g} after Holm's correction for {}", kAlpha, plural(tests, "test")) : "");
  if (answers.all() == 0) out = fmt::format("Nothing to compare with {} yet.", visible(data.stacks[*data.baseline]));
  if (!answers.better.empty()) out += fmt::format(" Better: {}.", names_of(data, answers.better));
  if (!answers.worse.empty()) out += fmt::format(" Worse: {}.", names_of(data, answers.worse));
  return out;
}

/// Whether the point of an arm was chosen among several.
bool several_points(const ReportData& data, const Arm& arm) {
  const Arm* tuning = data.tuning_arm(arm.model, arm.stack);
  return tuning != nullptr && tuning->points.size() > 1;
}

// What the baseline came to on a model, and each other stack beside it.
std::string model_words(const SectionInput& input, std::size_t model) {
  const ReportData& data = input.data;
  std::size_t tests = 0;
  for (const StackResult& r : input.results) tests += std::isnan(r.adjusted_p) ? 0 : 1;
  std::string out;
  const Arm* base = data.baseline_arm(model);
  if (base != nullptr) {
    std::vector<double> values;
    for (const auto& [seed, loss] : finite_losses(base->chosen())) values.push_back(loss);
    const Interval i = interval_of(values, data.intervals);
    out = fmt::format("On {}, the {} baseline", visible(data.models[model]), visible(data.stacks[*data.baseline]));
    out += values.empty() ? " has no finite final loss yet."
                          : fmt::format(" at its {} learning rate ({}) ended at {} nats per token (n = {}).",
                                        several_points(data, *base) ? "best" : "only", visible(point_name(base->chosen())),
                                        with_interval(i, kLossDecimals), i.n);
  } else {
    out = data.tuned ? unconfirmed(data, model, *data.baseline)
                     : fmt::format("On {}, the baseline was not run.", visible(data.models[model]));
  }
  for (const StackResult& r : input.results) {
    if (r.arm->model == model && (base != nullptr || r.baseline != nullptr))
      out.append(" ").append(sentence(data, r, tests));
  }
  for (const std::size_t stack : unconfirmed_stacks(data, model)) out.append(" ").append(unconfirmed(data, model, stack));
  std::vector<std::string> edges;
  for (const Arm& arm : data.tuning_arms)
    if (arm.model == model && std::isfinite(arm.chosen().mean) && at_edge(arm))
      edges.push_back(visible(data.stacks[arm.stack]));
  if (!edges.empty())
    out += fmt::format(" Best at the edge of the learning rates that were tried, and so perhaps not fully tuned: {}.",
                       fmt::join(edges, ", "));
  return out;
}

// What holds for all models; each sentence begins with a space.
std::string closing_words(const SectionInput& input) {
  const ReportData& data = input.data;
  std::string out = unigram_sentence(data);
  std::size_t diverged = 0, gone = 0;
  for (const auto& run : data.runs) {
    gone += run->gone() ? 1 : 0;
    diverged += is_result(run->state) && std::isinf(run->final_loss()) ? 1 : 0;
  }
  if (diverged > 0)
    out += fmt::format(" {} of {} runs diverged; they count as infinite losses.", diverged, data.runs.size());
  if (gone > 0)
    out += fmt::format(
        " {} of {} runs ended without a result; no learning rate with such a run is chosen before one whose runs "
        "all have one.",
        gone, data.runs.size());
  for (const std::string& note : fewer_trials(data)) out.append(" ").append(note);
  const std::vector<std::int64_t> chose = data.seeds("tune");
  if (data.tuned)
    out += fmt::format(" Learning rates were chosen on seed{} {}, and no run of that choice counts here.",
                       chose.size() == 1 ? "" : "s", fmt::join(chose, ", "));
  if (!input.results.empty() && !data.tuned && data.chose())
    out += " The seeds that chose the learning rates also support these claims, so the differences still await fresh seeds.";
  return out;
}

}  // namespace

std::vector<std::string> verdict_paragraphs(const SectionInput& input) {
  const ReportData& data = input.data;
  if (data.runs.empty()) return {"The sweep has no runs yet."};
  std::string opening;
  if (data.sweeps.size() > 1) opening += joined_words(data);
  if (!data.complete())
    opening += fmt::format("Preliminary: {} of {} runs have a result. ", data.results(), data.runs.size());
  if (!data.baseline)
    return {opening + "No stack is marked as the baseline, so this report compares nothing." + unigram_sentence(data)};

  const Answers answers = answers_of(input);
  std::vector<std::string> models;
  for (std::size_t model = 0; model < data.models.size(); ++model) models.push_back(model_words(input, model));
  const std::string closing = closing_words(input);
  if (answers.all() < 2 && models.size() < 2) return {fmt::format("{}{}{}", opening, fmt::join(models, " "), closing)};

  std::vector<std::string> paragraphs = {opening + overall_words(input, answers)};
  paragraphs.insert(paragraphs.end(), models.begin(), models.end());
  if (!closing.empty()) paragraphs.push_back(closing.substr(1));
  return paragraphs;
}

std::string verdict_text(const SectionInput& input) {
  return fmt::format("{}", fmt::join(verdict_paragraphs(input), "\n\n"));
}

Content verdict_section(const SectionInput& input) {
  Content content;
  for (std::string& paragraph : verdict_paragraphs(input))
    content.emplace_back(Paragraph{std::move(paragraph), content.empty() ? TextStyle::lead : TextStyle::normal});
  if (input.results.empty()) return content;
  if (auto figure = differences_figure(input)) content.emplace_back(std::move(*figure));
  Table table{
      .id = "verdict",
      .caption = std::string(input.data.chose() ? "Each stack at its best learning rate against the baseline at its best."
                                                : "Each stack against the baseline.") +
                 " Differences of the final validation loss in nats per token, stack minus baseline, with 95% intervals.",
      .columns = {{.title = "Model", .csv_name = "model"},
                  {.title = "Stack", .csv_name = "stack"},
                  {.title = "Difference", .numeric = true, .csv_name = "difference_nats"},
                  {.title = interval_title(input.data.intervals), .numeric = true, .csv_name = "half_width_nats"},
                  {.title = "low", .numeric = true, .csv_name = "low_nats", .hidden = true},
                  {.title = "high", .numeric = true, .csv_name = "high_nats", .hidden = true},
                  {.title = "n", .numeric = true, .csv_name = "n"},
                  {.title = "p (Holm)", .numeric = true, .csv_name = "p_holm"},
                  {.title = "Detectable", .numeric = true, .csv_name = "smallest_detectable_nats"},
                  {.title = "Steps", .numeric = true, .csv_name = "speedup_steps"},
                  {.title = "Tokens", .numeric = true, .csv_name = "speedup_tokens"},
                  {.title = "Time", .numeric = true, .csv_name = "speedup_seconds"},
                  {.title = "Verdict", .csv_name = "verdict"}},
      .rows = {},
      .notes = {"Steps, tokens and time: how many times sooner than the baseline the mean validation curve comes down to "
                "the baseline's final loss "
                "(linear between evaluations). Detectable: the true difference that the test of this row, alone at a level "
                "of 0.05 and before Holm's "
                "correction, finds with 80% power.",
                "No p-value is printed below three seeds."}};
  for (const StackResult& r : input.results) {
    const Comparison& c = r.comparison;
    Value difference = number(c.difference.mean, kLossDecimals);
    if (std::isfinite(c.difference.mean)) difference.shown = signed_fixed(c.difference.mean, kLossDecimals);
    Value stack = text(input.data.stacks[r.arm->stack]);
    stack.key = static_cast<int>(r.arm->stack);
    table.rows.push_back(
        {text(input.data.models[r.arm->model]), stack, difference, interval_value(c.difference, kLossDecimals),
         number(c.difference.low(), kLossDecimals), number(c.difference.high(), kLossDecimals),
         count(static_cast<std::int64_t>(c.difference.n)),
         c.printable_p() && !std::isnan(r.adjusted_p)
             ? Value{.shown = p_value(r.adjusted_p).substr(r.adjusted_p < 1e-4 ? 2 : 4), .value = r.adjusted_p}
             : nothing(),
         number(r.detectable, kLossDecimals), ratio_value(r, &Reached::step), ratio_value(r, &Reached::tokens),
         ratio_value(r, &Reached::seconds), text(outcome_word(r.outcome))});
  }
  content.emplace_back(std::move(table));
  std::size_t failed = 0;
  const std::vector<Check> checks = fairness(input.data);
  for (const Check& check : checks) failed += check.grade == Grade::fail ? 1 : 0;
  if (failed > 0)
    content.emplace_back(Paragraph{
        fmt::format("Read this with the fairness checklist: {} of its {} questions fail.", failed, checks.size())});
  return content;
}

}  // namespace equisweep
