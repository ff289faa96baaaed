#pragma once
// What a report is made of: one sweep, or several that are compared.

#include <filesystem>
#include <string>
#include <vector>

namespace equisweep {

/// Several sweeps are joined by model and stack, in the order given. Names that mean different things in them stand in the
/// report once a sweep: "muon [first]", "muon [second]".
struct ReportSource {
  std::vector<std::filesystem::path> databases = {};  ///< sweep.db files, at least one
  bool mix = false;                                   ///< compare sweeps although their data, steps or precision differ
  std::string baseline = {};  ///< a stack as the report names it; empty: the one that is marked in the sweep files

  ReportSource() = default;
  ReportSource(std::filesystem::path sweep_db) : databases{std::move(sweep_db)} {}  // NOLINT: one sweep is what most are
};

}  // namespace equisweep
