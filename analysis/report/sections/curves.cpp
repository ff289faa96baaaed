// Validation loss over steps, tokens and training time, at the chosen learning rates.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

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

constexpr std::size_t kMostFaint = 30;       // single runs that a figure shows apart
constexpr double kBeginning = 0.05;          // of an axis: what lies there alone does not decide how high the plot is
constexpr std::ptrdiff_t kLeastOfALine = 8;  // points after it that a line must have, else its beginning is what it shows

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

/// One stack on one model: its mean, and of each of its runs the evaluations that stand for all.
struct StackCurves {
  const Arm* arm = nullptr;
  MeanCurve mean = {};
  std::vector<std::vector<EvalRow>> runs = {};
};

std::vector<EvalRow> shown_evals(const std::vector<EvalRow>& evals) {
  std::vector<Series::Point> points;
  for (const EvalRow& e : evals) points.push_back({static_cast<double>(e.step), e.loss});
  std::vector<EvalRow> shown;
  for (const std::size_t i : shown_points(points)) shown.push_back(evals[i]);
  return shown;
}

std::vector<StackCurves> curves_of(const ReportData& data, std::size_t model) {
  std::vector<StackCurves> all;
  for (const Arm& arm : data.arms) {
    if (arm.model != model) continue;
    StackCurves curves{.arm = &arm};
    MeanCurveSum sum;
    for (const CellRecord* cell : arm.chosen().cells) {
      const std::vector<EvalRow> evals = data.evals(*cell->run);
      if (std::isfinite(cell->run->final_loss())) sum.add(evals);
      curves.runs.push_back(shown_evals(evals));
    }
    curves.mean = sum.mean();
    if (!curves.mean.points.empty()) all.push_back(std::move(curves));
  }
  return all;
}

/// What all figures of a model show: one table.
Rows curve_rows(const ReportData& data, const std::vector<StackCurves>& all) {
  Rows rows{.columns = {"stack", "seed", "step", "tokens", "seconds", "val_loss_nats"}};
  for (const StackCurves& curves : all) {
    for (std::size_t i = 0; i < curves.runs.size(); ++i) {
      const CellRecord& cell = *curves.arm->chosen().cells[i];
      for (const EvalRow& e : curves.runs[i])
        rows.add({data.stacks[cell.stack], cell.seed, e.step, e.tokens, e.seconds, e.loss});
    }
  }
  return rows;
}

/// The highest point after the beginning of the axis; nothing where none of the beginning is higher, or the lines are short.
std::optional<double> top_after_beginning(const std::vector<Series>& all) {
  double right = 0, top = -kInfinity, highest = -kInfinity;
  for (const Series& s : all)
    for (const Series::Point& p : s.points) right = std::max(right, p.x);
  std::ptrdiff_t longest = 0;
  for (const Series& s : all) {
    const auto late = [&](const Series::Point& p) { return p.x >= kBeginning * right; };
    longest = std::max(longest, std::count_if(s.points.begin(), s.points.end(), late));
    for (const Series::Point& p : s.points) {
      const double y = s.kind == Series::Kind::band ? p.high : p.y;
      if (!std::isfinite(y)) continue;
      highest = std::max(highest, y);
      if (late(p)) top = std::max(top, y);
    }
  }
  if (longest < kLeastOfALine || !(top < highest)) return std::nullopt;
  return top;
}

Figure loss_curves(const ReportData& data, std::size_t model, const std::vector<StackCurves>& all, const Axis& axis) {
  const std::string name = visible(data.models[model]);
  Figure figure{.id = fmt::format("curves-{}-{}", axis.id, file_stem(data.models[model])),
                .title = fmt::format("Validation loss over {} on {}", axis.name, name),
                .caption = {},
                .alternative = {}};
  Plot plot{.title = {}, .x_label = axis.label, .y_label = "validation loss, nats per token"};
  std::string seeds;
  std::size_t runs = 0;
  for (const StackCurves& curves : all) runs += curves.runs.size();
  std::vector<Series> bands, faint, lines;
  for (const StackCurves& curves : all) {
    const std::string& name_of_stack = data.stacks[curves.arm->stack];
    const int stack = static_cast<int>(curves.arm->stack);
    Series band{.kind = Series::Kind::band, .label = {}, .stack = stack}, line{.label = name_of_stack, .stack = stack};
    for (const MeanCurve::Point& p : curves.mean.points) {
      band.points.push_back({p.*axis.mean, p.low, p.high});
      line.points.push_back({p.*axis.mean, p.loss});
    }
    reduce(band);
    reduce(line);
    lines.push_back(std::move(line));
    if (curves.mean.n > 1) {
      bands.push_back(std::move(band));
      for (const std::vector<EvalRow>& evals : curves.runs) {
        if (runs > kMostFaint) break;
        Series run{.kind = Series::Kind::faint, .label = {}, .stack = stack};
        for (const EvalRow& e : evals) run.points.push_back({axis.of(e), e.loss});
        faint.push_back(std::move(run));
      }
    }
    seeds += fmt::format("{}{} n = {}", seeds.empty() ? "" : ", ", visible(name_of_stack), curves.mean.n);
    figure.alternative +=
        fmt::format("{}{} falls from {} to {}.", figure.alternative.empty() ? "" : " ", visible(name_of_stack),
                    fixed(curves.mean.points.front().loss, 3), fixed(curves.mean.points.back().loss, 3));
  }
  for (auto* group : {&bands, &faint, &lines})
    for (Series& s : *group) plot.series.push_back(std::move(s));
  plot.y_most = top_after_beginning(plot.series);
  if (const double entropy = entropy_of(data, model); !std::isnan(entropy))
    plot.level = Plot::Level{entropy, "unigram entropy"};
  const std::string others = runs > kMostFaint ? fmt::format("the {} single runs are not drawn (the data have them)", runs)
                                               : "faint lines: single runs";
  figure.caption =
      fmt::format("{}, against {}. Lines: means over seeds ({}){}. No smoothing.{}{}", name, axis.name, seeds,
                  bands.empty() ? "" : "; bands: lowest to highest seed; " + others,
                  plot.y_most ? " What the first 5% of the axis has above all that follows is cut off." : "",
                  plot.level ? " Dashed: the unigram entropy of the corpus, what a model without context can reach." : "");
  figure.plots.push_back(std::move(plot));
  return figure;
}

}  // namespace

Content curves_section(const SectionInput& input) {
  const ReportData& data = input.data;
  Content content;
  for (std::size_t model = 0; model < data.models.size(); ++model) {
    const std::vector<StackCurves> all = curves_of(data, model);
    std::string data_of;
    for (const Axis& axis : kAxes) {
      if (all.empty()) break;
      Figure figure = loss_curves(data, model, all, axis);
      if (data_of.empty())
        figure.data = curve_rows(data, all), data_of = figure.id;
      else
        figure.data_of = data_of;
      content.emplace_back(std::move(figure));
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
