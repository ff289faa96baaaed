#pragma once
// Several sweeps as one: which names mean the same, what may not be compared, which run fills a cell that two sweeps have.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "analysis/report/data.h"

namespace equisweep {

/// A cell as its sweep has it.
struct LoadedCell {
  std::string model, stack;
  bool baseline = false;
  double lr_scale = 1;
  std::int64_t seed = 0;
  std::string axes, phase;
  std::size_t run = 0;  ///< index into LoadedSweep::runs
};

struct LoadedSweep {
  std::string name;
  std::vector<std::unique_ptr<RunRecord>> runs = {};
  std::vector<LoadedCell> cells = {};
};

struct Joined {
  std::vector<std::string> models = {}, stacks = {};
  std::optional<std::size_t> baseline = {};
  std::vector<std::unique_ptr<RunRecord>> runs = {};
  std::vector<CellRecord> cells = {};
  std::vector<std::string> mixed = {}, notes = {};  ///< see ReportData::mixed and ReportData::joined
};

/// Joins by model and stack, and within them by lr_scale, own axes, seed and phase.
///
/// Two sweeps compare where their configs agree in all but model, stack, seed and log (and a few keys that no loss depends
/// on). Where they do not, this throws Error (report_refused) that names every difference, or with `mix` goes on: then a
/// stack that both have is two stacks, "muon [a]" and "muon [b]". A stack whose options differ between sweeps is two stacks
/// as well, so is one that was tuned in both and confirmed at different points, and a model with other dimensions is two
/// models. A cell that several sweeps have counts once: the first run that has a result.
///
/// The baseline is `baseline`, a name as it comes out of this; if empty, the stack that is marked. Throws Error
/// (report_refused) where the sweeps mark different ones, UsageError for a name that no stack has.
Joined join_sweeps(std::vector<LoadedSweep> sweeps, bool mix, const std::string& baseline);

}  // namespace equisweep
