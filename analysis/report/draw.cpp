#include "analysis/report/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <numeric>
#include <thread>

#include "analysis/report/figure.h"
#include "core/error.h"

namespace equisweep {
namespace {

constexpr std::size_t kMostProcesses = 8;
constexpr std::size_t kFixedCost = 20'000;  // of a figure, in bytes of data: axes and text in three formats

std::string content_of_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What one gnuplot draws.
struct Share {
  std::string script = {};
  std::vector<const Figure*> figures = {};
  std::size_t cost = 0;
};

std::map<std::string, DrawnFigure> draw_share(const Share& share, const std::filesystem::path& folder,
                                              const std::string& name) {
  const std::filesystem::path script = folder / (name + ".gp");
  std::ofstream out(script, std::ios::binary);
  out.write(share.script.data(), static_cast<std::streamsize>(share.script.size()));
  out.close();
  if (!out) throw Error("cannot write " + script.string() + " (is the disk full, or the folder read-only?)");
  run_gnuplot(script, folder);
  std::map<std::string, DrawnFigure> drawn;
  for (const Figure* figure : share.figures) {
    const auto file = [&](const char* kind) { return folder / (figure->id + kind); };
    DrawnFigure& files = drawn[figure->id];
    files.svg = inline_svg(content_of_file(file(".svg")), *figure);
    files.pdf = undated_pdf(content_of_file(file(".pdf")));
    if (std::filesystem::exists(file(".png"))) files.png = with_resolution(content_of_file(file(".png")), kPngResolution);
  }
  return drawn;
}

}  // namespace

Drawing::Drawing(const std::vector<const Figure*>& figures, std::optional<std::size_t> baseline,
                 const std::filesystem::path& folder, std::size_t processes) {
  if (figures.empty()) return;
  if (processes == 0) processes = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMostProcesses);
  std::vector<Share> shares(std::min(processes, figures.size()));
  std::vector<std::string> scripts;
  for (const Figure* figure : figures) scripts.push_back(gnuplot_script(*figure, baseline, "."));
  // The largest first, each to whoever has least.
  std::vector<std::size_t> order(figures.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scripts[a].size() > scripts[b].size(); });
  for (const std::size_t i : order) {
    Share& share =
        *std::min_element(shares.begin(), shares.end(), [](const Share& a, const Share& b) { return a.cost < b.cost; });
    share.cost += kFixedCost + scripts[i].size();
    share.script += scripts[i];
    share.figures.push_back(figures[i]);
  }
  for (std::size_t i = 0; i < shares.size(); ++i)
    shares_.push_back(std::async(std::launch::async, [share = std::move(shares[i]), folder, i] {
      return draw_share(share, folder, fmt::format("figures-{}", i));
    }));
}

std::map<std::string, DrawnFigure> Drawing::take() {
  std::map<std::string, DrawnFigure> all;
  for (auto& share : shares_) all.merge(share.get());
  return all;
}

}  // namespace equisweep
