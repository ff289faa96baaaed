#pragma once
// What is known of a sweep at this moment, for the commands that only look: status, watch, ls, compare, explain.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/run_state.h"

namespace equisweep {

/// One point of the sweep with what became of its job. Where the job is running, what is new in its run.db counts too.
struct RunOverview {
  std::string job, model, stack, phase, axes;  ///< axes: JSON, values of the stack's own axes by path
  bool baseline = false, retired = false;
  double lr_scale = 1;
  std::int64_t seed = 0;
  RunState state = RunState::queued;
  std::string message;
  std::int64_t attempt = 0, parameters = 0;
  std::int64_t step = 0, steps = 0;       ///< updates made, and to be made in all
  std::int64_t tokens = 0;                ///< trained on so far
  double seconds = 0;                     ///< of training so far
  std::optional<double> train_loss = {};  ///< of the newest step; nothing if there is none or it is NaN
  std::optional<double> val_loss = {};    ///< of the newest evaluation, likewise
  double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

struct SweepOverview {
  std::string name;
  std::filesystem::path folder;
  std::optional<std::string> supervisor;  ///< number of the process that runs the sweep now
  std::vector<RunOverview> runs;          ///< in the order of the plan; several may share a job

  /// How many different jobs that are still in the sweep file are in each state.
  std::map<RunState, std::size_t> counts() const;
  /// Seconds until all jobs are results, at the pace of those that run now; nothing where none runs or the pace is unknown.
  std::optional<double> seconds_left() const;
};

/// Reads results/<sweep>/sweep.db and the run.db of each running job. Throws DatabaseError.
SweepOverview read_overview(const std::filesystem::path& folder);

/// A column of `equisweep ls`: what it is called and its value, a number or a text. A number that there is not is NaN.
struct OverviewColumn {
  std::string_view name, doc;
  std::variant<double, std::string> (*value)(const RunOverview& run);
};
std::span<const OverviewColumn> overview_columns();

/// Keeps the runs for which all of `filters` hold, "COLUMN=VALUE", "!=", "<", ">", "<=" or ">=". Text is compared as it is,
/// and only = and != compare text; nothing is smaller or larger than a number that there is not. Throws UsageError on an
/// unknown column and on what is no comparison.
void filter_runs(std::vector<RunOverview>& runs, std::span<const std::string> filters);

/// Sorts by a column, "loss", or "-loss" for the largest first; numbers that there are not come last. Equal ones keep their
/// order. Throws UsageError on an unknown column.
void sort_runs(std::vector<RunOverview>& runs, std::string_view column);

}  // namespace equisweep
