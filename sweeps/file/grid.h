#pragma once
// `grid`, `zip`, `exclude` and `include` of a sweep file: which points the sweep has.

#include "sweeps/file/reader.h"
#include "sweeps/file/spec.h"

namespace equisweep {

/// Reads the four keys of `root`. `stacks` are those of the file: a stack that is named must be among them, and a path like
/// "embedding.lr" must be an axis of one. Names of models are checked against the table of architectures;
/// `model` is the one of init_from, which stands where the file names none ("" if it could not be read).
Grid read_grid(const Node& root, const std::vector<StackSpec>& stacks, const std::optional<std::string>& model,
               Problems& problems);

/// Every value of each axis that any point of the grid has, in the order of first appearance: the lists, `zip`, `include`.
struct AxisValues {
  std::vector<std::string> models, stacks;
  std::vector<double> lr_scales;
  std::vector<std::int64_t> seeds;
};
AxisValues axis_values(const Grid& grid);

/// "model=qwen3-nano,stack=muon,seed=0" of --only, against the points of `spec`; an axis of a stack is named by its path, as
/// in "embedding.lr=0.1". Throws UsageError on unknown keys or names.
Selection read_selection(std::string_view text, const SweepSpec& spec);

/// Whether a point is among the selected ones; `axes` are the values of the stack's own axes.
bool matches(const Selection& selection, std::string_view model, std::string_view stack, double lr_scale, std::int64_t seed,
             const nlohmann::json& axes);

}  // namespace equisweep
