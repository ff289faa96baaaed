#pragma once
// tune: which point of a stack's grid is confirmed, and when the grid grows.
//
// A trial is a point of the grid of one stack on one model: lr_scale and a value of each of the stack's own axes, whatever
// they are. It runs on every tune seed. The rule is the same for every stack, the baseline's too:
//   loss of a trial  the mean over the tune seeds of the final validation loss, +infinity where one diverged
//   winner           the trial with the lowest loss, once all of them are results; ties go to the lower learning rate
//   growth           where the winner has the smallest or largest value of a rate (lr_scale, and every axis that is an `lr`)
//                    among the trials that differ from it in that rate alone, a trial is added beyond it, by the ratio of
//                    the last two values on that side; `tune.extend` times at most
// All of it is a pure function of the sweep file and of results.

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace equisweep {

struct Trial {
  double lr_scale = 1;
  nlohmann::json axes = nlohmann::json::object();          ///< values of the stack's own axes by path
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< as above; NaN while a seed is no result
  std::size_t results = 0;                                 ///< seeds that are
  std::size_t diverged = 0;                                ///< of them
};

/// Whether the axis at `path` ("embedding.lr") is a learning rate.
bool is_rate(std::string_view path);

/// The winner; nothing while a loss is NaN, and where none is finite.
std::optional<std::size_t> best_trial(std::span<const Trial> trials);

/// The trials by which the grid grows around `best`, one for each rate whose edge it is on; without results.
std::vector<Trial> trials_beyond(std::span<const Trial> trials, std::size_t best);

/// The tuning of one stack on one model.
struct Tuning {
  std::string model, stack;
  bool baseline = false;
  std::vector<Trial> trials;          ///< of the grid in the order of the plan, then those by which it grew
  std::size_t grid = 0;               ///< how many of them the sweep file names
  std::int64_t rounds = 0;            ///< how often the grid grew
  bool done = false;                  ///< every trial has its loss, and the grid grows no more
  std::optional<std::size_t> winner;  ///< where it is done and any trial has a finite loss
  bool at_edge = false;               ///< the winner still lies on an edge of its grid
};

/// What a reader must know before he compares the stacks: a baseline for which the sweep file names fewer trials than for
/// another stack on the same model, or which has fewer because grids grew; winners on an edge, stacks of which every trial
/// diverged. One sentence each.
std::vector<std::string> tuning_notes(std::span<const Tuning> tunings);

}  // namespace equisweep
