#include "analysis/report/figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "analysis/report/axis.h"
#include "analysis/report/escape.h"
#include "analysis/report/palette.h"
#include "analysis/statistics/statistics.h"
#include "core/median.h"

namespace equisweep {
namespace {

constexpr std::size_t kLabelLimit = 22;
constexpr double kColumnWidth = 8.4, kTextWidth = 17.4;  // of a paper, cm
constexpr int kPaperFont = 9;                            // 6 points in print
constexpr std::size_t kGridWidth = 750;                  // of small plots on a page, pixels

struct Range {
  double low = kInfinity, high = -kInfinity;
  void add(double x) {
    if (std::isfinite(x)) low = std::min(low, x), high = std::max(high, x);
  }
  bool empty() const { return !(low <= high); }
  void widen(double below, double above) {
    const double size = high > low ? high - low : std::max(std::abs(high) * 0.01, 1e-3);
    low -= below * size, high += above * size;
  }
};

// In the coordinate in which the axis is linear.
double along(double x, bool log) { return log ? std::log2(x) : x; }
double back(double x, bool log) { return log ? std::exp2(x) : x; }

struct Ranges {
  Range x, y;
  bool clipped = false;  // something lies above y.high
};

bool draws(const Plot& plot, const Series::Point& p) {
  return (!plot.log2_x || p.x > 0) && (!plot.log_y || p.y > 0 || std::isinf(p.y));
}

Ranges ranges_of(const Plot& plot) {
  Ranges r;
  for (const Series& s : plot.series) {
    for (const Series::Point& p : s.points) {
      if (!draws(plot, p)) continue;
      r.x.add(along(p.x, plot.log2_x));
      r.y.add(along(p.y, plot.log_y));
      if (s.kind == Series::Kind::band) r.y.add(along(p.high, plot.log_y));
      if (s.kind == Series::Kind::tiles) {
        for (const double half : {-0.5, 0.5}) r.x.add(p.x + half * s.tile_width), r.y.add(p.y + half * s.tile_height);
      }
      r.clipped = r.clipped || std::isinf(p.y);
    }
  }
  if (r.x.empty()) r.x = {0, 1};
  if (r.y.empty()) r.y = {0, 1};
  // Where losses of bad learning rates would flatten the rest, the axis ends early and the runs above it become triangles.
  if (plot.log2_x) {
    std::vector<double> means;
    for (const Series& s : plot.series) {
      for (const Series::Point& p : s.points) {
        if (std::isfinite(p.y)) means.push_back(p.y);
      }
    }
    if (means.size() >= 4) {
      const double middle = median(means), least = *std::min_element(means.begin(), means.end());
      const double limit = middle + 4 * (middle - least);
      if (limit + 0.1 * (limit - least) < r.y.high && limit > middle) r.y.high = limit, r.clipped = true;
    }
  }
  if (plot.y_most && along(*plot.y_most, plot.log_y) > r.y.low)
    r.y.high = std::min(r.y.high, along(*plot.y_most, plot.log_y));
  if (plot.level) {
    Range with = r.y;
    with.add(along(plot.level->y, plot.log_y));
    r.y = with;
  }
  if (!plot.log2_x && r.x.low == r.x.high) r.x = {r.x.low - 0.5, r.x.high + 0.5};  // gnuplot takes no empty range
  const bool points =
      std::any_of(plot.series.begin(), plot.series.end(), [](const Series& s) { return s.kind == Series::Kind::points; });
  const double beside = plot.log2_x ? 0.06 : points ? 0.03 : 0;
  r.x.widen(beside, beside);
  r.y.widen(0.05, r.clipped ? 0.14 : 0.05);
  return r;
}

struct Label {
  double y = 0;  // part of the plot's height
  std::string text, colour;
};

// Moves labels apart to at least `gap`, keeping their order and staying as near to where they belong as that allows.
void spread_of(std::vector<Label>& labels, double gap) {
  std::stable_sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (int pass = 0; pass < 50; ++pass) {
    for (std::size_t i = 1; i < labels.size(); ++i) {
      const double overlap = gap - (labels[i].y - labels[i - 1].y);
      if (overlap > 0) labels[i - 1].y -= overlap / 2, labels[i].y += overlap / 2;
    }
    if (!labels.empty() && labels.front().y < 0) labels.front().y = 0;
  }
  for (std::size_t i = 1; i < labels.size(); ++i) labels[i].y = std::max(labels[i].y, labels[i - 1].y + gap);
}

std::string with_opacity(std::string_view colour, double opacity) {
  return fmt::format("#{:02X}{}", static_cast<int>(std::lround(255 * (1 - opacity))), colour.substr(1));
}

// Of a load in even shares: pale grey for none, the blue of the palette for one, near black from four on; grows with the
// root.
std::int64_t tile_colour(double load) {
  struct Stop {
    double at;
    std::array<double, 3> rgb;
  };
  static constexpr std::array<Stop, 3> stops = {{{0, {235, 235, 235}}, {1, {86, 180, 233}}, {2, {0, 38, 77}}}};
  const double x = std::clamp(std::sqrt(load), 0.0, 2.0);
  const Stop &a = x < 1 ? stops[0] : stops[1], &b = x < 1 ? stops[1] : stops[2];
  std::int64_t colour = 0;
  for (std::size_t i = 0; i < 3; ++i) colour = colour * 256 + std::lround(std::lerp(a.rgb[i], b.rgb[i], x - a.at));
  return colour;
}

std::string dash_of(int dash) {
  static constexpr std::array<const char*, 4> kinds = {"1", "(8,4)", "(2,3)", "(10,3,2,3)"};
  return kinds[static_cast<std::size_t>(dash) % kinds.size()];
}

enum class Size { small, large };

/// What gnuplot reads once, and what it does on each terminal.
struct GnuplotText {
  std::string data = {}, commands = {};
};

void add_plot(const Plot& plot, const Ranges& r, std::optional<std::size_t> baseline, std::size_t& block, Size size,
              bool x_label, GnuplotText& drawing) {
  std::string commands;
  std::vector<Label> labels;
  const double top = back(r.y.high - 0.04 * (r.y.high - r.y.low), plot.log_y);
  const auto add = [&](const std::string& rows, const std::string& columns, const std::string& style) {
    if (rows.empty()) return;
    drawing.data += fmt::format("$d{} << EOD\n{}EOD\n", block, rows);
    commands += fmt::format("{}$d{} using {} {}", commands.empty() ? "plot " : ", \\\n  ", block++, columns, style);
  };
  for (const Series& s : plot.series) {
    const StackStyle style = style_of(s.stack, baseline);
    std::string rows, above;
    for (const Series::Point& p : s.points) {
      if (!draws(plot, p) || std::isnan(p.y)) {
        rows += "\n";  // breaks the line
      } else if (along(p.y, plot.log_y) > r.y.high - (r.clipped ? 0.08 * (r.y.high - r.y.low) : 0)) {
        if (s.kind == Series::Kind::points) above += fmt::format("{:.8g} {:.8g}\n", p.x, top);
        rows += "\n";
      } else if (s.kind == Series::Kind::tiles) {
        if (std::isfinite(p.high)) rows += fmt::format("{:.8g} {:.8g} {}\n", p.x, p.y, tile_colour(p.high));
      } else if (s.kind == Series::Kind::band) {
        rows += fmt::format("{:.8g} {:.8g} {:.8g}\n", p.x, p.y, p.high);
      } else {
        rows += fmt::format("{:.8g} {:.8g}\n", p.x, p.y);
      }
    }
    if (rows.find_first_not_of('\n') == std::string::npos) rows.clear();
    switch (s.kind) {
      case Series::Kind::band:
        add(rows, "1:2:3", fmt::format("with filledcurves fc rgb '{}' fs transparent solid 0.15 noborder", style.colour));
        break;
      case Series::Kind::tiles:
        add(rows, fmt::format("1:2:({}):({}):3", 0.49 * s.tile_width, 0.49 * s.tile_height),
            "with boxxyerror fs solid noborder lc rgb variable");
        break;
      case Series::Kind::faint:
        add(rows, "1:2", fmt::format("with lines lw 0.8 lc rgb '{}'", with_opacity(style.colour, 0.35)));
        break;
      case Series::Kind::points:
        add(rows, "1:2", fmt::format("with points pt 6 ps 0.7 lw 1.2 lc rgb '{}'", style.colour));
        add(above, "1:2", fmt::format("with points pt 8 ps 1.0 lc rgb '{}'", style.colour));
        break;
      case Series::Kind::line:
        add(rows, "1:2",
            fmt::format("with lines lw 1.8 dt {} lc rgb '{}'", dash_of(style.dash), with_opacity(style.colour, s.strength)));
        break;
    }
    if (!s.label.empty()) {
      for (auto p = s.points.rbegin(); p != s.points.rend(); ++p) {
        if (!std::isfinite(p->y) || !draws(plot, *p)) continue;
        labels.push_back({std::min(0.97, (along(p->y, plot.log_y) - r.y.low) / (r.y.high - r.y.low)),
                          visible(s.label, kLabelLimit), std::string(style.colour)});
        break;
      }
    }
  }

  std::string& out = drawing.commands;
  out += fmt::format("set xrange [{}:{}]\nset yrange [{}:{}]\n", back(r.x.low, plot.log2_x), back(r.x.high, plot.log2_x),
                     back(r.y.low, plot.log_y), back(r.y.high, plot.log_y));
  out += plot.log2_x ? "set logscale x 2\n" : "unset logscale x\n";
  out += plot.log_y ? "set logscale y\n" : "unset logscale y\n";
  const auto tics = [&](const char* axis, const std::vector<Plot::Tick>& ticks) {
    out += fmt::format("set {}tics (", axis);
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      std::string label;  // which gnuplot takes for a format of the number
      for (const char c : gnuplot_string(ticks[i].label, kLabelLimit)) label.append(c == '%' ? 2 : 1, c);
      out += fmt::format("{}{} {}", i == 0 ? "" : ", ", label, ticks[i].at);
    }
    out += ")\n";
  };
  const double low = back(r.y.low, plot.log_y), high = back(r.y.high, plot.log_y);
  const std::size_t most = size == Size::small ? 4 : 7;
  tics("y", !plot.y_ticks.empty() ? plot.y_ticks : plot.log_y ? log_ticks(low, high, most) : linear_ticks(low, high, most));
  if (!plot.log2_x) tics("x", linear_ticks(r.x.low, r.x.high, most));
  if (plot.log2_x) {
    // Ticks at the learning-rate scales that were run.
    std::vector<double> ticks;
    for (const Series& s : plot.series) {
      for (const Series::Point& p : s.points) ticks.push_back(p.x);
    }
    std::sort(ticks.begin(), ticks.end());
    ticks.erase(std::unique(ticks.begin(), ticks.end()), ticks.end());
    std::vector<Plot::Tick> shown;
    const std::size_t every = ticks.size() / 10 + 1;
    for (std::size_t i = 0; i < ticks.size(); i += every) shown.push_back({ticks[i], fmt::format("{:.4g}", ticks[i])});
    tics("x", shown);
  }
  out += fmt::format("set title {}\nset xlabel {}\nset ylabel {}\nunset label\n", gnuplot_string(plot.title),
                     gnuplot_string(x_label ? plot.x_label : ""), gnuplot_string(plot.y_label));
  if (plot.level) {
    const double at = (along(plot.level->y, plot.log_y) - r.y.low) / (r.y.high - r.y.low);
    drawing.data += fmt::format("$d{} << EOD\n{} {}\n{} {}\nEOD\n", block, back(r.x.low, plot.log2_x), plot.level->y,
                                back(r.x.high, plot.log2_x), plot.level->y);
    commands += fmt::format("{}$d{} using 1:2 with lines lw 1 dt (6,4) lc rgb '#808080'",
                            commands.empty() ? "plot " : ", \\\n  ", block++);
    labels.push_back({at, plot.level->label, "#808080"});
  }
  spread_of(labels, size == Size::small ? 0.12 : 0.062);
  std::size_t longest = 0;
  for (const Label& label : labels) {
    longest = std::max(longest, label.text.size());
    out += fmt::format("set label {} at graph 1.02, graph {:.4f} left textcolor rgb '{}'\n",
                       gnuplot_string(label.text, kLabelLimit + 4), label.y, label.colour);
  }
  // The same for all plots of a grid, so that their axes stand in line.
  if (size == Size::small)
    out += fmt::format("set lmargin {}\nset tmargin 2\nset bmargin 3.2\n", plot.y_ticks.empty() ? 8 : 14);
  out += labels.empty() ? "set rmargin 2\n" : fmt::format("set rmargin {:.1f}\n", static_cast<double>(longest) + 2);
  if (r.clipped) {
    // Above this line lie the runs without a finite loss.
    out += fmt::format("set label 'diverged or off the scale' at graph 0.01, graph {} left textcolor rgb '#808080'\n", 0.9);
  }
  out += commands.empty() ? "" : commands + "\n";
}

}  // namespace

std::string gnuplot_script(const Figure& figure, std::optional<std::size_t> baseline, const std::string& folder) {
  const std::size_t columns = std::max<std::size_t>(1, std::min(figure.columns, figure.plots.size()));
  const std::size_t rows = (figure.plots.size() + columns - 1) / columns;
  const bool grid = figure.plots.size() > 1;
  const std::size_t width = grid ? kGridWidth : 520, height = grid ? figure.row_height * rows : 330;
  const double paper = grid ? kTextWidth : kColumnWidth,
               paper_height = paper * static_cast<double>(height) / static_cast<double>(width);

  GnuplotText drawing{
      .data = {},
      .commands =
          "set border 3 lw 0.8 lc rgb 'black'\nset tics nomirror out scale 0.5\nset grid y lt 1 lw 0.5 lc rgb "
          "'#B0808080'\nunset key\n"};
  std::vector<Ranges> ranges;
  for (const Plot& plot : figure.plots) ranges.push_back(ranges_of(plot));
  if (figure.same_ranges) {
    Ranges all;
    for (const Ranges& r : ranges) {
      all.x.add(r.x.low), all.x.add(r.x.high), all.y.add(r.y.low), all.y.add(r.y.high);
      all.clipped = all.clipped || r.clipped;
    }
    all.x.widen(0.03, 0.03);
    ranges.assign(ranges.size(), all);
  }
  std::size_t block = 0;
  if (grid) drawing.commands += fmt::format("set multiplot layout {},{} rowsfirst\n", rows, columns);
  for (std::size_t i = 0; i < figure.plots.size(); ++i)
    add_plot(figure.plots[i], ranges[i], baseline, block, grid ? Size::small : Size::large,
             i + columns >= figure.plots.size(), drawing);
  if (grid) drawing.commands += "unset multiplot\n";

  // pdfcairo draws two thirds of a font's points and half of a line's width; pngcairo all of them, 96 dots an inch.
  const double scale = kPngResolution / 144;
  const auto dots = [](double cm) { return std::lround(cm / kCmPerInch * kPngResolution); };
  std::string script = "reset session\nset encoding utf8\n" + drawing.data;
  script += fmt::format(
      "set terminal svg size {},{} dynamic font 'sans-serif,{}' linewidth 1.2 noenhanced\nset output '{}/{}.svg'\n{}unset "
      "output\n",
      width, height, grid ? 11 : 13, folder, figure.id, drawing.commands);
  script += fmt::format(
      "reset\nset terminal pdfcairo size {}cm,{:.3f}cm font 'sans-serif,{}' linewidth 0.7 noenhanced\nset output "
      "'{}/{}.pdf'\n{}unset output\n",
      paper, paper_height, kPaperFont, folder, figure.id, drawing.commands);
  // A gnuplot without pngcairo draws nothing here, and the report has no PNG.
  script += fmt::format(
      "reset\nif (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) set terminal pngcairo size {},{} font 'sans-serif,{}' fontscale "
      "{:.4f} pointscale {:.4f} "
      "linewidth {:.4f} dashlength {:.4f} noenhanced; set output '{}/{}.png'; else set terminal unknown\n{}unset output\n",
      dots(paper), dots(paper_height), kPaperFont, scale, scale, 0.7 * scale, scale, folder, figure.id, drawing.commands);
  return script;
}

}  // namespace equisweep
