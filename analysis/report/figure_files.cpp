// What gnuplot wrote, made fit for a page and for a paper.
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "analysis/report/escape.h"
#include "analysis/report/figure.h"
#include "analysis/report/svg.h"

namespace equisweep {
namespace {

bool has_tiles(const Figure& figure) {
  return std::any_of(figure.plots.begin(), figure.plots.end(), [](const Plot& plot) {
    return std::any_of(plot.series.begin(), plot.series.end(),
                       [](const Series& s) { return s.kind == Series::Kind::tiles; });
  });
}

}  // namespace

std::string inline_svg(const std::string& svg, const Figure& figure) {
  std::string out = short_svg(svg, figure.id);
  const std::string head = fmt::format(
      " role=\"img\" aria-labelledby=\"{0}-title {0}-desc\" class=\"plot{3}\">\n<title id=\"{0}-title\">{1}</title>\n<desc "
      "id=\"{0}-desc\">{2}</desc>",
      figure.id, html_escape(visible(figure.title, 200)), html_escape(visible(figure.alternative, 2000)),
      has_tiles(figure) ? " map" : "");
  const std::size_t open = out.find('>');
  if (open != std::string::npos) out.replace(open, 1, head);
  return out;
}

std::string standalone_svg(const std::string& inlined) {
  std::string out = inlined;
  const std::size_t open = out.find('>'), body = out.find("</desc>");
  if (open == std::string::npos || body == std::string::npos) return out;
  out.insert(body + 7, "\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
  out.insert(open, " color=\"#1a1a1a\" font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\"");
  return "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n" + out;
}

std::string with_resolution(std::string png, double dots_per_inch) {
  // PNG: 8 bytes, then chunks of length (big-endian), type, data and CRC; the first, IHDR, has 13 bytes of data.
  constexpr std::size_t kAfterHeader = 8 + 4 + 4 + 13 + 4;
  if (png.size() < kAfterHeader || png.compare(12, 4, "IHDR") != 0) return png;
  const auto number = [](std::uint32_t x) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(x >> shift & 0xFF);
    return bytes;
  };
  const std::string per_metre = number(static_cast<std::uint32_t>(std::lround(dots_per_inch / kCmPerInch * 100)));
  const std::string chunk = "pHYs" + per_metre + per_metre + '\x01';
  const auto crc =
      static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(chunk.data()), static_cast<uInt>(chunk.size())));
  return png.insert(kAfterHeader, number(9) + chunk + number(crc));
}

std::string undated_pdf(std::string pdf) {
  for (const std::string_view key : {"/CreationDate (D:", "/ModDate (D:"}) {
    const std::string_view fixed_date = "20000101000000";
    for (std::size_t at = 0; (at = pdf.find(key, at)) != std::string::npos; at += key.size()) {
      if (at + key.size() + fixed_date.size() <= pdf.size()) pdf.replace(at + key.size(), fixed_date.size(), fixed_date);
    }
  }
  return pdf;
}

}  // namespace equisweep
