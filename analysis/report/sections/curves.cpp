// Validation loss over steps, tokens and training time, at the chosen learning rates.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "analysis/report/escape.h"
#include "analysis/report/format.h"
#include "analysis/report/reduce.h"
#include "analysis/report/section.h"

namespace equisweep {
namespace {

struct Axis {
  const char* id;
  const char* name;
  const char* label;
  double MeanCurve::Point::*mean;
  double (*of)(const EvalRow&);
};

constexpr Axis kAxes[] = {
    {"steps", "steps", "steps", &MeanCurve::Point::step, [](const EvalRow& e) { return static_cast<double>(e.step); }},
    {"tokens", "tokens", "tokens trained on", &MeanCurve::Point::tokens,
     [](const EvalRow& e) { return static_cast<double>(e.tokens); }},
    {"seconds", "training time", "training time, seconds (evaluation left out)", &MeanCurve::Point::seconds,
     [](const EvalRow& e) { return e.seconds; }}};

double entropy_of(const ReportData& data, std::size_t model) {
  for (const CellRecord& cell : data.cells) {
    const double entropy = ReportData::unigram_entropy(*cell.run);
    if (cell.model == model && !std::isnan(entropy)) return entropy;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::optional<Figure> loss_curves(const ReportData& data, std::size_t model, const Axis& axis) {
  const std::string name = visible(data.models[model]);
  Figure figure{.id = fmt::format("curves-{}-{}", axis.id, file_stem(data.models[model])),
                .title = fmt::format("Validation loss over {} on {}", axis.name, name),
                .caption = {},
                .alternative = {},
                .data = {.columns = {"stack", "seed", "step", "tokens", "seconds", "val_loss_nats"}}};
  Plot plot{.title = {}, .x_label = axis.label, .y_label = "validation loss, nats per token"};
  std::string seeds;
  std::vector<Series> faint, lines;
  for (const Arm& arm : data.arms) {
    if (arm.model != model) continue;
    const MeanCurve curve = mean_curve(data, arm.chosen());
    if (curve.points.empty()) continue;
    const int stack = static_cast<int>(arm.stack);
    Series band{.kind = Series::Kind::band, .label = {}, .stack = stack},
        line{.label = data.stacks[arm.stack], .stack = stack};
    for (const MeanCurve::Point& p : curve.points) {
      band.points.push_back({p.*axis.mean, p.low, p.high});
      line.points.push_back({p.*axis.mean, p.loss});
    }
    for (const CellRecord* cell : arm.chosen().cells) {
      const std::vector<EvalRow> evals = data.evals(*cell->run);
      Series run{.kind = Series::Kind::faint, .label = {}, .stack = stack};
      for (const EvalRow& e : evals) run.points.push_back({axis.of(e), e.loss});
      const std::vector<std::size_t> shown = shown_points(run.points);
      for (const std::size_t i : shown) {
        const EvalRow& e = evals[i];
        figure.data.add({data.stacks[arm.stack], cell->seed, e.step, e.tokens, e.seconds, e.loss});
      }
      reduce(run);
      if (curve.n > 1) faint.push_back(std::move(run));
    }
    reduce(band);
    reduce(line);
    if (curve.n > 1) plot.series.push_back(std::move(band));
    lines.push_back(std::move(line));
    seeds += fmt::format("{}{} n = {}", seeds.empty() ? "" : ", ", visible(data.stacks[arm.stack]), curve.n);
    figure.alternative +=
        fmt::format("{}{} falls from {} to {}.", figure.alternative.empty() ? "" : " ", visible(data.stacks[arm.stack]),
                    fixed(curve.points.front().loss, 3), fixed(curve.points.back().loss, 3));
  }
  if (lines.empty()) return std::nullopt;
  for (auto* group : {&faint, &lines}) {
    for (Series& s : *group) plot.series.push_back(std::move(s));
  }
  if (const double entropy = entropy_of(data, model); !std::isnan(entropy))
    plot.level = Plot::Level{entropy, "unigram entropy"};
  figure.caption = fmt::format(
      "{}, against {}. Lines: means over seeds ({}); bands: lowest to highest seed; faint lines: single runs. No smoothing. "
      "Dashed: the unigram "
      "entropy of the corpus, what a model without context can reach.",
      name, axis.name, seeds);
  figure.plots.push_back(std::move(plot));
  return figure;
}

}  // namespace

Content curves_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Content content;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    for (const Axis& axis : kAxes) {
      if (auto figure = loss_curves(data, model, axis)) content.emplace_back(std::move(*figure));
    }
    const double entropy = entropy_of(data, model);
    const Arm* best = nullptr;
    for (const Arm& arm : data.arms) {
      if (arm.model == model && std::isfinite(arm.chosen().mean) &&
          (best == nullptr || arm.chosen().mean < best->chosen().mean))
        best = &arm;
    }
    if (std::isnan(entropy) || best == nullptr) continue;
    const nlohmann::json& corpus = best->chosen().cells.front()->run->corpus;
    std::string line = fmt::format("On {} the best mean loss is {}, {} nats {} the unigram entropy of the corpus ({}).",
                                   visible(data.models[model]), fixed(best->chosen().mean, kLossDecimals),
                                   fixed(std::abs(entropy - best->chosen().mean), kLossDecimals),
                                   best->chosen().mean < entropy ? "below" : "above", fixed(entropy, kLossDecimals));
    if (const auto rate = corpus.find("entropy_rate"); rate != corpus.end() && rate->is_number()) {
      line +=
          fmt::format(" No model can fall below the corpus's entropy rate, {}.", fixed(rate->get<double>(), kLossDecimals));
    }
    content.emplace_back(Paragraph{line});
  }
  if (content.empty()) content.emplace_back(Paragraph{"No evaluation has been recorded yet."});
  return content;
}

}  // namespace equisweep
