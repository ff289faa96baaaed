#pragma once
// gnuplot's SVG, rewritten tag by tag until it fits into a page: the same picture in a third of the bytes.

#include <string>
#include <string_view>

namespace equisweep {

/// A path of M, L and Z with absolute coordinates, written with relative ones and one decimal: "M1.23,4 L2.23,4" becomes
/// "M1.2,4h1". Each corner is off by at most 0.05, however long the path; a move that draws nothing is left out, so is a
/// step of length zero. Anything else comes back as it is.
std::string short_path(std::string_view path);

/// The elements of `svg` from <svg on: ids begin with `prefix` in place of gnuplot's "gp", black is currentColor, colours
/// are #rrggbb, polygons are paths, paths are short; without empty groups, titles and descriptions, and without attributes
/// that say what holds anyhow. Text is left alone.
std::string short_svg(std::string_view svg, std::string_view prefix);

}  // namespace equisweep
