#pragma once
// Of what a stack was tuned over: the learning rates around its best trial, and whether it got more trials than another or
// its grid grew by the rule that holds for all.
//
// A rate is lr_scale, or an axis `ENTRY.lr` of the stack. On the line of a rate through the best trial lie the trials that
// share everything else with it.
//
// In a sweep that tunes, `tune: {extend: N}` adds a trial beyond the edge of a grid where the best one lies, N times at most
// (docs/sweep-file.md). The report has no sweep file that it could trust to be the one that made these runs, so it plays the
// rule backwards on what was run: a round may be taken back where, of the trials that were there before it, the best lay
// next to what the round added, at the edge, and the step is that of the last two values on that side.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/report/data.h"

namespace equisweep {

/// The line of a rate through the chosen trial of a stack, of at least two trials.
struct RateLine {
  std::string rate;                                                            ///< "lr_scale", "embedding.lr"
  std::vector<double> values = {};                                             ///< ascending
  std::vector<const LrPoint*> points = {};                                     ///< at each of them
  std::size_t chosen = 0;                                                      ///< which of them is the chosen one
  bool at_edge() const { return chosen == 0 || chosen + 1 == values.size(); }  ///< a better one may lie beyond
};

/// A line for each rate that was varied around the chosen trial; partial points are none.
std::vector<RateLine> rate_lines(const Arm& arm);

/// Whether the chosen trial is at the edge of one of its lines.
bool at_edge(const Arm& arm);

/// N of `tune: {extend: N}` in the text of a sweep file, or of "tune.extend=N" as `--set` has it; the smallest where several
/// stand in it, 0 where none does.
std::int64_t extend_in(std::string_view text);

/// What the sweeps of the report say, by their recorded file and settings: the smallest of theirs. 0 where nothing is tuned.
std::int64_t rounds_of_growth(const ReportData& data);

/// Whether both stacks can have begun with as many trials at the same lr_scales, grown from there by the rule in at most
/// `rounds` rounds each, and stopped where the rule stops: the best trial inside its grid, or no round left. Of stacks with
/// more trials, or more rates, than anybody tunes the answer is no.
bool grew_alike(const Arm& a, const Arm& b, std::int64_t rounds);

}  // namespace equisweep
