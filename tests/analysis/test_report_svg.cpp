// SVG by gnuplot, shortened: the same corners to a twentieth of a unit, nothing of its names, the text as it was.
#include "analysis/report/svg.h"

#include <gmock/gmock.h>

#include <charconv>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace equisweep {
namespace test_report_svg {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ShortPath, IsRelativeWithOneDecimal) {
  EXPECT_EQ(short_path("M74.42,237.79 L456.29,237.79  "), "M74.4 237.8h381.9");
  EXPECT_EQ(short_path("M1.00,2.00 L1.00,1.50 L1.00,3.00 L2.50,2.00"), "M1 2v-.5 1.5l1.5-1");
  EXPECT_EQ(short_path("M0,0 L1,1 L2,3 L1,2"), "M0 0l1 1 1 2-1-1");
  EXPECT_EQ(short_path("M0,0 L1,1 M5,5 L6,6 M9,9 "), "M0 0l1 1m4 4l1 1") << "the last move draws nothing";
  EXPECT_EQ(short_path("M0,0 L4,0 L4,3 Z M1,1 L2,2"), "M0 0h4v3zm1 1l1 1") << "Z goes back to the start";
  EXPECT_EQ(short_path("M0,0 L0.01,0.01 L1,0"), "M0 0h1") << "a step of length zero";
  EXPECT_EQ(short_path("M-1,0 h2 M0,-1 v2"), "M-1,0 h2 M0,-1 v2") << "not what gnuplot writes for lines";
  EXPECT_EQ(short_path(""), "");
}

/// Corners of a path as short_path() writes it: an own reader, command by command.
std::vector<std::pair<double, double>> corners_of(const std::string& path) {
  std::vector<std::pair<double, double>> corners;
  double x = 0, y = 0;
  char command = ' ';
  const char *at = path.data(), *end = path.data() + path.size();
  const auto number = [&] {
    while (at != end && *at == ' ') ++at;
    double value = 0;
    const auto result = std::from_chars(at, end, value);
    EXPECT_EQ(result.ec, std::errc()) << std::string(at, end).substr(0, 20);
    at = result.ptr;
    return value;
  };
  while (at != end) {
    if (std::isalpha(static_cast<unsigned char>(*at))) command = *at++;
    const double a = number();
    if (command == 'M') x = a, y = number();
    if (command == 'm' || command == 'l') x += a, y += number();
    if (command == 'h') x += a;
    if (command == 'v') y += a;
    corners.emplace_back(x, y);
  }
  return corners;
}

TEST(ShortPath, NoCornerMovesByMoreThanATwentiethHoweverLongThePath) {
  std::minstd_rand random(3);
  std::string path;
  std::vector<std::pair<double, double>> corners;
  for (int i = 0; i < 3000; ++i) {
    // Steps of at least one unit in both directions, so that no corner falls onto the one before it.
    const double x = 0.01 * static_cast<double>(random() % 70000), y = 300 + (i % 2 == 0 ? 1 : -1) * (1 + 0.01 * (i % 7919));
    corners.emplace_back(x, y);
    path += (i == 0 ? "M" : "L") + std::to_string(x) + "," + std::to_string(y) + " ";
  }
  const auto found = corners_of(short_path(path));
  ASSERT_EQ(found.size(), corners.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].first, corners[i].first, 0.051) << i;
    EXPECT_NEAR(found[i].second, corners[i].second, 0.051) << i;
  }
}

constexpr const char* kDrawn = R"svg(<?xml version="1.0" encoding="utf-8"  standalone="no"?>
<svg 
 viewBox="0 0 520 330"
 xmlns="http://www.w3.org/2000/svg"
 xmlns:xlink="http://www.w3.org/1999/xlink"
>

<title>Gnuplot</title>
<desc>Produced by GNUPLOT</desc>
<g id="gnuplot_canvas">
<defs>
	<path id='gpPt7' stroke-width='0.205' stroke='currentColor' d='M0,-1.33 L-1.33,0.67 L1.33,0.67 z'/>
	<use xlink:href='#gpPt7' id='gpPt8' fill='currentColor' stroke='none'/>
	<filter id='textbox'><feFlood/></filter>
</defs>
<g fill="none" color="white" stroke="rgb(  0, 114, 178)" stroke-width="1.20" stroke-linecap="butt" stroke-linejoin="miter">
</g>
<g fill="none" color="black" stroke="black" stroke-width="0.96" stroke-linecap="butt" stroke-linejoin="miter">
	<path stroke='rgb(  0,   0,   0)' opacity='0.31' d='M74.42,237.79 L456.29,237.79  '/>	<g transform="translate(60.45,242.02)" stroke="none" fill="black" font-family="sans-serif" text-anchor="end">
		<text> fill="black" &lt;/svg&gt; rgb(0,0,0) '#gp' </text>
	</g>
</g>
	<g id="gnuplot_plot_1" ><title>$d0 using 1:2</title>
<g fill="none" stroke="black">
	<polygon fill = 'rgb( 86, 180, 233)' points = '107.93,132.36 120.67,132.36 120.67,126.64 107.93,126.64 '/>
	<use xlink:href='#gpPt7' transform='translate(1.5,2.5) scale(3.41)' color='rgb(  0, 114, 178)'/>
</g>
	</g>
</g>
</svg>
)svg";

TEST(ShortSvg, KeepsThePictureAndTheTextAndNothingElse) {
  EXPECT_EQ(short_svg(kDrawn, "fig"), R"svg(<svg viewBox="0 0 520 330" xmlns="http://www.w3.org/2000/svg">
<defs>
<path id="fig-Pt7" stroke-width="0.205" stroke="currentColor" d="M0,-1.33 L-1.33,0.67 L1.33,0.67 z"/>
<use href="#fig-Pt7" id="fig-Pt8" fill="currentColor" stroke="none"/></defs>
<g fill="none" stroke="currentColor" stroke-width="0.96">
<path stroke="currentColor" opacity="0.31" d="M74.4 237.8h381.9"/>
<g transform="translate(60.45,242.02)" stroke="none" fill="currentColor" text-anchor="end"><text> fill="black" &lt;/svg&gt; rgb(0,0,0) '#gp' </text></g></g>
<g fill="none" stroke="currentColor">
<path fill="#56b4e9" d="M107.9 132.4h12.8v-5.8h-12.8z"/>
<use href="#fig-Pt7" transform="translate(1.5,2.5) scale(3.41)" color="#0072b2"/></g></svg>
)svg");
}

TEST(ShortSvg, AGroupThatHoldsEmptyGroupsIsEmpty) {
  EXPECT_EQ(short_svg("<svg><g a='1'>\n<g b='2'>\n</g><g></g></g><g c='3'><path d=''/></g></svg>", "f"), "<svg></svg>\n");
}

TEST(ShortSvg, WhatIsNoSvgStaysOrIsNothing) {
  EXPECT_EQ(short_svg("no picture", "f"), "\n");
  for (const char* cut : {"<svg a=", "<svg a='1", "<svg", "<svg><title>never ends", "<svg><!-- never ends"})
    EXPECT_THAT(short_svg(cut, "f"), Not(HasSubstr("gp"))) << cut;
}

}  // namespace test_report_svg
}  // namespace equisweep
