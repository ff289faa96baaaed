#pragma once
// Figures by gnuplot: the script, the run, and SVG that fits into a page.

#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "analysis/report/content.h"

namespace equisweep {

/// The gnuplot commands that draw `figure` into <folder>/<id>.svg, .pdf and, where this gnuplot has a terminal for it,
/// .png. Numbers stand in the script; names are single-quoted strings in which nothing is interpreted.
std::string gnuplot_script(const Figure& figure, std::optional<std::size_t> baseline, const std::string& folder);

/// Runs gnuplot on a script file in `folder`, without a shell. Throws Error if it is not installed (naming the package) or
/// fails (with the first line that it printed).
void run_gnuplot(const std::filesystem::path& script, const std::filesystem::path& folder);

/// gnuplot's SVG made fit to stand in a page: black becomes currentColor, ids get the figure's own prefix, gnuplot's titles
/// give way to the figure's.
std::string inline_svg(const std::string& svg, const Figure& figure);

/// The same as a file of its own, on white.
std::string standalone_svg(const std::string& inlined);

inline constexpr double kCmPerInch = 2.54;
inline constexpr double kPngResolution = 300;  ///< dots per inch

/// A PNG file that says how many dots it has per inch, so that programs show it at the size it was drawn for.
std::string with_resolution(std::string png, double dots_per_inch);

/// A PDF file with its date of creation overwritten by a fixed one of the same length, so that equal figures are equal
/// files.
std::string undated_pdf(std::string pdf);

}  // namespace equisweep
